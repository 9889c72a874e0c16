//! Splits a text into parts within Comprehend's limits, and maps positions in a part back to the text.
//!
//! Comprehend's limits are in bytes and its positions are in code points; all positions here are in bytes. The parts
//! cover the text without a gap, so a position in the text is the position in the part plus the start of the part.

use std::ops::Range;

use unicode_segmentation::{GraphemeCursor, GraphemeIncomplete};

use crate::chunk::sentences::sentences;

/// Splits the text into parts of at most `most` bytes. Together, the parts are the whole text. Each cut is before a
/// sentence, else before a word, else between grapheme clusters, else between code points.
pub fn split(text: &str, most: usize) -> Vec<Range<usize>> {
    if text.is_empty() {
        return Vec::new();
    }
    if text.len() <= most {
        return std::iter::once(0..text.len()).collect();
    }
    let begins: Vec<usize> = sentences(text).into_iter().map(|s| s.range.start).collect();
    let (mut parts, mut from) = (Vec::new(), 0);
    while text.len() - from > most {
        let limit = from + most;
        let sentence = begins.get(..begins.partition_point(|at| *at <= limit)).and_then(|b| b.last()).copied();
        let cut = sentence.filter(|at| *at > from).unwrap_or_else(|| before_word(text, from, limit));
        parts.push(from..cut);
        from = cut;
    }
    parts.push(from..text.len());
    parts
}

/// Returns the last position up to `limit` at which a word begins, or else the last boundary between characters. The
/// position is always after `from`.
fn before_word(text: &str, from: usize, limit: usize) -> usize {
    let limit = floor(text, limit);
    let stretch = text.get(from..limit).unwrap_or_default();
    // Cut after the last white space, unless only white space precedes it.
    let space = stretch.rfind(char::is_whitespace).and_then(|at| {
        let width = stretch[at..].chars().next().map_or(1, char::len_utf8);
        (!stretch[..at].trim().is_empty()).then_some(from + at + width)
    });
    space.unwrap_or_else(|| between_characters(text, from, limit))
}

fn between_characters(text: &str, from: usize, limit: usize) -> usize {
    let mut cursor = GraphemeCursor::new(limit, text.len(), true);
    let boundary = match cursor.is_boundary(text, 0) {
        Ok(true) => Some(limit),
        Ok(false) | Err(GraphemeIncomplete::PreContext(_)) => cursor.prev_boundary(text, 0).ok().flatten(),
        Err(_) => None,
    };
    let boundary = boundary.filter(|at| *at > from && *at <= limit);
    // A single grapheme cluster exceeds the limit: cut between its code points, after at least one.
    boundary.unwrap_or_else(|| match limit > from {
        true => limit,
        false => from + text.get(from..).and_then(|t| t.chars().next()).map_or(1, char::len_utf8),
    })
}

fn floor(text: &str, mut at: usize) -> usize {
    at = at.min(text.len());
    while !text.is_char_boundary(at) {
        at -= 1;
    }
    at
}

/// Maps code point offsets of a text to byte offsets.
pub struct Places {
    /// Byte offset of each code point and of the end of the text. Empty if the text is ASCII.
    begins: Vec<u32>,
    bytes: usize,
}

impl Places {
    pub fn of(text: &str) -> Self {
        if text.is_ascii() {
            return Self { begins: Vec::new(), bytes: text.len() };
        }
        let mut begins: Vec<u32> = text.char_indices().filter_map(|(at, _)| u32::try_from(at).ok()).collect();
        begins.extend(u32::try_from(text.len()));
        Self { begins, bytes: text.len() }
    }

    /// Returns the byte range of a range of code points, or `None` if the range is empty or outside the text.
    pub fn bytes(&self, start: usize, end: usize) -> Option<Range<usize>> {
        let at = |point: usize| match self.begins.is_empty() {
            true => (point <= self.bytes).then_some(point),
            false => self.begins.get(point).map(|at| *at as usize),
        };
        let range = at(start)?..at(end)?;
        (range.start < range.end).then_some(range)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn parts(text: &str, most: usize) -> Vec<&str> {
        split(text, most).into_iter().map(|r| &text[r]).collect()
    }

    #[test]
    fn sentences_then_words_then_characters() {
        let table: &[(&str, usize, &[&str])] = &[
            ("", 10, &[]),
            ("short", 10, &["short"]),
            ("One is here. Two is here. Three.", 28, &["One is here. Two is here. ", "Three."]),
            ("no end of sentence in here", 12, &["no end of ", "sentence in ", "here"]),
            ("unbreakableword", 6, &["unbrea", "kablew", "ord"]),
            ("これは文です。次の文です。", 24, &["これは文です。", "次の文です。"]),
            // A cut is never between a letter and its mark, or within a joined emoji.
            ("aaaae\u{301}bbb", 6, &["aaaa", "e\u{301}bbb"]),
            ("ab👨‍👩‍👧cd", 20, &["ab👨‍👩‍👧", "cd"]),
            // A cluster larger than the limit is cut between code points.
            ("👨‍👩‍👧", 8, &["👨\u{200d}", "👩\u{200d}", "👧"]),
            ("\u{5d0}\u{5d1} \u{5d2}\u{5d3} \u{5d4}", 6, &["\u{5d0}\u{5d1} ", "\u{5d2}\u{5d3} ", "\u{5d4}"]),
        ];
        for (text, most, expected) in table {
            assert_eq!(parts(text, *most), *expected, "{text:?} by {most}");
        }
    }

    #[test]
    fn places_of_any_script() {
        let text = "a👍e\u{301}漢שx";
        let places = Places::of(text);
        let of = |start, end| places.bytes(start, end).map(|r| &text[r]);
        assert_eq!((of(0, 1), of(1, 2), of(2, 4), of(4, 6)), (Some("a"), Some("👍"), Some("e\u{301}"), Some("漢ש")));
        assert_eq!((of(6, 7), of(0, 7)), (Some("x"), Some(text)));
        assert_eq!((of(7, 8), of(3, 3), of(5, 4)), (None, None, None));
        let ascii = Places::of("abc");
        assert_eq!((ascii.bytes(1, 3), ascii.bytes(1, 4)), (Some(1..3), None));
    }

    proptest! {
        #[test]
        fn parts_are_the_text_within_the_limit(
            pieces in prop::collection::vec(prop_oneof![
                4 => "[a-zA-Z ,.]{0,60}",
                1 => any::<String>(),
                1 => Just("漢字。かな。".to_owned()),
                1 => Just("👨‍👩‍👧 e\u{301}\u{302} ".to_owned()),
                1 => Just("שלום עולם. مرحبا بالعالم! ".to_owned()),
                1 => Just("\n\n".to_owned()),
            ], 0..12),
            most in 4usize..120,
        ) {
            let text = pieces.concat();
            let ranges = split(&text, most);
            prop_assert_eq!(ranges.iter().map(|r| &text[r.clone()]).collect::<String>(), &text[..]);
            prop_assert!(ranges.iter().all(|r| r.len() <= most && !r.is_empty()));
            // A span that is found in a part maps to the same characters of the text.
            for range in &ranges {
                let part = &text[range.clone()];
                let places = Places::of(part);
                let chars: Vec<char> = part.chars().collect();
                for start in 0..chars.len() {
                    let end = (start + 1 + start % 5).min(chars.len());
                    let found = places.bytes(start, end).unwrap();
                    let wanted: String = chars[start..end].iter().collect();
                    prop_assert_eq!(&text[range.start + found.start..range.start + found.end], wanted);
                }
            }
        }
    }
}
