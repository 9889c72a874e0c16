//! What a service found in texts, so that it is not asked, and paid, again.

use std::path::Path;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use super::blobs::{Blobs, Limits};
use crate::documents::Sha256Hex;
use crate::error::StageError;
use crate::stores::cache::{FindingsCache, Forget};

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

    fn limits(&self) -> Limits {
        Limits {
            enabled: self.enabled,
            max_bytes: self.max_bytes,
            busy_timeout_milliseconds: self.busy_timeout_milliseconds,
        }
    }
}

/// Cheap to clone; clones share the file.
#[derive(Clone)]
pub struct SqliteFindingsCache {
    blobs: Blobs,
}

impl SqliteFindingsCache {
    /// Opens the cache in the file at `path`; its folder must exist. Never fails. Blocks.
    pub fn open(path: &Path, options: &FindingsCacheOptions) -> Self {
        Self { blobs: Blobs::open("findings cache", path, options.limits()) }
    }
}

#[async_trait]
impl FindingsCache for SqliteFindingsCache {
    async fn get_many(&self, question: &str, texts: &[Sha256Hex]) -> Vec<Option<Vec<u8>>> {
        self.blobs.get(question.to_owned(), texts).await
    }

    async fn put_many(&self, question: &str, entries: Vec<(Sha256Hex, Vec<u8>)>) {
        self.blobs.put(question.to_owned(), entries).await;
    }

    async fn forget(&self, texts: Forget) -> Result<u64, StageError> {
        self.blobs.forget(texts).await
    }
}
