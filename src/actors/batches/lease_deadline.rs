//! Holds the time at which the lease on batches ends. All services that work under the lease share this value.

use std::cell::Cell;
use std::time::Duration;

use tokio::time::Instant;

/// Holds the time until which this process may act as leader for batches. The value is `None` while this process has
/// no lease.
#[derive(Debug, Default)]
pub struct LeaseDeadline(Cell<Option<Instant>>);

impl LeaseDeadline {
    /// Returns whether more than `time` remains until the lease ends.
    pub fn has(&self, time: Duration) -> bool {
        self.0.get().is_some_and(|end| Instant::now() + time < end)
    }

    /// Sets the end of the lease, or `None` if this process no longer has the lease.
    pub fn until(&self, end: Option<Instant>) {
        self.0.set(end);
    }
}
