//! Stores each cache in its own SQLite file. This module implements the embedding cache.
//!
//! A vector is stored as little-endian `f32`s under the hash of its text.

mod blobs;
mod findings;
mod table;

use std::path::Path;

use async_trait::async_trait;
use docweir_core::cache::{CacheOptions, EmbeddingCache, Forget};
use docweir_core::documents::Sha256Hex;
use docweir_core::error::StageError;
use docweir_core::model::ModelIdentity;

use self::blobs::Blobs;

pub use findings::SqliteFindingsCache;

/// Caches vectors in an SQLite file. Clones are cheap and share the file. One lookup or write runs at a time, on a
/// thread that may block.
#[derive(Clone)]
pub struct SqliteEmbeddingCache {
    blobs: Blobs,
}

impl SqliteEmbeddingCache {
    /// Opens the cache in the file at `path`; the folder must exist. Blocks the thread. This never fails: if the file
    /// cannot be used, the cache is empty.
    pub fn open(path: &Path, options: CacheOptions) -> Self {
        Self { blobs: Blobs::open("embedding cache", path, options) }
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
                "the embedder returned a vector of {} dimensions for model {}, whose vectors have {}",
                vector.len(),
                model.id,
                model.dimension
            );
            return Err(StageError::system("wrong_dimension", message));
        }
        // A vector with NaN or infinity is an error of the embedder and must not be cached.
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
