//! What was made before: vectors by model and text, and a service's findings by question and text, so that nothing is
//! embedded, asked or paid for twice.
//!
//! They are caches in the strict sense: whatever happens to one costs time and never a document. A cache that can't be
//! read has nothing, one that can't be written forgets, a damaged one is set aside and begun anew; all of that is in
//! the log and in no document's record. A full disk is no exception: what follows, the document's artefact, meets it
//! too, in a place that knows what to do about it. The only errors are mistakes of the caller.

mod sqlite;
#[cfg(test)]
mod tests;

use async_trait::async_trait;

pub use sqlite::{EmbeddingCacheOptions, FindingsCacheOptions, SqliteEmbeddingCache, SqliteFindingsCache};

use crate::documents::Sha256Hex;
use crate::error::StageError;
use crate::stages::model::ModelIdentity;

#[async_trait]
pub trait EmbeddingCache: Send + Sync + 'static {
    /// The vectors of `texts` (hashes of the exact embedded strings), in their order; `None` for what is not known.
    async fn get_many(&self, model: &ModelIdentity, texts: &[Sha256Hex]) -> Result<Vec<Option<Vec<f32>>>, StageError>;

    /// Keeps vectors of the model's dimension; those that are known already are left as they are.
    async fn put_many(&self, model: &ModelIdentity, entries: Vec<(Sha256Hex, Vec<f32>)>) -> Result<(), StageError>;

    /// Forgets texts, of every model, or everything; returns how many vectors that were.
    async fn forget(&self, texts: Forget) -> Result<u64, StageError>;
}

/// Answers to a question (what was asked, in which language, of which model) about texts. They are bytes here.
#[async_trait]
pub trait FindingsCache: Send + Sync + 'static {
    /// The answers about `texts` (their hashes), in their order; `None` for what is not known.
    async fn get_many(&self, question: &str, texts: &[Sha256Hex]) -> Vec<Option<Vec<u8>>>;

    /// Keeps answers; those that are known already are left as they are.
    async fn put_many(&self, question: &str, entries: Vec<(Sha256Hex, Vec<u8>)>);

    /// Forgets texts, of every question, or everything; returns how many answers that were.
    async fn forget(&self, texts: Forget) -> Result<u64, StageError>;
}

/// What a cache is to forget.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forget {
    Texts(Vec<Sha256Hex>),
    Everything,
}

/// Knows nothing, keeps nothing.
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
