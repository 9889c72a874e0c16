//! Deletes what nobody needs any more, from time to time.

use std::sync::Arc;
use std::time::Duration;

use docweir_index::retention::RetentionOptions;
use docweir_index::{Reach, VectorStore};

pub struct Janitor {
    pub vectors: Arc<VectorStore>,
    pub options: RetentionOptions,
}

impl Janitor {
    /// Goes on for ever. What fails is tried again at the next round: nothing waits for it.
    pub async fn run(&self) {
        loop {
            match self.vectors.collect(Reach::Due(self.options)).await {
                Ok(collected) if collected.deleted.is_empty() => {}
                Ok(collected) => {
                    tracing::info!(
                        files = collected.deleted.len(),
                        bytes = collected.bytes,
                        "deleted old vector files"
                    );
                }
                Err(error) => tracing::warn!(%error, "old vector files were not deleted; it is tried again"),
            }
            tokio::time::sleep(Duration::from_secs(self.options.poll_seconds)).await;
        }
    }
}
