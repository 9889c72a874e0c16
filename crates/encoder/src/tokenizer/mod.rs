//! Implements BERT's uncased WordPiece tokenizer. The tokens are the same as those of the reference library.
//!
//! The tokenizer reads `tokenizer.json`. A file with unsupported rules is refused, because tokens that are only almost
//! correct would go unnoticed. `scripts/check-tokenizer` proves exactness: it runs both tokenizers over every Unicode
//! code point and over whole corpora.

mod normalize;
mod tables;
mod vocabulary;

use std::collections::HashMap;
use std::path::Path;

use serde::Deserialize;

use crate::config::read_json;
use crate::error::EncoderError;
use vocabulary::Vocabulary;

/// Turns text into token ids.
pub struct Tokenizer {
    vocabulary: Vocabulary,
    /// Special tokens such as `[SEP]`, longest first. A special token is recognised wherever a text contains it
    /// literally.
    special: Vec<(String, u32)>,
    start: u32,
    end: u32,
}

#[derive(Deserialize)]
struct TokenizerFile {
    model: ModelPart,
    normalizer: NormalizerPart,
    pre_tokenizer: Typed,
    #[serde(default)]
    added_tokens: Vec<AddedToken>,
}

#[derive(Deserialize)]
struct ModelPart {
    /// Type of the tokenizer's model; absent in files of early versions.
    #[serde(rename = "type")]
    kind: Option<String>,
    vocab: HashMap<String, u32>,
    unk_token: String,
    continuing_subword_prefix: String,
    max_input_chars_per_word: usize,
}

#[derive(Deserialize)]
struct NormalizerPart {
    #[serde(rename = "type")]
    kind: String,
    #[serde(default)]
    clean_text: bool,
    #[serde(default)]
    handle_chinese_chars: bool,
    strip_accents: Option<bool>,
    #[serde(default)]
    lowercase: bool,
}

#[derive(Deserialize)]
struct Typed {
    #[serde(rename = "type")]
    kind: String,
}

#[derive(Deserialize)]
struct AddedToken {
    id: u32,
    content: String,
    #[serde(default)]
    single_word: bool,
    #[serde(default)]
    lstrip: bool,
    #[serde(default)]
    rstrip: bool,
    #[serde(default)]
    normalized: bool,
}

impl Tokenizer {
    /// Reads a tokenizer from a `tokenizer.json` file.
    pub fn load(path: &Path) -> Result<Self, EncoderError> {
        let file: TokenizerFile = read_json(path)?;
        Self::from_file(file).map_err(|reason| EncoderError::Unsupported(format!("{}: {reason}", path.display())))
    }

    fn from_file(file: TokenizerFile) -> Result<Self, String> {
        let n = &file.normalizer;
        let uncased = n.clean_text && n.handle_chinese_chars && n.lowercase && n.strip_accents != Some(false);
        if n.kind != "BertNormalizer" || !uncased {
            return Err("the normalizer is not that of an uncased BERT model".into());
        }
        if file.pre_tokenizer.kind != "BertPreTokenizer" {
            return Err(format!("the pre-tokenizer is {}, not BertPreTokenizer", file.pre_tokenizer.kind));
        }
        let model = file.model;
        if model.kind.as_deref().is_some_and(|kind| kind != "WordPiece") || model.continuing_subword_prefix != "##" {
            return Err("the tokenizer's model is not WordPiece with the prefix ##".into());
        }
        if model.unk_token != "[UNK]" || model.max_input_chars_per_word != 100 {
            return Err("the tokenizer's model does not treat unknown words as BERT does".into());
        }
        let id = |token: &str| model.vocab.get(token).copied().ok_or_else(|| format!("the token {token} is missing"));
        let (start, end, unknown) = (id("[CLS]")?, id("[SEP]")?, id(&model.unk_token)?);
        let mut special = Vec::with_capacity(file.added_tokens.len());
        for token in file.added_tokens {
            if token.single_word || token.lstrip || token.rstrip || token.normalized || token.content.is_empty() {
                return Err(format!("the added token {:?} has an unsupported rule", token.content));
            }
            // The model's identity covers the vocabulary. A token with another id, or a word instead of a special
            // token, would change vectors without changing the identity.
            let is_special = token.content.starts_with('[') && token.content.ends_with(']');
            if !is_special || model.vocab.get(&token.content) != Some(&token.id) {
                return Err(format!("the added token {:?} is not a special token of the vocabulary", token.content));
            }
            special.push((token.content, token.id));
        }
        special.sort_by_key(|(content, _)| std::cmp::Reverse(content.len()));
        Ok(Self {
            vocabulary: Vocabulary::new(model.vocab, unknown, model.max_input_chars_per_word),
            special,
            start,
            end,
        })
    }

    /// Returns the token ids of a text, special tokens included. The text is never truncated.
    pub fn tokenize(&self, text: &str) -> Vec<u32> {
        let mut ids = Vec::with_capacity(text.len() / 4 + 2);
        ids.push(self.start);
        let mut rest = text;
        while !rest.is_empty() {
            let (plain, special, after) = self.until_special(rest);
            normalize::words(plain, |word| self.vocabulary.pieces(word, &mut ids));
            ids.extend(special);
            rest = after;
        }
        ids.push(self.end);
        ids
    }

    pub(crate) fn largest_id(&self) -> u32 {
        let special = self.special.iter().map(|(_, id)| *id).max();
        self.vocabulary.largest_id().max(special.unwrap_or(0))
    }

    /// Splits a text at its first special token. Returns the text before the token, the id of the token, and the text
    /// after the token.
    fn until_special<'t>(&self, text: &'t str) -> (&'t str, Option<u32>, &'t str) {
        let mut best: Option<(usize, &str, u32)> = None;
        // In every known model all special tokens start with the same bracket, so one search finds the candidates.
        let starts = |byte: u8| self.special.iter().any(|(content, _)| content.as_bytes()[0] == byte);
        let bytes = text.as_bytes();
        for (at, _) in bytes.iter().enumerate().filter(|(_, b)| starts(**b)) {
            if let Some((content, id)) = self.special.iter().find(|(c, _)| bytes[at..].starts_with(c.as_bytes())) {
                best = Some((at, content, *id));
                break;
            }
        }
        match best {
            Some((at, content, id)) => (&text[..at], Some(id), &text[at + content.len()..]),
            None => (text, None, ""),
        }
    }
}

#[cfg(test)]
mod tests;
