//! Provides the tools that all finders share: matches, patterns, checks of neighbouring characters, and resolution of
//! overlaps.

use std::ops::Range;
use std::sync::OnceLock;

use regex::Regex;

use docweir_core::model::Mention;

/// Describes a match by kind, byte range in the searched text, and score.
#[derive(Clone, Debug, PartialEq)]
pub struct Match {
    pub kind: &'static str,
    pub range: Range<usize>,
    pub score: f32,
}

impl Match {
    pub fn new(kind: &'static str, range: Range<usize>, score: f32) -> Self {
        Self { kind, range, score }
    }
}

/// Compiles a regular expression when it is first used. Matching takes time linear in the length of the text, whatever
/// the text contains. A pattern that does not compile matches nothing and reports no error. Tests therefore compile
/// every pattern of each list.
pub struct Pattern {
    source: &'static str,
    compiled: OnceLock<Option<Regex>>,
}

impl Pattern {
    pub const fn new(source: &'static str) -> Self {
        Self { source, compiled: OnceLock::new() }
    }

    fn regex(&self) -> Option<&Regex> {
        self.compiled.get_or_init(|| Regex::new(self.source).ok()).as_ref()
    }

    pub fn find_all<'t>(&'t self, text: &'t str) -> impl Iterator<Item = Range<usize>> + 't {
        self.regex().into_iter().flat_map(move |r| r.find_iter(text)).map(|m| m.range())
    }

    /// Returns the range of the first capture group of every match.
    pub fn find_groups<'t>(&'t self, text: &'t str) -> impl Iterator<Item = Range<usize>> + 't {
        self.regex().into_iter().flat_map(move |r| r.captures_iter(text)).filter_map(|c| Some(c.get(1)?.range()))
    }

    pub fn find(&self, text: &str) -> Option<Range<usize>> {
        self.regex()?.find(text).map(|m| m.range())
    }

    pub fn is_match(&self, text: &str) -> bool {
        self.regex().is_some_and(|r| r.is_match(text))
    }

    #[cfg(test)]
    pub fn is_valid(&self) -> bool {
        self.regex().is_some()
    }
}

pub fn before(text: &str, at: usize) -> Option<char> {
    text.get(..at)?.chars().next_back()
}

pub fn after(text: &str, at: usize) -> Option<char> {
    text.get(at..)?.chars().next()
}

/// Returns whether the range is a whole word or number, and not part of a longer one such as `1,234`, `3.14` or
/// `12-34`. No letter, digit or underscore may touch the range, and no joining mark may connect it to a digit.
pub fn stands_alone(text: &str, range: &Range<usize>) -> bool {
    let word = |c: char| c.is_alphanumeric() || c == '_';
    let joined = |c: Option<char>, beyond: Option<char>| match c {
        None => false,
        Some(c) if word(c) => true,
        Some('.' | ',' | '-' | '/' | ':') => beyond.is_some_and(|b| b.is_ascii_digit()),
        Some(_) => false,
    };
    let (left, right) = (before(text, range.start), after(text, range.end));
    let left_of = left.and_then(|c| before(text, range.start - c.len_utf8()));
    let right_of = right.and_then(|c| after(text, range.end + c.len_utf8()));
    !joined(left, left_of) && !joined(right, right_of)
}

/// Returns at most `bytes` bytes of the text directly before `at`. Callers search this text for a label, which tells
/// the kind of the data at `at`.
pub fn label(text: &str, at: usize, bytes: usize) -> &str {
    let mut from = at.saturating_sub(bytes);
    while !text.is_char_boundary(from) {
        from += 1;
    }
    text.get(from..at).unwrap_or_default()
}

/// Sorts matches and makes them disjoint. If two matches overlap, the one with the higher score is kept; if their
/// scores are equal, the longer one.
pub fn best_disjoint(mut all: Vec<Match>) -> Vec<Match> {
    all.sort_by(|a, b| a.range.start.cmp(&b.range.start).then(b.range.end.cmp(&a.range.end)));
    let mut out: Vec<Match> = Vec::with_capacity(all.len());
    for next in all {
        match out.last_mut() {
            Some(last) if next.range.start < last.range.end => {
                let rank = |m: &Match| (m.score, m.range.len());
                if rank(&next) > rank(last) {
                    *last = next;
                }
            }
            _ => out.push(next),
        }
    }
    out
}

/// Sorts matches and merges overlapping ones. In contrast to [`best_disjoint`], the result covers every matched byte.
pub fn joined(mut all: Vec<Match>) -> Vec<Match> {
    all.sort_by(|a, b| a.range.start.cmp(&b.range.start).then(b.range.end.cmp(&a.range.end)));
    let mut out: Vec<Match> = Vec::with_capacity(all.len());
    for next in all {
        match out.last_mut() {
            Some(last) if next.range.start < last.range.end => {
                last.range.end = last.range.end.max(next.range.end);
                if next.score > last.score {
                    (last.kind, last.score) = (next.kind, next.score);
                }
            }
            _ => out.push(next),
        }
    }
    out
}

/// Converts byte offsets into code point offsets. Converting offsets in increasing order is fastest.
pub struct CodePoints<'a> {
    text: &'a str,
    byte: usize,
    count: usize,
}

impl<'a> CodePoints<'a> {
    pub fn of(text: &'a str) -> Self {
        Self { text, byte: 0, count: 0 }
    }

    pub fn at(&mut self, byte: usize) -> u32 {
        if byte < self.byte {
            (self.byte, self.count) = (0, 0);
        }
        self.count += self.text.get(self.byte..byte).map_or(0, |s| s.chars().count());
        self.byte = byte;
        u32::try_from(self.count).unwrap_or(u32::MAX)
    }
}

/// Converts sorted matches in one text into findings. If `copied` is true, the findings contain the matched text.
pub fn found(text: &str, matches: &[Match], copied: bool) -> Vec<Mention> {
    let mut points = CodePoints::of(text);
    let one = |m: &Match| Mention {
        kind: m.kind.to_owned(),
        text: if copied { text.get(m.range.clone()).unwrap_or_default().to_owned() } else { String::new() },
        start: points.at(m.range.start),
        end: points.at(m.range.end),
        score: m.score,
    };
    matches.iter().map(one).collect()
}

/// Returns whether `range` touches one of `masks`, which must be sorted and disjoint.
pub fn touches(masks: &[Range<usize>], range: &Range<usize>) -> bool {
    let first = masks.partition_point(|m| m.end <= range.start);
    masks.get(first).is_some_and(|m| m.start < range.end)
}
