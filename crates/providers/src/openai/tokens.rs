//! Counts tokens as OpenAI's models do. The token table is part of the program.

/// Returns the number of tokens of a text in OpenAI's embedding models (`cl100k_base`). Special tokens are not added.
/// If the text contains the spelling of a special token, the spelling is counted as ordinary text.
pub fn count(text: &str) -> usize {
    bpe_openai::cl100k_base().count(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Compares the counts with those of OpenAI's own tokenizer.
    #[test]
    fn counts_are_those_of_the_model() {
        let table = [
            ("", 0),
            ("hello world", 2),
            ("antidisestablishmentarianism", 6),
            ("2 + 2 = 4", 7),
            ("お誕生日おめでとう", 9),
            ("<|endoftext|>", 7),
        ];
        for (text, expected) in table {
            assert_eq!(count(text), expected, "{text:?}");
        }
    }
}
