//! Cancels work that runs on another thread.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::error::StageError;

/// Interval at which a waiting task checks whether its work was cancelled.
const POLL_INTERVAL: Duration = Duration::from_millis(200);

/// Cancels work that runs on another thread. Cloning the token and checking it are cheap. CPU-bound stages check the
/// token between blocks, chunks and batches, so that a stage stops soon after its deadline.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Waits until the work is cancelled, and returns the error of [`Cancel::check`]. Use this method in a
    /// `select!`, next to a future that does not check the token itself.
    pub async fn cancelled(&self) -> StageError {
        loop {
            if let Err(error) = self.check() {
                return error;
            }
            tokio::time::sleep(POLL_INTERVAL).await;
        }
    }

    /// Returns an error of class timeout if the work was cancelled. A stage only has to call `cancel.check()?`.
    pub fn check(&self) -> Result<(), StageError> {
        if self.is_cancelled() {
            return Err(StageError::timeout(
                "cancelled",
                "the work was cancelled, because its deadline passed or the run is stopping",
            ));
        }
        Ok(())
    }
}
