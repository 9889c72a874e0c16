//! Finishes the work for ended batches: deletes the files of each batch, and reports its results.

use std::collections::HashSet;

use docweir_core::error::StageError;
use docweir_core::money::Nanodollars;
use docweir_objects::Pages;
use docweir_stores::batches::{BatchStatus, Ending, result_files};

use super::context::BatchContext;
use crate::messages::event::Event;

impl BatchContext {
    /// Deletes the files of all batches that are not open. A process leaves such files if it dies.
    pub async fn sweep(&self) -> Result<(), StageError> {
        let broken = |e: &dyn std::fmt::Display| StageError::system("batch_file", e.to_string());
        let open: HashSet<String> = self.batches.open().await?.into_iter().map(|b| b.id).collect();
        let mut pages = Pages::new(self.objects.as_ref(), "batches/");
        while let Some(page) = pages.next().await.map_err(|e| broken(&e))? {
            for object in page {
                if !object.key.split('/').nth(1).is_some_and(|id| open.contains(id)) {
                    self.objects.delete(&object.key).await.map_err(|e| broken(&e))?;
                }
            }
        }
        for entry in std::fs::read_dir(&self.folder).map_err(|e| broken(&e))? {
            let path = entry.map_err(|e| broken(&e))?.path();
            let id = path.file_name().and_then(|n| n.to_str()).and_then(|n| n.split('.').next());
            if !id.is_some_and(|id| open.contains(id)) {
                let _ = std::fs::remove_file(path);
            }
        }
        Ok(())
    }

    /// Returns the data that the store needs to end a batch, including the configured price and the limit on
    /// attempts.
    pub fn ending(
        &self,
        status: BatchStatus,
        charged_tokens: Option<u64>,
        undone: bool,
        error: Option<String>,
    ) -> Ending {
        Ending {
            status,
            charged_tokens,
            usd_per_million_tokens: self.account.price.batch,
            most_attempts: self.options.max_attempts,
            undone,
            error,
        }
    }

    /// Reports that a batch has ended. Deletes the batch's files, both the local ones and those at the provider. A
    /// file that cannot be deleted remains.
    pub async fn ended(&self, id: &str) -> Result<(), StageError> {
        let Some(batch) = self.batches.batch(id).await? else { return Ok(()) };
        for path in result_files(&self.folder, id) {
            let _ = std::fs::remove_file(path);
        }
        if let Err(error) = self.objects.delete(&Self::input_key(id)).await {
            tracing::warn!(batch = id, %error, "request file of an ended batch could not be deleted");
        }
        for file in [&batch.input_file_id, &batch.output_file_id, &batch.error_file_id].into_iter().flatten() {
            if let Err(error) = self.client.delete_file(file).await {
                tracing::debug!(batch = id, %error, "file at the provider could not be deleted");
            }
        }
        let tokens = batch.charged_tokens.unwrap_or_default();
        self.events.emit(Event::BatchEnded {
            batch: batch.id,
            space: batch.space.shown().to_owned(),
            status: batch.status.name(),
            items: batch.items,
            stored: batch.stored,
            failed: batch.failed,
            stale: batch.stale,
            returned: batch.returned,
            tokens,
            cost_usd: Nanodollars::of_tokens(tokens, self.account.price.batch).usd(),
        });
        Ok(())
    }
}
