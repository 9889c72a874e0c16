//! Caches in SQLite files of their own, and the embedding cache as one of them.
//!
//! Vectors are little-endian `f32`s under the text's hash.

mod blobs;
mod findings;
mod table;

use std::path::Path;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use self::blobs::{Blobs, Limits};
use super::{EmbeddingCache, Forget};
use crate::documents::Sha256Hex;
use crate::error::StageError;
use crate::stages::model::ModelIdentity;

pub use findings::{FindingsCacheOptions, SqliteFindingsCache};

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmbeddingCacheOptions {
    /// Whether vectors are kept at all. Default true.
    pub enabled: bool,
    /// Size of the cache's file, in bytes, above which the vectors that were not used for the longest are dropped.
    /// Default 2147483648 (2 GiB: about a million vectors of 384 dimensions).
    pub max_bytes: u64,
    /// Milliseconds to wait while another process writes to the cache, before going on without it. Default 2000.
    pub busy_timeout_milliseconds: u64,
}

impl Default for EmbeddingCacheOptions {
    fn default() -> Self {
        Self { enabled: true, max_bytes: 2 << 30, busy_timeout_milliseconds: 2000 }
    }
}

impl EmbeddingCacheOptions {
    /// Fields out of range, and their ranges.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        self.limits().problems()
    }

    fn limits(&self) -> Limits {
        Limits {
            enabled: self.enabled,
            max_bytes: self.max_bytes,
            busy_timeout_milliseconds: self.busy_timeout_milliseconds,
        }
    }
}

/// Cheap to clone; clones share the file. One lookup or write runs at a time, on a thread that may block.
#[derive(Clone)]
pub struct SqliteEmbeddingCache {
    blobs: Blobs,
}

impl SqliteEmbeddingCache {
    /// Opens the cache in the file at `path`; its folder must exist. Never fails: see the module. Blocks.
    pub fn open(path: &Path, options: EmbeddingCacheOptions) -> Self {
        Self { blobs: Blobs::open("embedding cache", path, options.limits()) }
    }
}

#[async_trait]
impl EmbeddingCache for SqliteEmbeddingCache {
    async fn get_many(&self, model: &ModelIdentity, texts: &[Sha256Hex]) -> Result<Vec<Option<Vec<f32>>>, StageError> {
        let found = self.blobs.get(identity(model), texts).await;
        let dimension = model.dimension as usize;
        Ok(found.into_iter().map(|blob| blob.and_then(|blob| decode(&blob, dimension))).collect())
    }

    async fn put_many(&self, model: &ModelIdentity, entries: Vec<(Sha256Hex, Vec<f32>)>) -> Result<(), StageError> {
        if let Some((_, vector)) = entries.iter().find(|(_, v)| v.len() != model.dimension as usize) {
            let message = format!(
                "the embedder gave a vector of {} numbers for model {}, which has {}",
                vector.len(),
                model.id,
                model.dimension
            );
            return Err(StageError::system("wrong_dimension", message));
        }
        // A number that is none is a mistake that must not be kept for ever.
        let sound = entries.into_iter().filter(|(_, vector)| vector.iter().all(|x| x.is_finite()));
        self.blobs.put(identity(model), sound.map(|(text, vector)| (text, encode(&vector))).collect()).await;
        Ok(())
    }

    async fn forget(&self, texts: Forget) -> Result<u64, StageError> {
        self.blobs.forget(texts).await
    }
}

fn identity(model: &ModelIdentity) -> String {
    serde_json::to_string(model).unwrap_or_default()
}

fn encode(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn decode(blob: &[u8], dimension: usize) -> Option<Vec<f32>> {
    (blob.len() == 4 * dimension)
        .then(|| blob.chunks_exact(4).map(|b| f32::from_le_bytes([b[0], b[1], b[2], b[3]])).collect())
}
