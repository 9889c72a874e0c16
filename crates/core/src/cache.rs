//! Defines two caches of earlier results. The first finds vectors by model and text. The second finds the answers of
//! an enrichment service by question and text.
//!
//! This module defines traits and options; other crates implement the traits. If a cache cannot be read or written, a
//! run is slower, but no document fails. Errors are returned only for failed deletions and for mistakes of the
//! caller, such as a vector of the wrong dimension.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::documents::Sha256Hex;
use crate::error::StageError;
use crate::model::ModelIdentity;
use crate::ranges::out_of_range;

#[async_trait]
pub trait EmbeddingCache: Send + Sync + 'static {
    /// Returns one entry for each text, in the order of `texts`. The entry is the text's vector, or `None` if the
    /// vector is not cached. `texts` holds the hashes of the exact embedded strings.
    async fn get_many(&self, model: &ModelIdentity, texts: &[Sha256Hex]) -> Result<Vec<Option<Vec<f32>>>, StageError>;

    /// Stores vectors. Each vector must have the dimension of the model. Existing entries are not overwritten.
    async fn put_many(&self, model: &ModelIdentity, entries: Vec<(Sha256Hex, Vec<f32>)>) -> Result<(), StageError>;

    /// Deletes either the vectors of the given texts or all vectors of the cache, as `texts` selects. In both cases,
    /// the vectors of all models are deleted. Returns the number of deleted vectors.
    async fn forget(&self, texts: Forget) -> Result<u64, StageError>;
}

/// Caches a service's answers to questions about texts. A question names the requested analysis, the language, and the
/// version of the service. The cache does not interpret the bytes of an answer.
#[async_trait]
pub trait FindingsCache: Send + Sync + 'static {
    /// Returns one entry for each text, in the order of `texts`. The entry is the answer about the text, or `None` if
    /// the answer is not cached. `texts` holds the hashes of the texts.
    async fn get_many(&self, question: &str, texts: &[Sha256Hex]) -> Vec<Option<Vec<u8>>>;

    /// Stores answers. Entries that exist already are not overwritten.
    async fn put_many(&self, question: &str, entries: Vec<(Sha256Hex, Vec<u8>)>);

    /// Deletes either the answers about the given texts or all answers of the cache, as `texts` selects. In both cases,
    /// the answers to all questions are deleted. Returns the number of deleted answers.
    async fn forget(&self, texts: Forget) -> Result<u64, StageError>;
}

/// Selects the entries that a cache deletes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forget {
    Texts(Vec<Sha256Hex>),
    Everything,
}

/// Implements both cache traits but stores nothing.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoCache;

#[async_trait]
impl EmbeddingCache for NoCache {
    async fn get_many(&self, _: &ModelIdentity, texts: &[Sha256Hex]) -> Result<Vec<Option<Vec<f32>>>, StageError> {
        Ok(vec![None; texts.len()])
    }

    async fn put_many(&self, _: &ModelIdentity, _: Vec<(Sha256Hex, Vec<f32>)>) -> Result<(), StageError> {
        Ok(())
    }

    async fn forget(&self, _: Forget) -> Result<u64, StageError> {
        Ok(0)
    }
}

#[async_trait]
impl FindingsCache for NoCache {
    async fn get_many(&self, _: &str, texts: &[Sha256Hex]) -> Vec<Option<Vec<u8>>> {
        vec![None; texts.len()]
    }

    async fn put_many(&self, _: &str, _: Vec<(Sha256Hex, Vec<u8>)>) {}

    async fn forget(&self, _: Forget) -> Result<u64, StageError> {
        Ok(0)
    }
}

/// Configures one of two caches: the cache of vectors, or the cache of answers from enrichment services. Each cache is
/// a file in the state folder.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CacheOptions {
    /// If true, the cache is used. If false, every run pays again for texts that earlier runs have already sent.
    pub enabled: bool,
    /// Maximum size of the cache file, in bytes. If the file grows larger, the least recently used entries are
    /// deleted.
    pub max_bytes: u64,
    /// Maximum time, in milliseconds, to wait while another process writes to the cache. After this time, the run
    /// continues without the cache.
    #[serde(skip)]
    pub busy_timeout_milliseconds: u64,
}

/// Provides the defaults for a cache of vectors.
impl Default for CacheOptions {
    fn default() -> Self {
        Self { enabled: true, max_bytes: 2 << 30, busy_timeout_milliseconds: 2000 }
    }
}

impl CacheOptions {
    /// Returns the defaults for a cache of answers. An answer holds only positions, kinds and scores, so answers need
    /// less space than vectors.
    pub fn for_findings() -> Self {
        Self { max_bytes: 512 << 20, ..Self::default() }
    }

    /// Returns the fields that are out of range, each with its allowed range.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        out_of_range("max_bytes", self.max_bytes, 1 << 20, 1 << 44).into_iter().collect()
    }
}
