//! Runs one attempt as a task of its own, outside the actors' thread ([`threads`](super::threads)). Work that computes
//! therefore delays no actor.

use std::any::Any;
use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use docweir_core::cancel::Cancel;
use docweir_core::error::StageError;
use futures_util::FutureExt;
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tracing::Instrument;

use super::job::{AttemptOutcome, Work};
use super::threads;
use super::worker::panicked;

/// Maximum time to wait until an aborted attempt is dropped. An attempt that computes is dropped at its next wait.
const ABORT_WAIT: Duration = Duration::from_secs(1);

/// Names the trait object that holds the state of a worker.
type State<J, D, P> = Box<dyn Work<J, D, P>>;

/// Names what an attempt leaves: the worker's state, and the outcome or the panic.
type Ended<J, D, P> = (State<J, D, P>, Result<AttemptOutcome<D, P>, Box<dyn Any + Send>>);

/// Owns a running attempt. If this value is dropped, the attempt ends at its next wait.
pub(super) struct RunningAttempt<J, D, P>(JoinHandle<Ended<J, D, P>>);

impl<J, D, P> RunningAttempt<J, D, P>
where
    J: Send + Sync + 'static,
    D: Send + 'static,
    P: Send + 'static,
{
    /// Starts an attempt at `job`.
    pub fn start(mut work: State<J, D, P>, job: Arc<J>, cancel: Cancel) -> Self {
        let attempt = async move {
            let ended = AssertUnwindSafe(work.run(&job, &cancel)).catch_unwind().await;
            (work, ended)
        };
        Self(threads::spawn(attempt.in_current_span()))
    }

    /// Waits until the attempt has ended. Returns the worker's state, if it is left, and the outcome. A panic of the work
    /// is returned as an error.
    pub async fn ended(&mut self) -> (Option<State<J, D, P>>, Result<AttemptOutcome<D, P>, StageError>) {
        match (&mut self.0).await {
            Ok((work, Ok(outcome))) => (Some(work), Ok(outcome)),
            Ok((work, Err(panic))) => (Some(work), Err(panicked(panic.as_ref()))),
            // Only the end of the runtime, or a panic while the attempt's future was dropped.
            Err(error) => {
                (None, Err(StageError::crash("attempt_lost", format!("the attempt was interrupted: {error}"))))
            }
        }
    }

    /// Aborts the attempt and waits until it is dropped, for a limited time.
    pub async fn stop(mut self) {
        self.0.abort();
        let _ = timeout(ABORT_WAIT, &mut self.0).await;
    }
}

impl<J, D, P> Drop for RunningAttempt<J, D, P> {
    fn drop(&mut self) {
        self.0.abort();
    }
}
