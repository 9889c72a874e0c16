//! Retries operations while the control store is busy. The store counts as busy if another process uses it for longer
//! than an operation can wait.

use docweir_core::error::{ErrorClass, StageError};
use docweir_stores::control::ControlError;
use tokio::time::sleep;

use crate::actors::outcomes::control;
use crate::supervisors::{Decision, RetryOptions, decide};

/// Retries an operation while the control store is busy, up to the limit on consecutive system failures.
pub async fn retry_while_busy<T>(
    options: &RetryOptions,
    mut op: impl AsyncFnMut() -> Result<T, ControlError>,
) -> Result<T, ControlError> {
    let mut in_a_row = 0;
    loop {
        let busy = match op().await {
            Err(busy @ ControlError::Busy(_)) => busy,
            done => return done,
        };
        let text = busy.to_string();
        let error = StageError { class: ErrorClass::System, ..control(ControlError::Busy(text)) };
        match decide(options, &error, 0, in_a_row) {
            Decision::Retry { wait, .. } => {
                tracing::warn!(%busy, wait_seconds = wait.as_secs_f64(), "control store busy; retrying");
                sleep(wait).await;
            }
            Decision::Quarantine | Decision::Escalate => return Err(busy),
        }
        in_a_row += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_busy_store_is_waited_for_and_a_broken_one_is_not() {
        let options = RetryOptions { system_failures: 3, ..Default::default() };
        let run = async |answers: Vec<Result<u32, ControlError>>| {
            let mut answers = answers.into_iter();
            retry_while_busy(&options, async || answers.next().unwrap()).await
        };
        let busy = || Err(ControlError::Busy("held".into()));
        assert_eq!(run(vec![busy(), busy(), Ok(7)]).await.unwrap(), 7);
        assert!(matches!(run(vec![busy(), busy(), busy(), busy(), busy()]).await, Err(ControlError::Busy(_))));
        let broken = || ControlError::NotFound("x".into());
        assert!(
            matches!(run(vec![Err(broken())]).await, Err(ControlError::NotFound(_))),
            "other errors are returned at once"
        );
    }
}
