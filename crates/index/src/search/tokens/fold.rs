//! Converts a word to the form in which it is indexed: lower case, compatibility forms replaced by the usual
//! characters, diacritics and invisible characters removed.

use docweir_core::invisible::is_invisible;
use unicode_normalization::UnicodeNormalization;
use unicode_normalization::char::is_combining_mark;

/// Appends the indexed form of `word` to `out`. `ascii` says that the word has only ASCII characters.
pub(super) fn fold(word: &str, ascii: bool, out: &mut String) {
    if ascii {
        let start = out.len();
        out.push_str(word);
        if let Some(added) = out.get_mut(start..) {
            added.make_ascii_lowercase();
        }
        return;
    }
    let mut chars = word
        .chars()
        .filter(|c| !is_invisible(*c))
        .flat_map(char::to_lowercase)
        .nfkd()
        // й is a letter, not an accented и: Russian endings differ by it.
        .scan(' ', |before, c| {
            let kept = !is_diacritic(c) || (*before == 'и' && c == BREVE);
            *before = c;
            Some(kept.then_some(c))
        })
        .flatten()
        .nfc();
    for c in &mut chars {
        match c {
            'ß' => out.push_str("ss"),
            'æ' => out.push_str("ae"),
            'œ' => out.push_str("oe"),
            'þ' => out.push_str("th"),
            'ø' => out.push('o'),
            'ł' => out.push('l'),
            'đ' | 'ð' => out.push('d'),
            'ı' => out.push('i'),
            'ς' => out.push('σ'),
            // Compatibility forms may contain other characters, such as the fraction slash of ½.
            c if c == '.' || c.is_alphanumeric() || is_combining_mark(c) => out.extend(c.to_lowercase()),
            _ => {}
        }
    }
}

const BREVE: char = '\u{306}';

/// Returns whether a mark is ignored in searches: Latin, Greek and Cyrillic accents, Hebrew points, Arabic vowel
/// signs. Vowel signs of Indic scripts are separate letters and are kept.
fn is_diacritic(c: char) -> bool {
    matches!(c, '\u{300}'..='\u{36f}' | '\u{591}'..='\u{5c7}' | '\u{610}'..='\u{61a}' | '\u{64b}'..='\u{65f}'
        | '\u{670}' | '\u{640}' | '\u{1ab0}'..='\u{1aff}' | '\u{1dc0}'..='\u{1dff}')
}
