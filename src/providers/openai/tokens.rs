//! How the models count. The tables come with the program.

use serde::{Deserialize, Serialize};

/// Which tokenizer a model has.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tokenizer {
    /// That of OpenAI's embedding models.
    #[default]
    Cl100kBase,
    O200kBase,
}

impl Tokenizer {
    /// Tokens of a text; no special tokens are added, and none that are spelt out in it are recognised.
    pub fn count(self, text: &str) -> usize {
        self.table().count(text)
    }

    fn table(self) -> &'static bpe_openai::Tokenizer {
        match self {
            Tokenizer::Cl100kBase => bpe_openai::cl100k_base(),
            Tokenizer::O200kBase => bpe_openai::o200k_base(),
        }
    }
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
            assert_eq!(Tokenizer::Cl100kBase.count(text), expected, "{text:?}");
        }
        assert_eq!(Tokenizer::O200kBase.count("お誕生日おめでとう"), 8);
    }
}
