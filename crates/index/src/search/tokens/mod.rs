//! Splits text into the terms of the full-text index.
//!
//! A term is a run of letters and digits in lower case without diacritics (`Café` becomes `cafe`). Words that signs
//! connect without a space are also a term together (`compound.rs`). Digits with commas between them are numbers or
//! lists (`numbers.rs`). Scripts without spaces and Korean are split into overlapping pairs of characters
//! (`dense.rs`). Characters without a visible form are ignored.
//!
//! A change of the terms of any text requires a new [`VERSION`].

mod compound;
mod dense;
mod fold;
mod numbers;

use std::ops::Range;

use docweir_core::invisible::is_invisible;
use unicode_normalization::char::is_combining_mark;

use self::compound::{Compound, may_connect};
use self::dense::is_dense;
use self::fold::fold;

/// Version of the terms. If a stored index has another version, it is built again.
pub const VERSION: u32 = 2;

/// Maximum length of a term in bytes. Longer runs are encoded data, not words, and are cut to limit the size of the
/// index.
const MAX_TERM_BYTES: usize = 64;

/// Describes how a term relates to the words of its text.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A word, a number or a pair of characters. Only these count towards the length of a text.
    Word,
    /// Words that belong together in prose (`well-known`), or a word within a name in camel case.
    Part,
    /// An identifier of this number of words.
    Whole { parts: u8 },
    /// A group of digits of a number, or one character of a script without spaces. It is indexed, so that a query of
    /// just these characters finds something, but it is not a term of longer queries.
    Fragment,
}

/// Describes a term: its text, the range of its bytes in the source text, and its kind.
pub struct Token<'t> {
    pub term: &'t str,
    pub bytes: Range<usize>,
    pub kind: Kind,
}

/// Calls `f` with each term of `text`, ordered by the start of the terms.
pub fn each_token(text: &str, mut f: impl FnMut(Token<'_>)) {
    let mut term = String::with_capacity(2 * MAX_TERM_BYTES);
    let mut compound = Compound::default();
    let mut at = 0;
    while let Some(c) = char_at(text, at) {
        at = match c {
            c if is_dense(c) => dense::pairs(text, at, &mut term, &mut f),
            c if is_word(c) => words(text, at, &mut compound, &mut term, &mut f),
            c => at + c.len_utf8(),
        };
    }
}

/// Calls `f` with the terms of the word at `start` and of the words that are connected with it. Returns their end.
fn words(text: &str, start: usize, compound: &mut Compound, term: &mut String, f: &mut impl FnMut(Token<'_>)) -> usize {
    let (end, ascii) = word_end(text, start);
    let bytes = text.as_bytes();
    let (before, after) = (start.checked_sub(1).and_then(|at| bytes.get(at)), bytes.get(end));
    // Most words stand alone.
    if ascii && matches!(before, None | Some(b' ' | b'\n')) && matches!(after, None | Some(b' ' | b'\n')) {
        word(text, start..end, ascii, term, f);
        return end;
    }
    if after == Some(&b',')
        && bytes.get(start).is_some_and(u8::is_ascii_digit)
        && let Some(end) = numbers::groups(text, start, term, f)
    {
        return end;
    }
    let connects = after.is_some_and(|b| may_connect(*b)) || before.is_some_and(|b| b".#@$".contains(b)) || !ascii;
    if connects && compound.read(text, start..end, ascii) {
        compound.emit(text, term, f);
        return compound.end();
    }
    word(text, start..end, ascii, term, f);
    end
}

/// Calls `f` with a word, and with its parts if it is written in camel case.
fn word(text: &str, bytes: Range<usize>, ascii: bool, term: &mut String, f: &mut impl FnMut(Token<'_>)) {
    let Some(word) = text.get(bytes.clone()) else { return };
    term.clear();
    if ascii {
        term.push_str(word.get(..MAX_TERM_BYTES).unwrap_or(word));
        term.make_ascii_lowercase();
    } else {
        fold(word.get(..word.floor_char_boundary(4 * MAX_TERM_BYTES)).unwrap_or_default(), ascii, term);
        term.truncate(term.floor_char_boundary(MAX_TERM_BYTES));
        if term.is_empty() {
            return;
        }
    }
    let has_capitals = ascii && term.get(1..) != word.get(1..) && word.len() <= MAX_TERM_BYTES;
    f(Token { term, bytes: bytes.clone(), kind: Kind::Word });
    if has_capitals {
        camel(word, bytes.start, term, f);
    }
}

/// Maximum number of words in a name in camel case. Encoded data has more.
const MAX_CAMEL_WORDS: usize = 6;

/// Calls `f` with the words of a name in camel case, such as `camelCase` and `HTTPResponse`.
fn camel(word: &str, start: usize, term: &mut String, f: &mut impl FnMut(Token<'_>)) {
    let bytes = word.as_bytes();
    let begins = |at: &usize| {
        let lower = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_lowercase);
        // The plural of an acronym, such as `PDFs`, is one word.
        let plural = bytes.get(at + 1..).is_some_and(|rest| rest == b"s");
        bytes.get(*at).is_some_and(u8::is_ascii_uppercase) && (lower(at - 1) || (lower(at + 1) && !plural))
    };
    let starts: Vec<usize> = (1..word.len()).filter(begins).collect();
    if starts.is_empty() || starts.len() >= MAX_CAMEL_WORDS {
        return;
    }
    let ends = starts.iter().copied().chain([word.len()]);
    for (from, to) in std::iter::once(0).chain(starts.iter().copied()).zip(ends).filter(|(from, to)| to - from > 1) {
        term.clear();
        fold(word.get(from..to).unwrap_or_default(), true, term);
        f(Token { term, bytes: start + from..start + to, kind: Kind::Part });
    }
}

/// Returns the character that starts at the byte index `at`. ASCII characters are not decoded.
fn char_at(text: &str, at: usize) -> Option<char> {
    match text.as_bytes().get(at) {
        Some(&b) if b < 128 => Some(char::from(b)),
        Some(_) => text.get(at..)?.chars().next(),
        None => None,
    }
}

fn is_word(c: char) -> bool {
    if c.is_ascii() { c.is_ascii_alphanumeric() } else { c.is_alphanumeric() }
}

/// Returns the end of the word that starts at `start`, and whether the word is plain ASCII.
fn word_end(text: &str, start: usize) -> (usize, bool) {
    let bytes = text.as_bytes();
    let digit = |i: usize| bytes.get(i).is_some_and(u8::is_ascii_digit);
    let (mut at, mut ascii) = (start, true);
    loop {
        match bytes.get(at) {
            Some(b) if b.is_ascii_alphanumeric() => at += 1,
            Some(b'.') if at > start && digit(at - 1) && digit(at + 1) => at += 1,
            Some(b) if *b < 128 => return (at, ascii),
            Some(_) => match char_at(text, at) {
                Some(c) if !is_dense(c) && (c.is_alphanumeric() || is_combining_mark(c) || is_invisible(c)) => {
                    at += c.len_utf8();
                    ascii = false;
                }
                _ => return (at, ascii),
            },
            None => return (at, ascii),
        }
    }
}

#[cfg(test)]
#[path = "../tokens_tests.rs"]
mod tests;
