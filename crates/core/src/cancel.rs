//! Cancels work that runs on another thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::error::StageError;

/// Interval at which a waiting task polls the flag.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Cancels work that runs on its own thread. Cloning and polling are cheap. CPU-bound stages poll between blocks,
/// chunks and batches, so that a deadline really ends them.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Waits until the work is cancelled. Use it in a `select!` next to a future that does not poll the flag itself.
    pub async fn cancelled(&self) -> StageError {
        loop {
            if let Err(error) = self.check() {
                return error;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Returns an error of class timeout once the work is cancelled. A stage only has to call `cancel.check()?`.
    pub fn check(&self) -> Result<(), StageError> {
        if self.is_cancelled() {
            return Err(StageError::timeout("cancelled", "the work was cancelled by its deadline or by a stop"));
        }
        Ok(())
    }
}
