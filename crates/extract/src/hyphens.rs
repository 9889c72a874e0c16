//! Tells hyphens that break a word at the end of a line from hyphens that belong to the word.

/// Returns the first part of a word that is broken at the end of a line, without its hyphen. `next` is the first word of
/// the next line. Returns `None` if the hyphen belongs to the word, as in `REQ-20447`, `X-ray` and `state-of-the-art`, or
/// if there is none.
pub(super) fn joined<'w>(word: &'w str, next: &str) -> Option<&'w str> {
    let part = word.strip_suffix(['-', '\u{2010}', '\u{ad}'])?;
    let letters = part.chars().filter(|c| c.is_alphabetic()).count();
    let inner = part.chars().any(|c| matches!(c, '-' | '\u{2010}') || c.is_numeric());
    let lower = part.chars().next_back().is_some_and(char::is_lowercase) && next.starts_with(char::is_lowercase);
    (letters >= 2 && lower && !inner).then_some(part)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hyphen_breaks_a_word_or_belongs_to_it() {
        let table = [
            ("Malay-", "sia", Some("Malay")),
            ("evapo\u{2010}", "transpiration", Some("evapo")),
            ("X-", "ray", None),
            ("REQ-", "20447", None),
            ("state-of-", "the-art", None),
            ("Anglo-", "Saxon", None),
            ("2-", "fold", None),
            ("plain", "word", None),
            ("-", "word", None),
        ];
        for (word, next, expected) in table {
            assert_eq!(joined(word, next), expected, "{word} {next}");
        }
    }
}
