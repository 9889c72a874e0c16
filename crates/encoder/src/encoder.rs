use std::path::{Path, PathBuf};

use crate::config::{self, ConfigFile};
use crate::error::EncoderError;
use crate::forward::Scratch;
use crate::kernel::{Kernel, Model};
use crate::tokenizer::Tokenizer;

/// Tokens that pass the network together: enough to make use of every row of a weight that was fetched, few enough
/// to leave the activations in the cache. A longer text is a group of its own.
const GROUP_TOKENS: usize = 384;
/// Window where neither the model's files nor the caller say one.
const DEFAULT_WINDOW: usize = 256;

/// Where a model's files are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EncoderFiles {
    /// `model.safetensors`, f32.
    pub weights: PathBuf,
    /// `tokenizer.json` of an uncased WordPiece model.
    pub tokenizer: PathBuf,
    /// `config.json`; without it the sizes are read off the tensors.
    pub config: Option<PathBuf>,
}

impl EncoderFiles {
    /// The usual names in one folder.
    pub fn in_folder(folder: &Path) -> Self {
        let config = folder.join("config.json");
        Self {
            weights: folder.join("model.safetensors"),
            tokenizer: folder.join("tokenizer.json"),
            config: config.exists().then_some(config),
        }
    }
}

/// How to load a model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct LoadOptions {
    /// Runs this kernel instead of the best one: for tests and comparisons.
    pub kernel: Option<Kernel>,
    /// Most tokens of one text, special tokens included. Default: what the model was trained for
    /// (`sentence_bert_config.json` beside the weights), else 256; never more than the model has positions.
    pub max_tokens: Option<usize>,
}

/// A loaded model. Immutable: share it and call it from as many threads as there are cores.
pub struct Encoder {
    tokenizer: Tokenizer,
    model: Model,
    dimension: usize,
    max_tokens: usize,
}

impl Encoder {
    /// Loads a model from a folder with the usual file names.
    pub fn load(folder: &Path) -> Result<Self, EncoderError> {
        Self::load_files(&EncoderFiles::in_folder(folder), LoadOptions::default())
    }

    /// Loads a model from these files.
    pub fn load_files(files: &EncoderFiles, options: LoadOptions) -> Result<Self, EncoderError> {
        let config = files.config.as_deref().map(ConfigFile::read).transpose()?.unwrap_or_default();
        let tokenizer = Tokenizer::load(&files.tokenizer)?;
        let model = Model::load(&files.weights, &config, options.kernel.unwrap_or_else(Kernel::best))?;
        let (dimension, positions, words) = model.sizes();
        if tokenizer.largest_id() as usize >= words {
            let reason = format!("it has token {} and the model {words} words", tokenizer.largest_id());
            return Err(EncoderError::Malformed { path: files.tokenizer.clone(), reason });
        }
        let asked = options.max_tokens.or_else(|| config::trained_length(&files.weights));
        let max_tokens = asked.unwrap_or(DEFAULT_WINDOW).min(positions);
        Ok(Self { tokenizer, model, dimension, max_tokens })
    }

    /// Values of a vector.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// Most tokens of one text, special tokens included.
    pub fn max_tokens(&self) -> usize {
        self.max_tokens
    }

    /// The kernel in use.
    pub fn kernel(&self) -> Kernel {
        self.model.kernel()
    }

    /// Token ids of a text with the special tokens around them, however many there are.
    pub fn tokenize(&self, text: &str) -> Vec<u32> {
        self.tokenizer.tokenize(text)
    }

    /// Number of tokens of a text, special tokens included, however many there are.
    pub fn count_tokens(&self, text: &str) -> usize {
        self.tokenizer.tokenize(text).len()
    }

    /// A vector of unit length for each text, in their order. A text that is too long refuses the whole batch.
    pub fn encode(&self, texts: &[&str]) -> Result<Vec<Vec<f32>>, EncoderError> {
        let tokens: Vec<Vec<u32>> = texts.iter().map(|text| self.tokenizer.tokenize(text)).collect();
        let tokens: Vec<&[u32]> = tokens.iter().map(Vec::as_slice).collect();
        self.encode_tokens(&tokens)
    }

    /// [`Encoder::encode`] for texts that are tokenised already (by [`Encoder::tokenize`]).
    pub fn encode_tokens(&self, texts: &[&[u32]]) -> Result<Vec<Vec<f32>>, EncoderError> {
        let largest = self.model.sizes().2 as u32;
        for (index, text) in texts.iter().enumerate() {
            if text.len() > self.max_tokens {
                return Err(EncoderError::TooLong { index, tokens: text.len(), max_tokens: self.max_tokens });
            }
            if text.is_empty() || text.iter().any(|&id| id >= largest) {
                return Err(EncoderError::Unsupported(format!("text {index} is not made of this model's tokens")));
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
