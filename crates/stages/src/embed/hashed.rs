//! Makes vectors without a model, as hashed bags of words.
//!
//! This embedder is for tests and benchmarks of the code that uses an embedder. The vectors of two texts are similar
//! only if the texts have words in common.

use std::time::Duration;

use async_trait::async_trait;
use docweir_core::error::StageError;
use docweir_core::model::{Metric, ModelIdentity};
use sha2::{Digest, Sha256};

use super::{Call, EmbedBatch, Embedder};

/// Maximum number of tokens of one text, including two special tokens. The number equals the local model's window, so
/// that chunks have similar sizes.
const WINDOW: usize = 256;

pub struct HashedEmbedder {
    identity: ModelIdentity,
    wait: Duration,
}

impl HashedEmbedder {
    /// Creates an embedder that pauses for the time `wait` at each text. The pause simulates the time that a model
    /// needs.
    pub fn new(dimension: u32, wait: Duration) -> Self {
        let (id, weights) = (format!("hashed-{dimension}"), "none".to_owned());
        Self { identity: ModelIdentity { id, weights, dimension, metric: Metric::Cosine }, wait }
    }

    fn vector(&self, text: &str) -> Vec<f32> {
        let mut vector = vec![0.0f32; self.identity.dimension as usize];
        for word in words(text) {
            let hash = Sha256::digest(word.to_lowercase().as_bytes());
            let place = hash.iter().take(8).fold(0u64, |n, b| n << 8 | u64::from(*b));
            let sign = if hash.last().is_some_and(|b| b & 1 == 1) { -1.0 } else { 1.0 };
            let at = (place % u64::from(self.identity.dimension.max(1))) as usize;
            if let Some(value) = vector.get_mut(at) {
                *value += sign;
            }
        }
        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        match vector.first_mut() {
            // If there are no words, or the words cancel out, use a fixed unit vector.
            Some(first) if length == 0.0 => *first = 1.0,
            _ => vector.iter_mut().for_each(|x| *x /= length),
        }
        vector
    }
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c: char| !c.is_alphanumeric()).filter(|w| !w.is_empty())
}

#[async_trait]
impl Embedder for HashedEmbedder {
    fn identity(&self) -> &ModelIdentity {
        &self.identity
    }

    fn window(&self) -> usize {
        WINDOW
    }

    /// Counts two special tokens, one token for every four characters of a word, and one token for each other sign such
    /// as a comma.
    fn count_tokens(&self, text: &str) -> usize {
        let letters: usize = words(text).map(|w| w.chars().count().div_ceil(4)).sum();
        let signs = text.chars().filter(|c| !c.is_alphanumeric() && !c.is_whitespace()).count();
        2 + letters + signs
    }

    fn at_a_time(&self) -> Option<usize> {
        (!self.wait.is_zero()).then_some(16)
    }

    async fn embed(&self, texts: Vec<String>, call: Call<'_>) -> Result<EmbedBatch, StageError> {
        let mut batch = EmbedBatch::default();
        for text in &texts {
            call.cancel.check()?;
            if !self.wait.is_zero() {
                tokio::time::sleep(self.wait).await;
            }
            batch.tokens += self.count_tokens(text) as u64;
            batch.vectors.push(Ok(self.vector(text)));
        }
        Ok(batch)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_words_give_equal_unit_vectors_of_any_dimension() {
        for dimension in [8, 384, 1536] {
            let embedder = HashedEmbedder::new(dimension, Duration::ZERO);
            let (a, b) = (embedder.vector("A stale lease, fenced."), embedder.vector("fenced a STALE lease"));
            assert_eq!((a.len(), &a), (dimension as usize, &b));
            for text in ["a stale lease", "", "?!", "\u{1f980}"] {
                let length: f32 = embedder.vector(text).iter().map(|x| x * x).sum();
                assert!((length - 1.0).abs() < 1e-5, "{text:?}");
            }
        }
    }

    #[test]
    fn long_words_and_signs_count() {
        let embedder = HashedEmbedder::new(8, Duration::ZERO);
        for (text, tokens) in [("", 2), ("a b", 4), ("fencing", 4), ("a, b!", 6), ("日本語の文", 4)] {
            assert_eq!(embedder.count_tokens(text), tokens, "{text}");
        }
    }
}
