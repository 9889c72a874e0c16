//! Reduces words to their stems, so that a query for `leases` also finds `lease`.
//!
//! The language of a row is known, and the rules of this language apply. The language of a short query is not known.
//! A query therefore has the stems of its words by the rules of every language in the collection. Beside the stem, the
//! index has every word in its exact form, and a row with the exact form is the better match.
//!
//! The exact version of the rules belongs to the format of the index: a new version of the crate requires a new
//! [`VERSION`](super::tokens::VERSION).

use frostem::Stemmer;

use crate::options::Stemming;

/// First character of the term of a stem. It keeps stems apart from words.
const MARK: char = '\u{1}';
/// Length of the words that have a stem, in bytes. Shorter words hardly change, and longer words are encoded data.
const STEMMED_BYTES: std::ops::RangeInclusive<usize> = 3..=40;

/// Returns the rules of a language; `None` if there are none. `language` is an ISO 639-3 code.
pub fn rules(language: &str, stemming: Stemming) -> Option<Stemmer> {
    let name = match language {
        _ if stemming == Stemming::None => return None,
        "nob" => "norwegian",
        "pes" => "persian",
        other => other,
    };
    Stemmer::try_from_name(name).ok()
}

/// Returns the stem of a word; `None` if it equals the word. Words with digits and signs have no stem.
pub fn stem(word: &str, rules: &Stemmer) -> Option<String> {
    if !STEMMED_BYTES.contains(&word.len()) || word.contains(|c: char| c.is_ascii() && !c.is_ascii_lowercase()) {
        return None;
    }
    let stem = rules.stem(word);
    (stem != word && !stem.is_empty()).then(|| stem.into_owned())
}

/// Returns the term under which rows are listed that have a word with this stem. A word that equals its stem is listed
/// only as a word.
pub fn term(stem: &str) -> String {
    format!("{MARK}{stem}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stems_by_language() {
        let table = [
            ("eng", "leases", Some("leas")),
            ("eng", "lease", Some("leas")),
            ("eng", "fish", None),
            ("eng", "be", None),
            ("eng", "err-4032", None),
            ("eng", "2020s", None),
            ("deu", "hauser", Some("haus")),
            ("fra", "maisons", Some("maison")),
            ("spa", "barcos", Some("barc")),
            ("rus", "кораблями", Some("корабл")),
            ("nob", "båtene", Some("båt")),
        ];
        for (language, word, expected) in table {
            let rules = rules(language, Stemming::Language).unwrap();
            assert_eq!(stem(word, &rules).as_deref(), expected, "{word}");
        }
        assert!(rules("jpn", Stemming::Language).is_none());
        assert!(rules("", Stemming::Language).is_none());
        assert!(rules("eng", Stemming::None).is_none());
    }

    proptest::proptest! {
        /// Checks that no rules panic, whatever the word.
        #[test]
        fn any_word_has_a_stem(word in "\\PC{3,12}", greek in "[α-ωά-ώ]{3,12}", cyrillic in "[а-я]{3,12}") {
            for language in ["eng", "ell", "rus", "tur", "ara", "fin", "hin", "pol", "hun", "nld", "deu", "tam"] {
                let rules = rules(language, Stemming::Language).unwrap();
                for word in [&word, &greek, &cyrillic] {
                    let _ = stem(&word.to_lowercase(), &rules);
                }
            }
        }
    }
}
