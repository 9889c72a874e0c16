//! Polls the open batches at the provider, and passes ended batches to the harvester.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::time::Duration;

use docweir_core::clock::{parse_timestamp, timestamp};
use docweir_core::error::StageError;
use docweir_providers::openai::{BatchObject, CallError, RemoteBatchStatus};
use docweir_stores::batches::{Batch, BatchStatus, Checked};
use tokio::time::Instant;

use super::context::BatchContext;
use super::{forbidden, no_batches, unkeyed, untrusted};
use crate::messages::event::Event;
use crate::supervisors::service::ServiceHandle;

/// Maximum number of faulty lines that are recorded for a failed batch. These are lines of the batch's input file
/// that the provider's error report names.
const MOST_LINES: usize = 1_000;

/// Polls the open batches at the provider.
pub struct Poller {
    pub context: Rc<BatchContext>,
    /// Time at which each cancelled batch first lacked the results of its finished rows.
    pub late: RefCell<HashMap<String, Instant>>,
    pub harvester: ServiceHandle<String>,
}

impl Poller {
    /// Runs until the future is dropped.
    pub async fn run(&self) -> Result<(), StageError> {
        loop {
            let done = match self.round().await {
                Ok(()) => self.context.resume().await,
                failed => failed,
            };
            match done {
                Ok(()) => self.context.batch_progress.polled(),
                Err(error) if error.class.is_temporary() => {
                    tracing::warn!(%error, "batches could not be polled; retrying at the next interval")
                }
                Err(error) => return Err(error),
            }
            tokio::select! {
                () = self.context.batch_progress.poll.notified() => {}
                () = tokio::time::sleep(Duration::from_secs_f64(self.context.options.poll_seconds)) => {}
            }
        }
    }

    async fn round(&self) -> Result<(), StageError> {
        for batch in self.context.open().await? {
            let Some(provider_id) = batch.provider_id.clone() else { continue };
            let status = match batch.status.is_terminal() {
                true => batch.status,
                false => self.look(&batch, &provider_id).await?,
            };
            if status.is_terminal() {
                if !self.context.batch_progress.harvest_begins(&batch.id) {
                    continue;
                }
                // The harvester imports one batch at a time, so this call may wait.
                if self.harvester.send(batch.id.clone()).await.is_err() {
                    self.context.batch_progress.harvest_ends(&batch.id);
                    return Ok(());
                }
            }
        }
        Ok(())
    }

    async fn look(&self, batch: &Batch, provider_id: &str) -> Result<BatchStatus, StageError> {
        let context = &self.context;
        if batch.cancel && !matches!(batch.status, BatchStatus::Canceling) {
            // Cancelling fails if the batch has already ended. In this case, the status that is read below shows the
            // end.
            if let Err(error) = context.client.cancel_batch(provider_id).await {
                tracing::debug!(batch = batch.id, %error, "batch not cancelled");
            }
        }
        let object = match context.client.get_batch(provider_id).await {
            Ok(object) => object,
            Err(error) => return self.not_seen(batch, error).await,
        };
        let Some(status) = status(&object.status) else {
            let text = format!("the provider reports an unknown status of the batch: `{}`", object.status.as_str());
            tracing::error!(batch = batch.id, "{text}");
            let checked = Checked { error: Some(text), ..checked(batch.status, &object) };
            context.batches.checked(&batch.id, checked).await?;
            return Ok(batch.status);
        };
        let status = match is_late(status, &object) && self.may_wait(batch) {
            false => status,
            true => {
                // The rows may be paid, so they are not sent again before it is certain that there are no results.
                let text = format!("batch {} has ended, but its results are not available yet; waiting", batch.id);
                tracing::warn!(batch = batch.id, counts = ?object.request_counts, "ended batch has no result file yet");
                context.notifier.tell_once(text);
                BatchStatus::Finalizing
            }
        };
        context.batches.checked(&batch.id, checked(status, &object)).await?;
        if !status.is_terminal() {
            self.warn(batch).await?;
        }
        Ok(status)
    }

    /// Returns whether the results of an ended batch are waited for. The results of a cancelled batch are waited for only
    /// for some time, because its user wants an end.
    fn may_wait(&self, batch: &Batch) -> bool {
        if !batch.cancel {
            return true;
        }
        let mut late = self.late.borrow_mut();
        let since = late.entry(batch.id.clone()).or_insert_with(Instant::now);
        let waits = since.elapsed() < self.context.confirm_time();
        if !waits {
            late.remove(&batch.id);
        }
        waits
    }

    async fn warn(&self, batch: &Batch) -> Result<(), StageError> {
        let context = &self.context;
        let since = batch.submitted_at.as_deref().and_then(parse_timestamp).unwrap_or_else(|| context.clock.now());
        let hours = (context.clock.now() - since) as f64 / 3.6e9;
        if !batch.warned && hours >= context.options.warn_hours {
            let text = format!("batch {} is still open after {hours:.0} hours at the provider", batch.id);
            tracing::warn!(batch = batch.id, hours, "batch is still open");
            context.events.emit(Event::Notice { text });
            context.batches.warned(&batch.id).await?;
        }
        Ok(())
    }

    async fn not_seen(&self, batch: &Batch, error: CallError) -> Result<BatchStatus, StageError> {
        let context = &self.context;
        match error {
            CallError::Missing(what) => self.gone(batch, &what).await?,
            CallError::Unknown(what) => return Err(no_batches(context, &what)),
            CallError::Forbidden(what) => return Err(forbidden(context, &what)),
            CallError::Unkeyed(why) => return Err(unkeyed(&why)),
            CallError::Untrusted(what) => return Err(untrusted(what)),
            error => tracing::warn!(batch = batch.id, %error, "batch not polled; retrying at the next interval"),
        }
        Ok(batch.status)
    }

    /// Handles a batch that the provider does not know. Shortly after the batch was submitted, nothing is done,
    /// because the batch may not be visible yet. Later, the provider's list is searched for the batch. If the list
    /// contains the batch, only a warning is logged. If it contains a duplicate, the duplicate takes the place of the
    /// batch; otherwise the batch is abandoned. If the provider has no such list, the endpoint has no Batch API, and an
    /// error is returned.
    async fn gone(&self, batch: &Batch, what: &str) -> Result<(), StageError> {
        let context = &self.context;
        let submitted = batch.submitted_at.as_deref().and_then(parse_timestamp).unwrap_or_default();
        let since = Duration::from_micros(u64::try_from(context.clock.now() - submitted).unwrap_or_default());
        if since < context.confirm_time() {
            return Ok(());
        }
        match context.find(batch, submitted).await {
            Ok(None) => {}
            Ok(Some(twin)) if batch.provider_id.as_deref() != Some(twin.id.as_str()) => {
                tracing::warn!(
                    batch = batch.id,
                    twin = twin.id,
                    "batch is gone; a duplicate at the provider replaces it"
                );
                return Ok(context.batches.taken_over(&batch.id, &twin.id).await?);
            }
            Ok(Some(_)) => {
                tracing::warn!(batch = batch.id, "batch is in the provider's list but cannot be read");
                return Ok(());
            }
            Err(CallError::Missing(_) | CallError::Unknown(_)) => return Err(no_batches(context, what)),
            Err(error) => {
                tracing::warn!(batch = batch.id, %error, "search for the batch failed; retrying at the next interval");
                return Ok(());
            }
        }
        // The items of the batch are sent again. It is unknown whether the provider charged for the batch.
        let text = format!("the provider no longer knows the batch ({what})");
        tracing::error!(batch = batch.id, "{text}");
        context.batches.end(&batch.id, context.ending(BatchStatus::Failed, None, false, Some(text))).await?;
        context.ended(&batch.id).await
    }
}

fn status(status: &RemoteBatchStatus) -> Option<BatchStatus> {
    Some(match status {
        RemoteBatchStatus::Validating => BatchStatus::Validating,
        RemoteBatchStatus::InProgress => BatchStatus::InProgress,
        RemoteBatchStatus::Finalizing => BatchStatus::Finalizing,
        RemoteBatchStatus::Completed => BatchStatus::Completed,
        RemoteBatchStatus::Failed => BatchStatus::Failed,
        RemoteBatchStatus::Expired => BatchStatus::Expired,
        RemoteBatchStatus::Cancelling => BatchStatus::Canceling,
        RemoteBatchStatus::Cancelled => BatchStatus::Cancelled,
        RemoteBatchStatus::Unknown(_) => return None,
    })
}

/// Returns whether results of an ended batch must exist but have no file yet. A completed batch has at least one file,
/// except that some servers write no file if all rows failed. A batch that ended early has an output file if it has
/// completed rows.
fn is_late(status: BatchStatus, object: &BatchObject) -> bool {
    let counts = object.request_counts;
    let has_rows = counts.completed > 0;
    let all_failed = counts.total > 0 && counts.failed >= counts.total;
    match status {
        _ if object.output_file_id.is_some() => false,
        BatchStatus::Completed => has_rows || (object.error_file_id.is_none() && !all_failed),
        BatchStatus::Expired | BatchStatus::Cancelled => has_rows,
        _ => false,
    }
}

fn checked(status: BatchStatus, object: &BatchObject) -> Checked {
    let at = |seconds: u64| timestamp(i64::try_from(seconds.saturating_mul(1_000_000)).unwrap_or(i64::MAX));
    // Only error codes and line numbers are stored, because the provider's messages may quote the input.
    let codes: Vec<String> = object
        .errors
        .iter()
        .take(5)
        .map(|e| e.line.map_or_else(|| e.code.clone(), |line| format!("{} in line {line}", e.code)))
        .collect();
    Checked {
        status,
        done: object.request_counts.completed + object.request_counts.failed,
        charged_tokens: object.tokens,
        output_file_id: object.output_file_id.clone(),
        error_file_id: object.error_file_id.clone(),
        expires_at: object.expires_at.map(at),
        error: (!codes.is_empty()).then(|| codes.join(", ")),
        error_lines: object.errors.iter().filter_map(|e| e.line).take(MOST_LINES).collect(),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn results_that_must_exist_are_waited_for() {
        use BatchStatus::*;
        let table = [
            // Status, completed rows, failed rows, output file, error file, and whether the results are late.
            (Completed, 5, 0, None, None, true),
            (Completed, 0, 0, None, None, true),
            (Completed, 5, 1, None, Some("e"), true),
            (Completed, 0, 6, None, Some("e"), false),
            (Completed, 0, 5, None, None, true),
            (Completed, 0, 6, None, None, false),
            (Completed, 5, 1, Some("o"), None, false),
            (Completed, 5, 0, Some("o"), None, false),
            (Expired, 5, 0, None, Some("e"), true),
            (Expired, 0, 0, None, None, false),
            (Cancelled, 3, 0, None, None, true),
            (Cancelled, 0, 0, None, None, false),
            (Failed, 0, 0, None, None, false),
            (InProgress, 3, 0, None, None, false),
        ];
        for (status, completed, failed, output, errors, late) in table {
            let object = json!({
                "id": "b", "status": "x", "output_file_id": output, "error_file_id": errors,
                "request_counts": {"total": 6, "completed": completed, "failed": failed},
            });
            let object = BatchObject::read(&object).unwrap();
            assert_eq!(is_late(status, &object), late, "{status:?} {object:?}");
        }
    }
}
