//! Retries operations while a store is unavailable: it does not answer, or another process uses it for longer than an
//! operation can wait.

use docweir_core::error::{ErrorClass, StageError};
use docweir_stores::control::ControlError;
use tokio::time::{Instant, sleep};

use crate::actors::outcomes::control;
use crate::supervisors::{Decision, RetryOptions, Streak, decide};

/// Retries an operation while the control store does not answer, up to the maximum duration of an outage. Fails at once if
/// the store denies access. Use this function when a process starts, because somebody waits for the reason.
pub async fn retry_while_busy<T>(
    options: &RetryOptions,
    op: impl AsyncFnMut() -> Result<T, ControlError>,
) -> Result<T, ControlError> {
    let outage = |error: &ControlError| match error {
        ControlError::Busy(why) => Some(control(ControlError::Busy(why.clone()))),
        _ => None,
    };
    retry(options, op, outage).await
}

/// Retries an operation while the control store is unavailable or denies access, up to the maximum duration of an outage.
pub async fn retry_in_outage<T>(
    options: &RetryOptions,
    op: impl AsyncFnMut() -> Result<T, ControlError>,
) -> Result<T, ControlError> {
    let outage = |error: &ControlError| {
        let is_outage = matches!(error, ControlError::Busy(_) | ControlError::Denied { .. });
        is_outage.then(|| control(error.clone()))
    };
    retry(options, op, outage).await
}

/// Retries an operation while a store or service that it needs is unavailable or throttles calls, up to the maximum
/// duration of an outage.
pub async fn retry_while_unavailable<T>(
    options: &RetryOptions,
    op: impl AsyncFnMut() -> Result<T, StageError>,
) -> Result<T, StageError> {
    let outage = |error: &StageError| {
        let passes = matches!(error.class, ErrorClass::Unavailable | ErrorClass::Throttled);
        passes.then(|| StageError { class: ErrorClass::Unavailable, ..error.clone() })
    };
    retry(options, op, outage).await
}

/// Retries an operation while `outage` returns an error of class `Unavailable` for the error of the operation.
async fn retry<T, E>(
    options: &RetryOptions,
    mut op: impl AsyncFnMut() -> Result<T, E>,
    outage: impl Fn(&E) -> Option<StageError>,
) -> Result<T, E> {
    let (began, mut failures) = (Instant::now(), 0);
    loop {
        let error = match op().await {
            Ok(done) => return Ok(done),
            Err(error) => error,
        };
        let Some(unavailable) = outage(&error) else { return Err(error) };
        match decide(options, &unavailable, 0, Streak { failures, lasts: began.elapsed() }) {
            Decision::Retry { wait, .. } => {
                tracing::warn!(error = %unavailable, wait_seconds = wait.as_secs_f64(), "unavailable; retrying");
                sleep(wait).await;
            }
            Decision::Quarantine | Decision::Escalate => return Err(error),
        }
        failures += 1;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_busy_store_is_waited_for_and_a_broken_one_is_not() {
        let options = RetryOptions { outage_seconds: 600, ..Default::default() };
        let run = async |answers: Vec<Result<u32, ControlError>>| {
            let mut answers = answers.into_iter();
            retry_while_busy(&options, async || answers.next().unwrap()).await
        };
        let busy = || Err(ControlError::Busy("held".into()));
        assert_eq!(run(vec![busy(), busy(), Ok(7)]).await.unwrap(), 7);
        let long = (0..20).map(|_| busy()).chain([Ok(8)]).collect();
        assert_eq!(run(long).await.unwrap(), 8, "an outage of minutes is waited for");
        let longer = (0..1_000).map(|_| busy()).collect();
        let began = Instant::now();
        assert!(matches!(run(longer).await, Err(ControlError::Busy(_))));
        assert!((600..640).contains(&began.elapsed().as_secs()), "{:?}", began.elapsed());
        let broken = || ControlError::NotFound("x".into());
        assert!(
            matches!(run(vec![Err(broken())]).await, Err(ControlError::NotFound(_))),
            "other errors are returned at once"
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_denial_ends_a_start_and_is_waited_out_later() {
        let denied = || ControlError::Denied { location: "t".into(), reason: "ExpiredToken".into(), hint: "renew it" };
        let answers = || vec![Err(denied()), Err(denied()), Ok(7)].into_iter();
        let (mut first, mut second) = (answers(), answers());
        let started = retry_while_busy(&RetryOptions::default(), async || first.next().unwrap()).await;
        assert!(matches!(started, Err(ControlError::Denied { .. })));
        assert_eq!(retry_in_outage(&RetryOptions::default(), async || second.next().unwrap()).await.unwrap(), 7);
    }
}
