//! Deletes vector files that no version needs any more, at regular intervals.

use std::sync::Arc;
use std::time::Duration;

use docweir_index::retention::RetentionOptions;
use docweir_index::{CollectionScope, VectorStore};

/// Deletes the unneeded vector files of one collection.
pub struct Janitor {
    pub vectors: Arc<VectorStore>,
    pub options: RetentionOptions,
}

impl Janitor {
    /// Runs until it is dropped. A failed sweep is retried at the next interval; nothing waits for it.
    pub async fn run(&self) {
        loop {
            match self.vectors.collect(CollectionScope::Due(self.options)).await {
                Ok(collected) if collected.deleted.is_empty() => {}
                Ok(collected) => {
                    tracing::info!(
                        files = collected.deleted.len(),
                        bytes = collected.bytes,
                        "deleted old vector files"
                    );
                }
                Err(error) => tracing::warn!(%error, "old vector files not deleted; retrying at the next interval"),
            }
            tokio::time::sleep(Duration::from_secs(self.options.poll_seconds)).await;
        }
    }
}
