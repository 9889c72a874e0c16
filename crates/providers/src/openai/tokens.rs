//! How the models count. The table comes with the program.

/// Tokens of a text as OpenAI's embedding models count it (`cl100k_base`); no special tokens are added, and none that are
/// spelt out in it are recognised.
pub fn count(text: &str) -> usize {
    bpe_openai::cl100k_base().count(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Counts of OpenAI's own tokenizer.
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
