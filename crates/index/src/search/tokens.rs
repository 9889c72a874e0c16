//! Splits text into the terms of the full-text index.
//!
//! A term is a run of letters and digits in lower case without diacritics (`Café` becomes `cafe`). A number is one
//! term, with its points but without its commas (`3.14` stays, `1,000` becomes `1000`). Scripts without spaces
//! (Chinese, Japanese, Thai, Lao, Khmer, Burmese) and Korean are split into overlapping pairs of characters. The
//! single characters of these scripts are indexed too, so that a query of one character finds something. Single
//! characters do not count towards the length of a text.

use std::ops::Range;

use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

use crate::options::Stemming;

/// Maximum length of a term in bytes. Longer runs are encoded data, not words, and are cut to limit the size of the
/// index.
const MAX_TERM_BYTES: usize = 64;

/// Describes a term: its text, the range of its bytes in the source text, and whether the term counts towards the
/// length of the source text.
pub struct Token<'t> {
    pub term: &'t str,
    pub bytes: Range<usize>,
    pub counts: bool,
}

/// Calls `f` with each term of `text`, in order.
pub fn each_token(text: &str, stemming: Stemming, mut f: impl FnMut(Token<'_>)) {
    let mut term = String::with_capacity(MAX_TERM_BYTES);
    let mut at = 0;
    while let Some(c) = char_at(text, at) {
        if is_dense(c) {
            at = pairs(text, at, &mut term, &mut f);
        } else if is_word(c) {
            let (end, ascii) = word_end(text, at);
            normalise(text.get(at..end).unwrap_or_default(), ascii, stemming, &mut term);
            if !term.is_empty() {
                f(Token { term: &term, bytes: at..end, counts: true });
            }
            at = end;
        } else {
            at += c.len_utf8();
        }
    }
}

/// Returns the terms of a query in the order in which they first appear, with the number of occurrences of each term.
/// In scripts without spaces, the terms of a query are pairs of characters. A single character is a term only if it
/// has no neighbour.
pub fn query_terms(text: &str, stemming: Stemming) -> Vec<(String, u32)> {
    let mut terms: Vec<(String, u32)> = Vec::new();
    each_token(text, stemming, |token| {
        if !token.counts {
            return;
        }
        match terms.iter_mut().find(|(term, _)| term == token.term) {
            Some((_, count)) => *count += 1,
            None => terms.push((token.term.to_owned(), 1)),
        }
    });
    terms
}

/// Returns the positions in `text` at which the terms occur, for highlighting. The positions are half-open ranges of
/// code points. Adjacent ranges are joined.
pub fn matches(text: &str, terms: &[(String, u32)], stemming: Stemming) -> Vec<(u32, u32)> {
    let mut found: Vec<Range<usize>> = Vec::new();
    if terms.is_empty() {
        return Vec::new();
    }
    each_token(text, stemming, |token| {
        if terms.iter().any(|(term, _)| term == token.term) {
            match found.last_mut() {
                Some(last) if token.bytes.start <= last.end => last.end = last.end.max(token.bytes.end),
                _ => found.push(token.bytes),
            }
        }
    });
    let (mut byte, mut point) = (0, 0);
    let mut points = |to: usize| {
        point += text.get(byte..to).unwrap_or_default().chars().count();
        byte = to;
        u32::try_from(point).unwrap_or(u32::MAX)
    };
    found.into_iter().map(|r| (points(r.start), points(r.end))).collect()
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
            Some(b'.' | b',') if at > start && digit(at - 1) && digit(at + 1) => at += 1,
            Some(b) if *b < 128 => return (at, ascii),
            Some(_) => match char_at(text, at) {
                // A soft hyphen marks a possible line break inside a word, not its end.
                Some(c) if !is_dense(c) && (c.is_alphanumeric() || is_combining_mark(c) || c == '\u{ad}') => {
                    at += c.len_utf8();
                    ascii = false;
                }
                _ => return (at, ascii),
            },
            None => return (at, ascii),
        }
    }
}

fn normalise(word: &str, ascii: bool, stemming: Stemming, term: &mut String) {
    term.clear();
    if ascii {
        term.extend(
            word.bytes().take(MAX_TERM_BYTES).filter(|b| *b != b',').map(|b| char::from(b.to_ascii_lowercase())),
        );
    } else {
        for c in word.chars().flat_map(char::to_lowercase).nfkd().filter(|c| !is_diacritic(*c)).nfc() {
            match c {
                'ß' => term.push_str("ss"),
                'æ' => term.push_str("ae"),
                'œ' => term.push_str("oe"),
                'þ' => term.push_str("th"),
                'ø' => term.push('o'),
                'ł' => term.push('l'),
                'đ' | 'ð' => term.push('d'),
                'ı' => term.push('i'),
                'ς' => term.push('σ'),
                '\u{ad}' | ',' => {}
                c => term.extend(c.to_lowercase()),
            }
            if term.len() >= MAX_TERM_BYTES {
                break;
            }
        }
    }
    if stemming == Stemming::English {
        stem(term);
    }
}

/// Returns whether a mark is ignored in searches: Latin, Greek and Cyrillic accents, Hebrew points, Arabic vowel
/// signs. Vowel signs of Indic scripts are separate letters and are kept.
fn is_diacritic(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}' | '\u{591}'..='\u{5c7}' | '\u{610}'..='\u{61a}' | '\u{64b}'..='\u{65f}'
        | '\u{670}' | '\u{640}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}')
}

/// Converts plurals to singulars (Harman's "S" stemmer). This stemmer changes few words and is hardly ever wrong.
fn stem(term: &mut String) {
    if term.len() <= 3 || !term.bytes().all(|b| b.is_ascii_lowercase()) {
        return;
    }
    let ends = |suffixes: &[&str]| suffixes.iter().any(|s| term.ends_with(s));
    if ends(&["ies"]) && !ends(&["eies", "aies"]) {
        term.truncate(term.len() - 3);
        term.push('y');
    } else if ends(&["s"]) && !ends(&["us", "ss", "aes", "ees", "oes"]) {
        term.truncate(term.len() - 1);
    }
}

/// Returns whether a character is indexed in pairs. This applies to scripts without spaces between words, and to
/// Korean, because Korean attaches endings to words.
fn is_dense(c: char) -> bool {
    let block = matches!(u32::from(c),
        0x0e00..=0x0eff | 0x1000..=0x109f | 0x1100..=0x11ff | 0x1780..=0x17ff | 0x3005..=0x3007 | 0x3040..=0x318f
        | 0x31f0..=0x31ff | 0x3400..=0x4dbf | 0x4e00..=0x9fff | 0xa960..=0xa97f | 0xac00..=0xd7ff
        | 0xf900..=0xfaff | 0xff66..=0xff9f | 0x20000..=0x3ffff);
    block && (c.is_alphanumeric() || is_combining_mark(c))
}

/// Calls `f` with the pairs and the single characters of a run of dense characters (`is_dense`). The run begins at
/// `start`. Returns the end of the run.
fn pairs(text: &str, start: usize, term: &mut String, f: &mut impl FnMut(Token<'_>)) -> usize {
    let mut at = start;
    let mut before: Option<(usize, char)> = None;
    let mut alone = true;
    while let Some(c) = char_at(text, at).filter(|c| is_dense(*c)) {
        let end = at + c.len_utf8();
        if let Some((from, first)) = before {
            alone = false;
            spell(&[first, c], term);
            f(Token { term, bytes: from..end, counts: true });
        }
        let last = char_at(text, end).is_none_or(|next| !is_dense(next));
        spell(&[c], term);
        f(Token { term, bytes: at..end, counts: alone && last });
        before = Some((at, c));
        at = end;
    }
    at
}

/// Writes `chars` to `term`. Converts half-width and compatibility forms of characters to the usual forms.
fn spell(chars: &[char], term: &mut String) {
    term.clear();
    term.extend(chars.iter().copied().nfkc());
}

#[cfg(test)]
mod tests {
    use super::*;

    fn terms(text: &str) -> Vec<String> {
        let mut all = Vec::new();
        each_token(text, Stemming::None, |t| all.push(format!("{}{}", t.term, if t.counts { "" } else { "°" })));
        all
    }

    #[test]
    fn words_of_many_scripts() {
        for (text, expected) in [
            ("The Lease, fenced!", vec!["the", "lease", "fenced"]),
            ("don't snake_case x.y", vec!["don", "t", "snake", "case", "x", "y"]),
            ("1,000 or 3.14, v2.0.1.", vec!["1000", "or", "3.14", "v2.0.1"]),
            ("Café CAFE\u{301} Straße Ærø Łódź", vec!["cafe", "cafe", "strasse", "aero", "lodz"]),
            ("İstanbul ısı", vec!["istanbul", "isi"]),
            ("ΣΊΣΥΦΟΣ", vec!["σισυφοσ"]),
            ("Ёлка й", vec!["елка", "и"]),
            ("co\u{ad}operate", vec!["cooperate"]),
            ("ﬁnance ＡＢＣ", vec!["finance", "abc"]),
            ("हिन्दी", vec!["हिन्दी"]),
            ("مُحَمَّد", vec!["محمد"]),
            ("日本語", vec!["日°", "日本", "本°", "本語", "語°"]),
            ("水 x", vec!["水", "x"]),
            ("第3章", vec!["第", "3", "章"]),
            ("한국어", vec!["한°", "한국", "국°", "국어", "어°"]),
            ("ﾊﾝ", vec!["ハ°", "ハン", "ン°"]),
            ("", vec![]),
            ("—…!", vec![]),
        ] {
            assert_eq!(terms(text), expected, "{text}");
        }
    }

    #[test]
    fn an_endless_word_is_cut() {
        assert_eq!(terms(&"a".repeat(10_000)), ["a".repeat(MAX_TERM_BYTES)]);
        assert!(terms(&"é".repeat(10_000))[0].len() <= MAX_TERM_BYTES);
    }

    #[test]
    fn english_plurals_fall_together_when_asked_for() {
        for (word, expected) in [
            ("leases", "lease"),
            ("policies", "policy"),
            ("boxes", "boxe"),
            ("status", "status"),
            ("class", "class"),
            ("gas", "gas"),
            ("shoes", "shoes"),
            ("café", "cafe"),
            ("2020s", "2020s"),
        ] {
            assert_eq!(query_terms(word, Stemming::English), [(expected.to_owned(), 1)]);
        }
    }

    #[test]
    fn query_terms_are_counted_and_pairs_stand_for_dense_runs() {
        let terms = query_terms("fence the FENCE 日本語 水", Stemming::None);
        let expected = [("fence", 2), ("the", 1), ("日本", 1), ("本語", 1), ("水", 1)];
        assert_eq!(terms, expected.map(|(t, n)| (t.to_owned(), n)));
    }

    #[test]
    fn matches_count_code_points_and_join() {
        let terms = query_terms("café 日本語 x", Stemming::None);
        let text = "«Cafe\u{301}» — 日本語, x x";
        let marked: Vec<String> = matches(text, &terms, Stemming::None)
            .into_iter()
            .map(|(a, b)| text.chars().skip(a as usize).take((b - a) as usize).collect())
            .collect();
        assert_eq!(marked, ["Cafe\u{301}", "日本語", "x", "x"]);
    }

    proptest::proptest! {
        #[test]
        fn any_text_can_be_tokenised(text in ".{0,200}") {
            let mut last = 0;
            each_token(&text, Stemming::English, |t| {
                assert!(text.get(t.bytes.clone()).is_some() && !t.bytes.is_empty());
                assert!(t.bytes.end > last || !t.counts || t.bytes.start < last);
                last = t.bytes.end;
            });
            let terms = query_terms(&text, Stemming::None);
            let points = text.chars().count() as u32;
            let found = matches(&text, &terms, Stemming::None);
            assert!(found.iter().all(|(a, b)| a < b && *b <= points));
            assert!(found.windows(2).all(|w| w[0].1 <= w[1].0));
            assert_eq!(found.is_empty(), terms.is_empty());
        }
    }
}
