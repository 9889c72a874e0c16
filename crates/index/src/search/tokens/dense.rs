//! Splits runs of scripts without spaces (Chinese, Japanese, Thai, Lao, Khmer, Burmese) and of Korean into pairs of
//! characters.

use std::ops::Range;

use docweir_core::invisible::is_invisible;
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use super::{Kind, Token, char_at};

/// Returns whether a character is indexed in pairs. This applies to scripts without spaces between words, and to
/// Korean, because Korean attaches endings to words.
pub(super) fn is_dense(c: char) -> bool {
    match u32::from(c) {
        // Radicals stand for the characters that they look like.
        0x2e80..=0x2fd5 => true,
        0x0e00..=0x0eff
        | 0x1000..=0x109f
        | 0x1100..=0x11ff
        | 0x1780..=0x17ff
        | 0x3005..=0x3007
        | 0x3040..=0x318f
        | 0x31f0..=0x31ff
        | 0x3400..=0x4dbf
        | 0x4e00..=0x9fff
        | 0xa960..=0xa97f
        | 0xac00..=0xd7ff
        | 0xf900..=0xfaff
        | 0xff66..=0xffdc
        | 0x20000..=0x3ffff => c.is_alphanumeric() || is_combining_mark(c),
        _ => false,
    }
}

/// Returns whether a character may combine with the character before it: a mark, a half-width sound mark, or a vowel or
/// final consonant of a decomposed Korean syllable.
fn joins(c: char) -> bool {
    match u32::from(c) {
        0x4e00..=0x9fff | 0xac00..=0xd7a3 => false,
        0x1160..=0x11ff | 0xd7b0..=0xd7ff | 0xff9e..=0xff9f => true,
        _ => is_combining_mark(c),
    }
}

/// Calls `f` with the pairs and the single characters of a run of dense characters. The run begins at `start`.
/// Returns the end of the run.
///
/// Characters are composed first, so that a text in decomposed form has the terms of the same text in composed form.
pub(super) fn pairs(text: &str, start: usize, term: &mut String, f: &mut impl FnMut(Token<'_>)) -> usize {
    let mut run = Run { term, before: None, f };
    let mut at = start;
    let mut cluster = at..at;
    while let Some(c) = char_at(text, at) {
        let next = at + c.len_utf8();
        if is_invisible(c) || (joins(c) && !cluster.is_empty()) {
            cluster.end = next;
        } else if is_dense(c) {
            run.cluster(text, cluster);
            cluster = at..next;
        } else {
            break;
        }
        at = next;
    }
    run.cluster(text, cluster);
    run.end();
    at
}

/// Holds the state of a run.
struct Run<'r, F> {
    term: &'r mut String,
    /// Last character, its bytes in the text, and whether it is the first of the run.
    before: Option<(char, Range<usize>, bool)>,
    f: &'r mut F,
}

impl<F: FnMut(Token<'_>)> Run<'_, F> {
    /// Adds the characters of a cluster: a character and the marks that combine with it.
    fn cluster(&mut self, text: &str, bytes: Range<usize>) {
        let Some(cluster) = text.get(bytes.clone()) else { return };
        for c in cluster.chars().filter(|c| !is_invisible(*c)).nfkc() {
            let alone = self.before.is_none();
            if let Some((first, range, _)) = self.before.take() {
                self.term.clear();
                self.term.push(first);
                // A single character is indexed too, so that a query of one character finds something.
                (self.f)(Token { term: self.term, bytes: range.clone(), kind: Kind::Fragment });
                self.term.push(c);
                (self.f)(Token { term: self.term, bytes: range.start..bytes.end, kind: Kind::Word });
            }
            self.before = Some((c, bytes.clone(), alone));
        }
    }

    fn end(&mut self) {
        if let Some((last, bytes, alone)) = self.before.take() {
            self.term.clear();
            self.term.push(last);
            let kind = if alone { Kind::Word } else { Kind::Fragment };
            (self.f)(Token { term: self.term, bytes, kind });
        }
    }
}
