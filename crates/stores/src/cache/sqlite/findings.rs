//! Caches the findings of a service, so that the same question about a text is paid for only once.

use std::path::Path;

use async_trait::async_trait;
use docweir_core::cache::{CacheOptions, FindingsCache, Forget};
use docweir_core::documents::Sha256Hex;
use docweir_core::error::StageError;

use super::blobs::Blobs;

/// Caches findings in an SQLite file. Clones are cheap and share the file.
#[derive(Clone)]
pub struct SqliteFindingsCache {
    blobs: Blobs,
}

impl SqliteFindingsCache {
    /// Opens the cache in the file at `path`; the folder must exist. Blocks the thread. This never fails: if the file
    /// cannot be used, the cache is empty.
    pub fn open(path: &Path, options: CacheOptions) -> Self {
        Self { blobs: Blobs::open("findings cache", path, options) }
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
