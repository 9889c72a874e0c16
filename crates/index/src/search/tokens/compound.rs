//! Finds identifiers: words that signs connect without a space, such as `ERR-4032-b`, `snake_case`, `10.1038/s41586`,
//! e-mail addresses, URLs and paths, and words with a sign before or after them, such as `.NET` and `C++`.
//!
//! An identifier is indexed as a whole and by its parts. The parts that a slash, a colon, `@` or a similar sign
//! separates are indexed as a whole too, so that a file is found by its name. A word that a hyphen breaks at the end of
//! a line is indexed with and without the hyphen.

use std::ops::Range;

use docweir_core::invisible::is_invisible;

use super::dense::is_dense;
use super::fold::fold;
use super::{Kind, MAX_TERM_BYTES, Token, char_at, is_word, word_end};

/// Maximum number of parts of an identifier. What follows is another identifier.
const MAX_PARTS: usize = 32;
/// Maximum length of an identifier in bytes. Longer runs are encoded data.
const MAX_BYTES: usize = 512;
/// Number of bytes that remain of the term of a long identifier. A checksum of the whole follows.
const KEPT_BYTES: usize = 48;

/// Describes what connects a part of an identifier to the part before it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Joint {
    /// Nothing: the first part.
    First,
    /// Hyphen, underscore or point.
    Weak,
    /// Slash, colon, `@` or another sign that separates names.
    Strong,
    /// Hyphen at the end of a line.
    Break,
}

struct Part {
    joint: Joint,
    bytes: Range<usize>,
    ascii: bool,
}

/// Holds the parts of the current identifier, so that memory is reused.
#[derive(Default)]
pub(super) struct Compound {
    parts: Vec<Part>,
    /// Range with the signs before and after the parts.
    bytes: Range<usize>,
}

/// Returns whether a byte may begin a sign that connects words.
#[inline]
pub(super) fn may_connect(byte: u8) -> bool {
    // The last one begins the other hyphens and dashes.
    matches!(byte, b'-' | b'_' | b'.' | 0xe2) || is_strong(byte)
}

fn is_strong(byte: u8) -> bool {
    matches!(byte, b'/' | b':' | b'@' | b'\\' | b'#' | b'?' | b'&' | b'=' | b'+' | b'%' | b'~')
}

impl Compound {
    /// Reads the identifier whose first word is `first`. Returns whether there is more than this word.
    pub(super) fn read(&mut self, text: &str, first: Range<usize>, ascii: bool) -> bool {
        self.parts.clear();
        self.bytes = start_with_sign(text, first.start)..first.end;
        let mut end = first.end;
        self.parts.push(Part { joint: Joint::First, bytes: first, ascii });
        while self.parts.len() < MAX_PARTS
            && end - self.bytes.start < MAX_BYTES
            && let Some((joint, start)) = connection(text, end)
        {
            let (word_end, ascii) = word_end(text, start);
            self.parts.push(Part { joint, bytes: start..word_end, ascii });
            end = word_end;
        }
        self.bytes.end = end + signs_after(text, end);
        self.parts.len() > 1 || self.bytes.len() > self.parts.iter().map(|part| part.bytes.len()).sum()
    }

    /// Returns the end of the identifier.
    pub(super) fn end(&self) -> usize {
        self.bytes.end
    }

    /// Calls `f` with the terms of the identifier.
    pub(super) fn emit(&self, text: &str, term: &mut String, f: &mut impl FnMut(Token<'_>)) {
        let all = 0..self.parts.len();
        self.whole(text, all.clone(), self.bytes.clone(), term, f);
        let mut from = 0;
        for to in 1..=self.parts.len() {
            if self.parts.get(to).is_some_and(|part| part.joint != Joint::Strong) {
                continue;
            }
            let component = from..to;
            let (first, last) = (self.parts.get(from), self.parts.get(to - 1));
            if let Some((first, last)) = first.zip(last).filter(|_| component.len() > 1 && component != all) {
                self.whole(text, component.clone(), first.bytes.start..last.bytes.end, term, f);
            }
            for at in component {
                self.joined(text, at, term, f);
                if let Some(part) = self.parts.get(at) {
                    super::word(text, part.bytes.clone(), part.ascii, term, f);
                }
            }
            from = to;
        }
    }

    /// Calls `f` with several parts as one term. `bytes` are the bytes of the parts, with signs before and after them.
    fn whole(
        &self,
        text: &str,
        parts: Range<usize>,
        bytes: Range<usize>,
        term: &mut String,
        f: &mut impl FnMut(Token<'_>),
    ) {
        let Some(list) = self.parts.get(parts.clone()) else { return };
        term.clear();
        let mut at = bytes.start;
        for part in list {
            sign(text, at..part.bytes.start, part.joint, term);
            fold(text.get(part.bytes.clone()).unwrap_or_default(), part.ascii, term);
            at = part.bytes.end;
        }
        sign(text, at..bytes.end, Joint::Strong, term);
        shorten(term);
        let kind = match is_identifier(term) {
            true => Kind::Whole { parts: u8::try_from(list.len()).unwrap_or(u8::MAX) },
            false => Kind::Part,
        };
        f(Token { term, bytes, kind });
    }

    /// Calls `f` with the word that begins with part `first` and continues after the end of the line.
    fn joined(&self, text: &str, first: usize, term: &mut String, f: &mut impl FnMut(Token<'_>)) {
        let breaks = self.parts.iter().skip(first + 1).take_while(|part| part.joint == Joint::Break).count();
        let Some(parts) = self.parts.get(first..=first + breaks) else { return };
        let [one, .., last] = parts else { return };
        if one.joint == Joint::Break {
            return;
        }
        term.clear();
        parts.iter().for_each(|part| fold(text.get(part.bytes.clone()).unwrap_or_default(), part.ascii, term));
        shorten(term);
        f(Token { term, bytes: one.bytes.start..last.bytes.end, kind: Kind::Part });
    }
}

/// Appends the signs between two parts in their usual form: every hyphen and dash as `-`, without line ends.
fn sign(text: &str, bytes: Range<usize>, joint: Joint, term: &mut String) {
    if joint == Joint::Break {
        return term.push('-');
    }
    for c in text.get(bytes).unwrap_or_default().chars() {
        match c {
            c if is_hyphen(c) => term.push('-'),
            c if c.is_ascii() => term.push(c),
            _ => {}
        }
    }
}

/// Returns whether connected words are a name rather than prose such as `well-known`, `and/or` and `e.g`.
fn is_identifier(term: &str) -> bool {
    term.starts_with('.')
        || term.contains(|c: char| c.is_ascii_digit() || "_#+@$:=\\".contains(c))
        || term.matches('/').count() > 1
}

/// Cuts a long term. A checksum replaces the end, so that different identifiers stay different.
fn shorten(term: &mut String) {
    if term.len() > MAX_TERM_BYTES {
        let sum = crc32fast::hash(term.as_bytes());
        term.truncate(term.floor_char_boundary(KEPT_BYTES));
        term.push_str(&format!("#{sum:08x}"));
    }
}

fn is_hyphen(c: char) -> bool {
    matches!(c, '-' | '\u{2010}'..='\u{2013}' | '\u{2212}')
}

/// Returns the start of a word with the sign before it, as in `.NET`, `#1234`, `@name` and `$HOME`. A sign counts only
/// at the beginning: after a space, a bracket or a quotation mark.
fn start_with_sign(text: &str, start: usize) -> usize {
    let bytes = text.as_bytes();
    let at = |distance: usize| start.checked_sub(distance).and_then(|at| bytes.get(at));
    match (at(1), at(2)) {
        (Some(b'.' | b'#' | b'@' | b'$'), before) => {
            let begins = before.is_none_or(|b| b.is_ascii_whitespace() || b"([{<\"'`,;|>".contains(b));
            if begins { start - 1 } else { start }
        }
        _ => start,
    }
}

/// Returns the number of bytes of the signs after a word, as in `C++` and `C#`.
fn signs_after(text: &str, end: usize) -> usize {
    let signs = match text.as_bytes().get(end..) {
        Some([b'+', b'+', ..]) => 2,
        Some([b'#' | b'+', ..]) => 1,
        _ => return 0,
    };
    match char_at(text, end + signs) {
        Some(c) if (is_word(c) && !is_dense(c)) || matches!(c, '+' | '#') => 0,
        _ => signs,
    }
}

/// Returns the next part of an identifier: what connects it to the word that ends at `end`, and where it starts.
fn connection(text: &str, end: usize) -> Option<(Joint, usize)> {
    let mut at = end;
    let mut joint = Joint::Weak;
    let mut before = ' ';
    while let Some(c) = char_at(text, at).filter(|_| at < end + 6) {
        let strong = u8::try_from(c).is_ok_and(is_strong);
        match c {
            _ if strong => joint = Joint::Strong,
            // `--` and `..` separate words.
            '.' if before == '.' => return None,
            c if is_hyphen(c) && is_hyphen(before) => return None,
            '.' | '_' => {}
            c if is_hyphen(c) => {}
            c if is_invisible(c) && at > end => {}
            _ => break,
        }
        before = c;
        at += c.len_utf8();
    }
    let hyphen = is_hyphen(before) && at == end + before.len_utf8();
    // A word keeps a soft hyphen that follows it.
    if hyphen || (at == end && text.get(..end)?.ends_with('\u{ad}')) {
        let line = at + spaces(text, at, b" \t\r");
        if text.as_bytes().get(line) == Some(&b'\n') {
            (joint, at) = (Joint::Break, line + 1 + spaces(text, line + 1, b" \t"));
        }
    }
    if at == end {
        return None;
    }
    char_at(text, at).filter(|c| is_word(*c) && !is_dense(*c)).map(|_| (joint, at))
}

/// Counts the bytes from `at` that are among `spaces`.
fn spaces(text: &str, at: usize, spaces: &[u8]) -> usize {
    text.as_bytes().iter().skip(at).take_while(|b| spaces.contains(b)).count()
}
