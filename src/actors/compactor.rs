//! Merges the vector files of a collection whenever a merge is due and this process holds the lease. Reports the cost
//! of each merge.

use std::rc::Rc;
use std::time::Duration;

use docweir_core::cancel::Cancel;
use docweir_core::error::StageError;
use docweir_index::VectorError;
use docweir_index::compaction::{Compactor, Installed, Mode, Report};
use metrics::{counter, gauge, histogram};
use tokio::sync::oneshot;

use crate::actors::committer::store;
use crate::messages::compaction::{Acquire, Compact, Compacted, LeaseGuard};
use crate::supervisors::service::{Inbox, ServiceHandle};

/// Error code of a merge that exceeded its time limit.
pub const TOO_LONG: &str = "compaction_timeout";

/// Runs the merges of one collection in this process.
pub struct CompactorActor {
    pub compactor: Compactor,
    pub lock: ServiceHandle<Acquire>,
}

/// Cancels a merge when this value is dropped. The merge runs on its own thread and cannot be ended in any other way.
struct CancelOnDrop(Cancel);

impl Drop for CancelOnDrop {
    fn drop(&mut self) {
        self.0.cancel();
    }
}

impl CompactorActor {
    /// Merges on request, and also at regular intervals if a merge is due. Returns when every sender is dropped.
    pub async fn run(&mut self, inbox: &Rc<Inbox<Compact>>) {
        let poll = Duration::from_secs(self.compactor.options().poll_seconds);
        let automatic = self.compactor.options().automatic;
        loop {
            let asked = tokio::select! {
                asked = inbox.receive() => match asked {
                    Some(asked) => Some(asked),
                    None => return,
                },
                () = tokio::time::sleep(poll), if automatic => None,
            };
            let done = self.compact(asked.as_ref().map_or(Mode::Due, |a| a.mode)).await;
            match asked {
                Some(asked) => {
                    let _ = asked.answer.send(done);
                }
                None => {
                    if let Err(error) = done {
                        tracing::warn!(%error, "vector files not merged; retrying at the next poll");
                    }
                }
            }
        }
    }

    /// Acquires the lease, merges until no merge is due, and releases the lease.
    async fn compact(&mut self, mode: Mode) -> Result<Compacted, StageError> {
        let mut compacted = Compacted::default();
        let Some((manifest, ..)) = self.compactor.due(mode).await.map_err(|e| store(&e))? else {
            return Ok(compacted);
        };
        let Some(guard) = self.acquire(manifest.epoch).await? else {
            compacted.busy = true;
            return Ok(compacted);
        };
        let done = self.merge_due(mode, &guard, &mut compacted).await;
        guard.give_back().await;
        done.map(|()| compacted)
    }

    /// Merges until no merge is due. The caller must hold the lease.
    async fn merge_due(&mut self, mode: Mode, guard: &LeaseGuard, compacted: &mut Compacted) -> Result<(), StageError> {
        let _ended = CancelOnDrop(guard.cancelled.clone());
        let limit = Duration::from_secs(self.compactor.options().work_seconds);
        let (mut files_at_start, mut too_large) = (None, None);
        // Check again, because the previous holder of the lease may have merged the files.
        while let Some((manifest, inputs, why)) = self.compactor.due(mode).await.map_err(|e| store(&e))? {
            let files_at_start = *files_at_start.get_or_insert(manifest.live.len());
            let merging = self.compactor.merge(&manifest, &inputs, why, &guard.cancelled);
            let staged = match tokio::time::timeout(limit, merging).await {
                Ok(Ok(staged)) => staged,
                // The lease was lost, or another process has merged the input files.
                Ok(Err(VectorError::Cancelled { .. })) => {
                    outcome("superseded");
                    compacted.superseded += 1;
                    break;
                }
                // The compactor leaves the largest file alone from now on, so the others can still be merged.
                Ok(Err(error @ VectorError::MergeTooLarge { .. })) => {
                    outcome("failed");
                    too_large = Some(store(&error));
                    continue;
                }
                Ok(Err(error)) => {
                    outcome("failed");
                    return Err(store(&error));
                }
                Err(_) => {
                    outcome("failed");
                    let limit = limit.as_secs();
                    let text =
                        format!("the merge took longer than `compaction.work_seconds` ({limit} s); raise the limit");
                    return Err(StageError::transient(TOO_LONG, text));
                }
            };
            // If not all files fit into one, several merges are needed. Commits in the meantime must not prolong the
            // work.
            let all_done = mode == Mode::All
                && (staged.inputs.len() == manifest.live.len() || compacted.merges.len() + 1 >= files_at_start);
            let installed = self.compactor.install(&staged, guard.epoch).await;
            match installed.map_err(|e| store(&e)).inspect_err(|_| outcome("failed"))? {
                Installed::Yes(version) => {
                    tell(&staged.report, version);
                    compacted.merges.push(staged.report);
                }
                Installed::Superseded(refusal) => {
                    outcome("superseded");
                    tracing::info!(
                        ?refusal,
                        "merge discarded because another merge replaced its input; no data is lost"
                    );
                    compacted.superseded += 1;
                    self.compactor.discard(staged).await;
                }
            }
            if all_done || guard.cancelled.is_cancelled() || compacted.superseded > 0 {
                break;
            }
        }
        too_large.map_or(Ok(()), Err)
    }

    async fn acquire(&self, above: u64) -> Result<Option<LeaseGuard>, StageError> {
        let gone = || StageError::transient("lock_gone", "the lock service ended before it answered");
        let (answer, taken) = oneshot::channel();
        self.lock.send(Acquire { above, answer }).await.map_err(|_| gone())?;
        taken.await.map_err(|_| gone())?
    }
}

fn outcome(outcome: &'static str) {
    counter!("docweir_compactions_total", "outcome" => outcome).increment(1);
}

/// Logs and counts a merge that was installed.
fn tell(report: &Report, version: u64) {
    outcome("installed");
    histogram!("docweir_compaction_seconds").record(report.duration.as_secs_f64());
    counter!("docweir_compaction_read_bytes_total").increment(report.input_bytes);
    counter!("docweir_compaction_written_bytes_total").increment(report.written_bytes);
    gauge!("docweir_compaction_peak_memory_bytes").set(report.peak_memory_bytes as f64);
    tracing::info!(
        why = report.why,
        files = report.input_files,
        rows = report.output_rows,
        dropped_rows = report.input_rows - report.output_rows,
        bytes = report.output_bytes,
        written = report.written_bytes,
        seconds = report.duration.as_secs_f64(),
        peak_memory = report.peak_memory_bytes,
        version,
        "merged vector files"
    );
}

#[cfg(test)]
#[path = "compactor_tests.rs"]
mod tests;
