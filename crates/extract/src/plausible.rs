//! Judges whether a text that was decoded with a guessed encoding reads like text.
//!
//! The detector always names an encoding, also for bytes that are text in none. A wrong encoding shows in four ways:
//! characters that no text has, capitals after small letters, symbols inside words, and runs of accented letters where a
//! language with Latin letters has only single ones.

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

/// Maximum number of characters outside ASCII whose share of the text proves nothing.
const SHORT: usize = 8;

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
    let crowded = counts.special > SHORT && counts.special * 10 > counts.chars * 3;
    !(latin
        && (crowded || many(counts.in_runs, counts.special, 10) || many(counts.strange_in_words, counts.special, 30)))
}

/// Returns whether an encoding is for languages that are written with Latin letters.
pub(super) fn is_latin(encoding: &'static Encoding) -> bool {
    LATIN.contains(&encoding.name())
}

/// Returns whether all characters of a text outside ASCII are letters, punctuation, or symbols that touch no letter.
pub(super) fn is_plain(text: &str) -> bool {
    let mut before = ' ';
    let mut chars = text.chars().peekable();
    while let Some(c) = chars.next() {
        let touches = before.is_alphabetic() || chars.peek().is_some_and(|after| after.is_alphabetic());
        let letter = c.is_alphabetic() && !is_modifier(c);
        let symbol = (is_usual(c) || c.is_numeric()) && !touches;
        if !(c.is_ascii() || letter || is_punctuation(c) || symbol) {
            return false;
        }
        before = c;
    }
    Counts::of(text).strange_in_words == 0
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
    /// Symbols between two letters, and capitals outside ASCII between two small letters.
    strange_in_words: usize,
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
                counts.symbols += usize::from(!c.is_alphanumeric() && !is_usual(c));
                let after = chars.peek().copied().unwrap_or(' ');
                let symbol = (!c.is_alphabetic() && !is_joint(c)) || is_modifier(c);
                let capital = c.is_uppercase() && before.is_lowercase() && after.is_lowercase();
                let in_word = before.is_alphabetic() && after.is_alphabetic();
                counts.strange_in_words += usize::from(in_word && (symbol || capital));
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

/// Returns whether a character is an accent that stands alone, such as `ˆ`, which Unicode counts as a letter.
fn is_modifier(c: char) -> bool {
    matches!(c, '\u{2b0}'..='\u{2ff}')
}

/// Returns whether a character may join two letters to one word or two words without a blank.
fn is_joint(c: char) -> bool {
    matches!(c, '\u{a0}' | '\u{ad}' | '·' | '\u{300}'..='\u{36f}' | '\u{2010}'..='\u{2019}' | '…' | '\u{202f}')
}

fn is_punctuation(c: char) -> bool {
    matches!(c, '\u{a0}' | '\u{ad}' | '©' | '«' | '®' | '°' | '»' | '\u{2010}'..='\u{203a}' | '€' | '™')
}

/// Returns whether a symbol is usual in prose. Marks that follow a letter, as in Thai and Hindi, count as usual.
fn is_usual(c: char) -> bool {
    matches!(c,
        '\u{a0}' | '¡' | '£' | '§' | '©' | '«' | '\u{ad}' | '®' | '°' | '±' | '´' | '¶' | '·' | '»' | '¿' | '×' | '№'
        | '\u{300}'..='\u{36f}' | '\u{5b0}'..='\u{5c7}' | '\u{60c}' | '\u{61b}' | '\u{61f}' | '\u{64b}'..='\u{65f}'
        | '\u{e31}'..='\u{e4e}' | '\u{2010}'..='\u{203a}' | '€' | '™' | '\u{3000}'..='\u{303f}' | '\u{30fb}'
        | '\u{fe30}'..='\u{fe4f}' | '\u{ff00}'..='\u{ffef}')
}

#[cfg(test)]
mod tests {
    use encoding_rs::{WINDOWS_1251, WINDOWS_1252};

    use super::*;

    #[test]
    fn texts_in_a_wrong_encoding_do_not_read_like_text() {
        for text in ["L’été à la plage, dès 7 h – 12 °C…", "¿Qué? «Sí», mañana", "Übergrößenträger ÄÖÜ", "5 m² à ½ £"]
        {
            assert!(plausible(text, WINDOWS_1252), "{text}");
        }
        for text in
            ["F„hre f„hrt t„glich, fr Sch\u{81}ler", "FŠhre fŠhrt tŠglich fŸr SchŸler", "Áàðîìåòð çàìåí¸í", "a\u{e000}"]
        {
            assert!(!plausible(text, WINDOWS_1252), "{text}");
        }
        assert!(plausible("Барометр заменён. НОВЫЙ", WINDOWS_1251));
        assert!(!plausible("аПЕК лОРМ сОЬ вЕФР", WINDOWS_1251), "letters in the wrong case");
        assert!(
            is_plain("naïve “quotes”")
                && is_plain("12 °C, 5 µg, £ 3, 2½")
                && !is_plain("tak¿e")
                && !is_plain("odp³ywa")
        );
    }
}
