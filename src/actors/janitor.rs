//! Deletes vector files that no reader can need any more, at regular intervals.

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
    /// Runs until the future is dropped. If a deletion fails, it is retried at the next interval, because no other
    /// work depends on it.
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
