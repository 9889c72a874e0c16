//! Holds the end of the lease on batches. All services that act under the lease share it.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

/// Holds the time until which this process may act as leader for batches; `None` while it has no lease.
#[derive(Debug, Default)]
pub struct LeaseDeadline(Cell<Option<Instant>>);

impl LeaseDeadline {
    /// Returns whether at least `time` is certainly left.
    pub fn has(&self, time: Duration) -> bool {
        self.0.get().is_some_and(|end| Instant::now() + time < end)
    }

    /// Sets the end of the lease.
    pub fn until(&self, end: Option<Instant>) {
        self.0.set(end);
    }
}
