//! The end of the lease on batches, shared by all who act under it.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

/// Holds the time until which this process may look after batches; none while it has no lease.
#[derive(Debug, Default)]
pub struct LeaseDeadline(Cell<Option<Instant>>);

impl LeaseDeadline {
    /// Returns whether so much time is certainly left.
    pub fn has(&self, time: Duration) -> bool {
        self.0.get().is_some_and(|end| Instant::now() + time < end)
    }

    pub fn until(&self, end: Option<Instant>) {
        self.0.set(end);
    }
}
