//! Judges whether a text that was decoded with a guessed encoding reads like text.
//!
//! The detector always names an encoding, also for bytes that are text in none. A wrong encoding shows in three ways:
//! characters that no text has, capitals after small letters, and runs of accented letters where a language with Latin
//! letters has only single ones.

use encoding_rs::Encoding;

/// Encodings of languages that are written with Latin letters.
const LATIN: &[&str] = &[
    "windows-1252",
    "windows-1250",
    "windows-1254",
    "windows-1257",
    "windows-1258",
    "ISO-8859-2",
    "ISO-8859-3",
    "ISO-8859-4",
    "ISO-8859-10",
    "ISO-8859-13",
    "ISO-8859-14",
    "ISO-8859-15",
    "ISO-8859-16",
    "macintosh",
];
/// Number of accented letters in a row that no language with Latin letters has.
const RUN: usize = 4;

/// Returns whether a text reads like text, if it was decoded from `encoding`.
pub(super) fn plausible(text: &str, encoding: &'static Encoding) -> bool {
    let counts = Counts::of(text);
    if counts.impossible > 0 {
        return false;
    }
    // Small numbers prove nothing: one word in capitals may be all that there is.
    let many = |part: usize, whole: usize, percent: usize| part > 2 && part * 100 > whole * percent;
    if many(counts.capitals_after_small, counts.letter_pairs, 20) || many(counts.symbols, counts.special, 50) {
        return false;
    }
    let latin = is_latin(encoding);
    let crowded = counts.special * 10 > counts.chars * 3;
    !(latin
        && (crowded || many(counts.in_runs, counts.special, 10) || many(counts.symbols_in_words, counts.special, 30)))
}

/// Returns whether an encoding is for languages that are written with Latin letters.
pub(super) fn is_latin(encoding: &'static Encoding) -> bool {
    LATIN.contains(&encoding.name())
}

/// Returns whether all symbols of a text are usual in prose.
pub(super) fn is_plain(text: &str) -> bool {
    Counts::of(text).symbols == 0
}

pub(super) fn letters_outside_ascii(text: &str) -> usize {
    text.chars().filter(|c| !c.is_ascii() && c.is_alphabetic()).count()
}

/// Counts properties of a text.
#[derive(Debug, Default)]
struct Counts {
    chars: usize,
    /// Characters outside ASCII.
    special: usize,
    /// Control characters, private characters and replacement characters.
    impossible: usize,
    /// Symbols outside ASCII that are rare in prose.
    symbols: usize,
    /// Such symbols between two letters.
    symbols_in_words: usize,
    /// Letters outside ASCII in runs of at least [`RUN`].
    in_runs: usize,
    /// Pairs of adjacent letters outside ASCII that have a case.
    letter_pairs: usize,
    capitals_after_small: usize,
}

impl Counts {
    fn of(text: &str) -> Self {
        let mut counts = Self::default();
        let (mut before, mut run) = (' ', 0);
        let mut chars = text.chars().peekable();
        while let Some(c) = chars.next() {
            counts.chars += 1;
            let letter = !c.is_ascii() && c.is_alphabetic();
            run = if letter { run + 1 } else { 0 };
            if run == RUN {
                counts.in_runs += RUN;
            } else if run > RUN {
                counts.in_runs += 1;
            }
            if letter && !before.is_ascii() && has_case(c) && has_case(before) {
                counts.letter_pairs += 1;
                counts.capitals_after_small += usize::from(before.is_lowercase() && c.is_uppercase());
            }
            if c.is_ascii() {
                let usual = !c.is_control() || matches!(c, '\t' | '\n' | '\r' | '\u{c}' | '\u{1b}' | '\u{1a}');
                counts.impossible += usize::from(!usual);
            } else {
                counts.special += 1;
                counts.impossible += usize::from(is_impossible(c));
                if !c.is_alphanumeric() && !is_usual(c) {
                    counts.symbols += 1;
                    let next = chars.peek().is_some_and(|n| n.is_alphabetic());
                    counts.symbols_in_words += usize::from(before.is_alphabetic() && next);
                }
            }
            before = c;
        }
        counts
    }
}

fn has_case(c: char) -> bool {
    c.is_lowercase() || c.is_uppercase()
}

fn is_impossible(c: char) -> bool {
    c.is_control() || matches!(c, '\u{e000}'..='\u{f8ff}' | '\u{fff0}'..='\u{ffff}' | '\u{f0000}'..)
}

/// Returns whether a symbol is usual in prose. Marks that follow a letter, as in Thai and Hindi, count as usual.
fn is_usual(c: char) -> bool {
    matches!(c,
        '\u{a0}' | '¡' | '£' | '§' | '©' | '«' | '\u{ad}' | '®' | '°' | '±' | '´' | '¶' | '·' | '»' | '¿' | '×' | '№'
        | '\u{300}'..='\u{36f}' | '\u{5b0}'..='\u{5c7}' | '\u{60c}' | '\u{61b}' | '\u{61f}' | '\u{64b}'..='\u{65f}'
        | '\u{e31}'..='\u{e4e}' | '\u{2010}'..='\u{203a}' | '€' | '™' | '\u{3000}'..='\u{303f}' | '\u{30fb}'
        | '\u{fe30}'..='\u{fe4f}' | '\u{ff00}'..='\u{ffef}')
}
