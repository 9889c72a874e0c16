//! Converts text to normalised words in one pass, as BERT's uncased normaliser and pre-tokeniser do.
//!
//! The reference library makes four passes over the text: clean up, put spaces around ideographs, decompose and drop
//! marks, convert to lower case. Then it splits the text at white space and around punctuation. Only the sorting of
//! combining marks depends on neighbouring characters; every other step treats each character alone. One pass over runs
//! of characters therefore gives the same result.

use unicode_normalization::UnicodeNormalization;

use super::tables::{DROPPED, PUNCTUATION};

fn contains(table: &[(u32, u32)], c: char) -> bool {
    let c = u32::from(c);
    let after = table.partition_point(|&(first, _)| first <= c);
    after > 0 && c <= table[after - 1].1
}

/// Returns whether `c` is an ideograph, which forms a word of its own. The Unicode blocks are those in BERT's source,
/// including the gap at 2B820–2B91F.
fn is_ideograph(c: char) -> bool {
    matches!(u32::from(c),
        0x3400..=0x4dbf | 0x4e00..=0x9fff | 0xf900..=0xfaff | 0x20000..=0x2a6df | 0x2a700..=0x2b81f
        | 0x2b920..=0x2ceaf | 0x2f800..=0x2fa1f)
}

/// Calls `word` with each normalised word of the text.
pub(super) fn words(text: &str, mut word: impl FnMut(&str)) {
    let mut buffer = String::new();
    let mut rest = text;
    while !rest.is_empty() {
        let ascii = rest.bytes().position(|b| !b.is_ascii()).unwrap_or(rest.len());
        let (plain, other) = rest.split_at(ascii);
        // ASCII characters neither decompose nor take part in the reordering of marks. Cutting a word here therefore
        // changes nothing: `buffer` carries the word over the cut.
        ascii_words(plain, &mut buffer, &mut word);
        let end = other.bytes().position(|b| b.is_ascii()).unwrap_or(other.len());
        let (other, after) = other.split_at(end);
        other_words(other, &mut buffer, &mut word);
        rest = after;
    }
    flush(&mut buffer, &mut word);
}

fn flush(buffer: &mut String, word: &mut impl FnMut(&str)) {
    if !buffer.is_empty() {
        word(buffer);
        buffer.clear();
    }
}

fn ascii_words(text: &str, buffer: &mut String, word: &mut impl FnMut(&str)) {
    for b in text.bytes() {
        match b {
            b'a'..=b'z' | b'0'..=b'9' => buffer.push(char::from(b)),
            b'A'..=b'Z' => buffer.push(char::from(b.to_ascii_lowercase())),
            b' ' | b'\t' | b'\n' | b'\r' => flush(buffer, word),
            _ if b.is_ascii_punctuation() => {
                flush(buffer, word);
                word(char::from(b).encode_utf8(&mut [0; 4]));
            }
            // Other control characters are dropped without ending a word.
            _ => {}
        }
    }
}

/// Splits a run without ASCII characters into words. Decomposition may produce ASCII, so characters are classified
/// after decomposition.
fn other_words(text: &str, buffer: &mut String, word: &mut impl FnMut(&str)) {
    let mut rest = text;
    while let Some(first) = rest.chars().next() {
        if is_ideograph(first) {
            flush(buffer, word);
            let (ideograph, after) = rest.split_at(first.len_utf8());
            decomposed(ideograph, buffer, word);
            flush(buffer, word);
            rest = after;
        } else {
            let (run, after) = rest.split_at(rest.find(is_ideograph).unwrap_or(rest.len()));
            decomposed(run, buffer, word);
            rest = after;
        }
    }
}

fn decomposed(text: &str, buffer: &mut String, word: &mut impl FnMut(&str)) {
    for c in text.nfd() {
        if contains(&DROPPED, c) {
            continue;
        }
        if c.is_whitespace() {
            flush(buffer, word);
        } else if contains(&PUNCTUATION, c) {
            flush(buffer, word);
            word(c.encode_utf8(&mut [0; 4]));
        } else {
            buffer.extend(c.to_lowercase());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<String> {
        let mut all = Vec::new();
        words(text, |w| all.push(w.to_owned()));
        all
    }

    #[test]
    fn the_tables_are_sorted_and_disjoint() {
        for table in [&DROPPED[..], &PUNCTUATION[..]] {
            assert!(table.iter().all(|(first, last)| first <= last));
            assert!(table.windows(2).all(|pair| pair[0].1 < pair[1].0));
        }
    }

    #[test]
    fn words_of_every_kind() {
        for (text, expected) in [
            ("", &[][..]),
            (" \t\r\n", &[]),
            ("Hello, World", &["hello", ",", "world"]),
            ("naïve CAFÉ", &["naive", "cafe"]),
            ("cafe\u{301}s", &["cafes"]),
            ("İstanbul ß", &["istanbul", "ß"]),
            ("東京to", &["東", "京", "to"]),
            ("a\u{0}b\u{7}c\u{200d}d\u{ad}e", &["abcde"]),
            ("x\u{2003}y\u{3000}z", &["x", "y", "z"]),
            ("«quoted»—so…", &["«", "quoted", "»", "—", "so", "…"]),
            ("\u{1fef}\u{37e}", &["`", ";"]),
            ("≠", &["="]),
            ("€5£", &["€5£"]),
        ] {
            assert_eq!(split(text), expected, "{text:?}");
        }
    }
}
