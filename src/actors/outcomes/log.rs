//! Writes the outcome of an attempt to the log.

use docweir_stores::control::Resume;

use crate::messages::job::StageResult;
use crate::supervisors::Verdict;

/// Logs the outcome of an attempt. `ours` is false if the claim was no longer valid. An error's text is not logged,
/// because the text may name the file. The control record holds the text, and `docweir status` shows it.
pub(super) fn outcome(verdict: &Verdict<StageResult, Resume>, ours: bool) {
    if !ours {
        tracing::info!("claim no longer valid; result dropped");
        return;
    }
    match verdict {
        Verdict::Done(done) => tracing::info!(seconds = done.duration.as_secs_f64(), "stage completed"),
        Verdict::Retry { error, wait, .. } => {
            let (class, wait_seconds) = (format!("{:?}", error.class).to_lowercase(), wait.as_secs_f64());
            tracing::info!(class, code = error.code, wait_seconds, "attempt failed; retrying");
        }
        Verdict::Quarantine { error, attempts } => {
            let class = format!("{:?}", error.class).to_lowercase();
            tracing::info!(class, code = error.code, attempts, "document quarantined");
        }
        Verdict::Parked { reason, .. } => tracing::info!(reason, "document parked"),
        Verdict::Released => tracing::info!("document released"),
    }
}
