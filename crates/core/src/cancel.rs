//! Telling work to end.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use crate::error::StageError;

/// How often something that only waits looks.
const LOOK: Duration = Duration::from_millis(200);

/// Tells work that runs on a thread of its own to end. Cheap to clone and to look at; CPU-bound stages look between
/// blocks, chunks and batches, so that a deadline really ends them.
#[derive(Clone, Debug, Default)]
pub struct Cancel(Arc<AtomicBool>);

impl Cancel {
    pub fn cancel(&self) {
        self.0.store(true, Ordering::Release);
    }

    pub fn is_cancelled(&self) -> bool {
        self.0.load(Ordering::Acquire)
    }

    /// Waits until it is cancelled: for a `select!` beside what can't look by itself.
    pub async fn cancelled(&self) -> StageError {
        loop {
            if let Err(error) = self.check() {
                return error;
            }
            tokio::time::sleep(LOOK).await;
        }
    }

    /// `Err` of class timeout once cancelled: `cancel.check()?` is the whole protocol.
    pub fn check(&self) -> Result<(), StageError> {
        if self.is_cancelled() {
            return Err(StageError::timeout("cancelled", "the work was ended by its deadline or by a stop"));
        }
        Ok(())
    }
}
