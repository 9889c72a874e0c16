//! Limits the work that is taken from a queue before earlier work is done.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use docweir_stores::control::ControlStore;

/// Interval at which a backlog that is too long is looked at again.
const LOOK: Duration = Duration::from_secs(1);

/// Reports whether more work may be received. Consulted before each call that receives messages.
#[async_trait(?Send)]
pub trait Backlog {
    /// Waits until more work may be received.
    async fn wait(&self);
}

/// Permits more work while few documents are pending in the control store. They may wait for any process.
pub struct PendingLimit {
    pub control: Arc<dyn ControlStore>,
    /// Number of pending documents from which no more work is received.
    pub max_pending: usize,
}

#[async_trait(?Send)]
impl Backlog for PendingLimit {
    async fn wait(&self) {
        loop {
            match self.control.pending(self.max_pending).await {
                Ok(pending) if pending < self.max_pending => return,
                Ok(_) => {}
                // Messages could not be handled either.
                Err(error) => tracing::debug!(%error, "pending documents not counted; no messages are received"),
            }
            tokio::time::sleep(LOOK).await;
        }
    }
}
