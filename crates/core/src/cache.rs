//! Caches of what was made before: vectors by model and text, and a service's findings by question and text.
//!
//! These are the traits and options; the stores implement them. A cache is one in the strict sense: whatever happens to it
//! costs time and never a document. The only errors are mistakes of the caller.

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use crate::documents::Sha256Hex;
use crate::error::StageError;
use crate::model::ModelIdentity;

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

    /// The limits of the cache, whatever it holds.
    pub fn limits(&self) -> CacheLimits {
        CacheLimits {
            enabled: self.enabled,
            max_bytes: self.max_bytes,
            busy_timeout_milliseconds: self.busy_timeout_milliseconds,
        }
    }
}

/// Answers of a service that enriches: places, kinds and scores, and nothing of a text.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct FindingsCacheOptions {
    /// Whether answers are kept at all. Default true.
    pub enabled: bool,
    /// Size of the cache's file, in bytes, above which the answers that were not used for the longest are dropped. Default
    /// 536870912 (512 MiB).
    pub max_bytes: u64,
    /// Milliseconds to wait while another process writes to the cache, before going on without it. Default 2000.
    pub busy_timeout_milliseconds: u64,
}

impl Default for FindingsCacheOptions {
    fn default() -> Self {
        Self { enabled: true, max_bytes: 512 << 20, busy_timeout_milliseconds: 2000 }
    }
}

impl FindingsCacheOptions {
    /// Fields out of range, and their ranges.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        self.limits().problems()
    }

    /// The limits of the cache, whatever it holds.
    pub fn limits(&self) -> CacheLimits {
        CacheLimits {
            enabled: self.enabled,
            max_bytes: self.max_bytes,
            busy_timeout_milliseconds: self.busy_timeout_milliseconds,
        }
    }
}

/// What a cache may take.
#[derive(Clone, Debug)]
pub struct CacheLimits {
    pub enabled: bool,
    pub max_bytes: u64,
    pub busy_timeout_milliseconds: u64,
}

impl CacheLimits {
    /// Fields out of range, and their ranges.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let mut check = |field, value: u64, low: u64, high: u64| {
            if !(low..=high).contains(&value) {
                problems.push((field, format!("{value} is out of range: use {low} to {high}")));
            }
        };
        check("max_bytes", self.max_bytes, 1 << 20, 1 << 44);
        check("busy_timeout_milliseconds", self.busy_timeout_milliseconds, 1, 600_000);
        problems
    }
}
