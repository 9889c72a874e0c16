//! How long something took, on the monotonic clock.

use std::time::Duration;

use tokio::time::Instant;

use crate::clock::SharedClock;

/// Measures on tokio's clock, which a test can pause. The clock argument keeps the seam: a simulation passes its own.
pub struct Timer(Instant);

impl Timer {
    pub fn start(_clock: &SharedClock) -> Self {
        Self(Instant::now())
    }

    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}
