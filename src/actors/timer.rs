//! Measures durations on tokio's monotonic clock, which tests can pause.

use std::time::Duration;

use tokio::time::Instant;

/// Measures the time since the timer was started.
pub struct Timer(Instant);

impl Timer {
    pub fn start() -> Self {
        Self(Instant::now())
    }

    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}
