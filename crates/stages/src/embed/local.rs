//! Embeds texts with a model on this machine.

use std::num::NonZero;
use std::sync::Arc;

use async_trait::async_trait;
use docweir_core::cancel::Cancel;
use docweir_core::error::StageError;
use docweir_core::model::{Metric, ModelIdentity};
use docweir_encoder::{Encoder, EncoderError, EncoderFiles, LoadOptions};

use super::fetch::ModelFiles;
use super::{Call, EmbedBatch, Embedder};

/// Number of tokens that are encoded between two checks for cancellation. Encoding them takes a fraction of a second.
const STEP_TOKENS: usize = 1_024;

pub struct LocalEmbedder {
    encoder: Arc<Encoder>,
    identity: ModelIdentity,
    languages: Vec<&'static str>,
    best_tokens: usize,
}

impl LocalEmbedder {
    /// Reads the weights and prepares them for the encoder. This takes about a second of processor time.
    pub fn open(files: &ModelFiles) -> Result<Self, StageError> {
        let paths = EncoderFiles {
            weights: files.weights.clone(),
            tokenizer: files.tokenizer.clone(),
            config: files.config.clone(),
        };
        let encoder = Encoder::load_files(&paths, LoadOptions::default()).map_err(unusable)?;
        let identity = ModelIdentity {
            id: files.name.clone(),
            weights: files.weights_sha256.to_string(),
            dimension: u32::try_from(encoder.dimension()).unwrap_or(u32::MAX),
            metric: Metric::Cosine,
        };
        // Only codes in whatlang's list are kept: enrichment never detects other languages.
        let languages =
            whatlang::Lang::all().iter().map(|l| l.code()).filter(|c| files.languages.iter().any(|l| l == c));
        Ok(Self {
            encoder: Arc::new(encoder),
            identity,
            languages: languages.collect(),
            best_tokens: files.best_tokens,
        })
    }
}

#[async_trait]
impl Embedder for LocalEmbedder {
    fn identity(&self) -> &ModelIdentity {
        &self.identity
    }

    fn window(&self) -> usize {
        self.encoder.max_tokens()
    }

    fn best_tokens(&self) -> usize {
        self.best_tokens.min(self.window())
    }

    fn count_tokens(&self, text: &str) -> usize {
        self.encoder.count_tokens(text)
    }

    fn languages(&self) -> &[&'static str] {
        &self.languages
    }

    /// Returns the number of cores, because each encoder call keeps one core busy. More concurrent calls would only
    /// evict each other's processor caches.
    fn at_a_time(&self) -> Option<usize> {
        std::thread::available_parallelism().ok().map(NonZero::get)
    }

    async fn embed(&self, texts: Vec<String>, call: Call<'_>) -> Result<EmbedBatch, StageError> {
        let (encoder, cancel) = (self.encoder.clone(), call.cancel.clone());
        let work = tokio::task::spawn_blocking(move || encode(&encoder, &texts, &cancel));
        work.await.map_err(|e| match e.is_panic() {
            true => StageError::crash("encoder_panicked", "the local model's encoder panicked"),
            false => StageError::timeout("cancelled", "embedding cancelled: the runtime is shutting down"),
        })?
    }
}

/// Encodes the texts in order of length, and checks for cancellation every [`STEP_TOKENS`] tokens. Returns the vectors
/// in the order of `texts`.
fn encode(encoder: &Encoder, texts: &[String], cancel: &Cancel) -> Result<EmbedBatch, StageError> {
    let tokens: Vec<Vec<u32>> = texts.iter().map(|t| encoder.tokenize(t)).collect();
    let mut order: Vec<usize> = (0..texts.len()).collect();
    let length = |i: &usize| tokens.get(*i).map_or(0, Vec::len);
    order.sort_by_key(length);
    let mut vectors = vec![Vec::new(); texts.len()];
    let mut rest = order.as_slice();
    while !rest.is_empty() {
        cancel.check()?;
        let (mut count, mut sum) = (0, 0);
        while count < rest.len() && (count == 0 || sum < STEP_TOKENS) {
            sum += rest.get(count).map_or(0, length);
            count += 1;
        }
        let (step, after) = rest.split_at(count);
        let inputs: Vec<&[u32]> = step.iter().filter_map(|i| tokens.get(*i).map(Vec::as_slice)).collect();
        let made = encoder.encode_tokens(&inputs).map_err(unusable)?;
        for (i, vector) in step.iter().zip(made) {
            if let Some(place) = vectors.get_mut(*i) {
                *place = vector;
            }
        }
        rest = after;
    }
    let tokens = tokens.iter().map(|t| t.len() as u64).sum();
    Ok(EmbedBatch { vectors: vectors.into_iter().map(Ok).collect(), tokens, cost_usd: 0.0 })
}

fn unusable(error: EncoderError) -> StageError {
    let code = match &error {
        EncoderError::Io { .. } => {
            return StageError::system("model_unreadable", "can't read the model").caused_by(&error);
        }
        EncoderError::Malformed { .. } | EncoderError::Unsupported(_) | EncoderError::KernelUnavailable(_) => {
            "model_unusable"
        }
        EncoderError::TooLong { .. } => "text_over_window",
        EncoderError::NotFinite { .. } => "model_damaged",
    };
    StageError::permanent(code, error.to_string())
}
