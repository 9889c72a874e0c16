use std::path::{Path, PathBuf};

use crate::config::{self, ConfigFile};
use crate::error::EncoderError;
use crate::forward::Scratch;
use crate::kernel::{Kernel, Model};
use crate::tokenizer::Tokenizer;

/// Maximum number of tokens in one group. The texts of a group pass through the network together. This maximum is
/// large enough to use each fetched weight for many rows, and small enough to keep the activations in the cache. A
/// text with more tokens forms a group of its own.
const GROUP_TOKENS: usize = 384;
/// Maximum number of tokens of one text, if neither the model's files nor the caller specify a maximum.
const DEFAULT_WINDOW: usize = 256;

/// Holds the paths of a model's files.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncoderFiles {
    /// Path of `model.safetensors`, with f32 tensors.
    pub weights: PathBuf,
    /// Path of `tokenizer.json` for an uncased WordPiece model.
    pub tokenizer: PathBuf,
    /// Path of `config.json`. If it is `None`, the sizes of the network are derived from the tensors.
    pub config: Option<PathBuf>,
}

impl EncoderFiles {
    /// Returns the paths of a model's files in `folder`, under their usual names.
    pub fn in_folder(folder: &Path) -> Self {
        let config = folder.join("config.json");
        Self {
            weights: folder.join("model.safetensors"),
            tokenizer: folder.join("tokenizer.json"),
            config: config.exists().then_some(config),
        }
    }
}

/// Configures how a model is loaded.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// Kernel to use instead of the best one that the CPU supports, for tests and comparisons.
    pub kernel: Option<Kernel>,
    /// Maximum number of tokens of one text, special tokens included. The default is the length that the model was
    /// trained for (`sentence_bert_config.json` next to the weights), or else 256. A value above the model's number of
    /// positions is reduced to that number.
    pub max_tokens: Option<usize>,
}

/// Runs a loaded model. An encoder is immutable: all threads can share one and call it concurrently.
pub struct Encoder {
    tokenizer: Tokenizer,
    model: Model,
    dimension: usize,
    max_tokens: usize,
}

impl Encoder {
    /// Loads a model from a folder in which the files have their usual names.
    pub fn load(folder: &Path) -> Result<Self, EncoderError> {
        Self::load_files(&EncoderFiles::in_folder(folder), LoadOptions::default())
    }

    /// Loads a model from the given files.
    pub fn load_files(files: &EncoderFiles, options: LoadOptions) -> Result<Self, EncoderError> {
        let config = files.config.as_deref().map(ConfigFile::read).transpose()?.unwrap_or_default();
        let tokenizer = Tokenizer::load(&files.tokenizer)?;
        let model = Model::load(&files.weights, &config, options.kernel.unwrap_or_else(Kernel::best))?;
        let (dimension, positions, words) = model.sizes();
        if tokenizer.largest_id() as usize >= words {
            let reason = format!("token id {} is too large: the model has only {words} words", tokenizer.largest_id());
            return Err(EncoderError::Malformed { path: files.tokenizer.clone(), reason });
        }
        let asked = options.max_tokens.or_else(|| config::trained_length(&files.weights));
        let max_tokens = asked.unwrap_or(DEFAULT_WINDOW).min(positions);
        Ok(Self { tokenizer, model, dimension, max_tokens })
    }

    /// Returns the number of values in a vector.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// Returns the maximum number of tokens of one text, special tokens included.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// Returns the kernel in use.
    pub fn kernel(&self) -> Kernel {
        self.model.kernel()
    }

    /// Returns the token ids of a text, special tokens included. The text may be longer than [`Self::max_tokens`].
    pub fn tokenize(&self, text: &str) -> Vec<u32> {
        self.tokenizer.tokenize(text)
    }

    /// Returns the number of tokens of a text, special tokens included. The text may be longer than
    /// [`Self::max_tokens`].
    pub fn count_tokens(&self, text: &str) -> usize {
        self.tokenizer.tokenize(text).len()
    }

    /// Returns a vector of unit length for each text, in order. If one text is too long, the whole batch fails.
    pub fn encode(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EncoderError> {
        let tokens: Vec<Vec<u32>> = texts.iter().map(|text| self.tokenizer.tokenize(text)).collect();
        let tokens: Vec<&[u32]> = tokens.iter().map(Vec::as_slice).collect();
        self.encode_tokens(&tokens)
    }

    /// Encodes texts that [`Encoder::tokenize`] has already tokenised. Otherwise, this works like [`Encoder::encode`].
    pub fn encode_tokens(&self, texts: &[&[u32]]) -> Result<Vec<Vec<f32>>, EncoderError> {
        let largest = self.model.sizes().2 as u32;
        for (index, text) in texts.iter().enumerate() {
            if text.len() > self.max_tokens {
                return Err(EncoderError::TooLong { index, tokens: text.len(), max_tokens: self.max_tokens });
            }
            if text.is_empty() || text.iter().any(|&id| id >= largest) {
                return Err(EncoderError::Unsupported(format!(
                    "text {index} has no tokens, or a token id that the model does not know"
                )));
            }
        }
        let mut scratch = Scratch::default();
        let mut vectors = Vec::with_capacity(texts.len());
        let mut rest = texts;
        while let [first, ..] = rest {
            let (mut count, mut tokens) = (1, first.len());
            while let Some(next) = rest.get(count).filter(|next| tokens + next.len() <= GROUP_TOKENS) {
                tokens += next.len();
                count += 1;
            }
            let (group, after) = rest.split_at(count);
            self.model.forward(group, &mut scratch, &mut vectors);
            rest = after;
        }
        match vectors.iter().position(|v| v.iter().any(|x| !x.is_finite())) {
            Some(index) => Err(EncoderError::NotFinite { index }),
            None => Ok(vectors),
        }
    }
}
