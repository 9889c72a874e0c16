//! Writes the outcome of an attempt to the log.

use docweir_stores::control::Resume;

use crate::messages::job::StageResult;
use crate::supervisors::Verdict;

/// Logs the outcome of an attempt. The error's text is left out because it may name the file; the record has it, and
/// `docweir status` shows it.
pub(super) fn outcome(verdict: &Verdict<StageResult, Resume>, ours: bool) {
    if !ours {
        tracing::info!("the claim was superseded: what was done is dropped");
        return;
    }
    match verdict {
        Verdict::Done(done) => tracing::info!(seconds = done.duration.as_secs_f64(), "a stage was completed"),
        Verdict::Retry { error, wait, .. } => {
            let (class, wait_seconds) = (format!("{:?}", error.class).to_lowercase(), wait.as_secs_f64());
            tracing::info!(class, code = error.code, wait_seconds, "an attempt failed, and another one follows");
        }
        Verdict::Quarantine { error, attempts } => {
            let class = format!("{:?}", error.class).to_lowercase();
            tracing::info!(class, code = error.code, attempts, "a document was quarantined");
        }
        Verdict::Parked { reason, .. } => tracing::info!(reason, "a document was parked"),
        Verdict::Released => tracing::info!("a document was given back"),
    }
}
