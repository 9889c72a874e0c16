//! Splits a text that exceeds the embedder's window into parts that fit. Cuts are at word boundaries if possible.
//!
//! Chunking keeps chunks within the window, so splitting is the exception. Splitting is needed if a placeholder for
//! personal data is longer than the text that it replaces. It is also needed if the chunks were made for another
//! model, and the present model has a smaller window.

use docweir_core::error::StageError;

/// Splits `text` into parts of at most `window` tokens each. Together, the parts contain all of the text except white
/// space at the cuts.
pub fn parts<'t>(text: &'t str, window: usize, count: &dyn Fn(&str) -> usize) -> Result<Vec<&'t str>, StageError> {
    let mut parts = Vec::new();
    let mut rest = text.trim();
    while !rest.is_empty() {
        if count(rest) <= window {
            parts.push(rest);
            break;
        }
        let end = longest(rest, window, count);
        let Some((head, tail)) = end.and_then(|e| rest.split_at_checked(e)) else {
            let message = format!("a single character exceeds the model's window of {window} tokens");
            return Err(StageError::permanent("text_over_window", message));
        };
        parts.push(head.trim_end());
        rest = tail.trim_start();
    }
    Ok(parts)
}

/// Returns the end of the longest beginning of `text` that fits: after a word if possible, else after a character.
/// Token counts grow with the length of the text, so a binary search finds the end.
fn longest(text: &str, window: usize, count: &dyn Fn(&str) -> usize) -> Option<usize> {
    let after_words = text.char_indices().filter(|(_, c)| c.is_whitespace()).map(|(i, _)| i).filter(|i| *i > 0);
    let words: Vec<usize> = after_words.collect();
    fitting(text, &words, window, count).or_else(|| {
        let first_word = words.first().copied().unwrap_or(text.len());
        let characters: Vec<usize> =
            text.char_indices().map(|(i, c)| i + c.len_utf8()).take_while(|i| *i <= first_word).collect();
        fitting(text, &characters, window, count)
    })
}

fn fitting(text: &str, ends: &[usize], window: usize, count: &dyn Fn(&str) -> usize) -> Option<usize> {
    let fit = ends.partition_point(|end| text.get(..*end).is_some_and(|head| count(head) <= window));
    ends.get(fit.checked_sub(1)?).copied()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Estimates the number of tokens of a text: two special tokens, plus one token for every three characters of each word.
    fn count(text: &str) -> usize {
        2 + text.split_whitespace().map(|w| w.chars().count().div_ceil(3)).sum::<usize>()
    }

    #[test]
    fn cuts_at_words_and_only_in_need_inside_one() {
        assert_eq!(parts("one two six", 4, &count).unwrap(), ["one two", "six"]);
        assert_eq!(parts("abcdefghij", 4, &count).unwrap(), ["abcdef", "ghij"]);
        assert_eq!(parts("fits", 10, &count).unwrap(), ["fits"]);
        assert!(parts("   ", 10, &count).unwrap().is_empty());
        assert_eq!(parts("x", 2, &count).unwrap_err().code, "text_over_window");
    }

    proptest! {
        #[test]
        fn nothing_is_lost_and_every_part_fits(text in "[a-zé日 ]{0,200}", window in 3usize..12) {
            let parts = parts(&text, window, &count).unwrap();
            prop_assert!(parts.iter().all(|p| count(p) <= window));
            let squeeze = |s: &str| s.split_whitespace().collect::<String>();
            prop_assert_eq!(squeeze(&parts.concat()), squeeze(&text));
        }
    }
}
