//! How long something took, on tokio's monotonic clock, which a test can pause.

use std::time::Duration;

use tokio::time::Instant;

pub struct Timer(Instant);

impl Timer {
    pub fn start() -> Self {
        Self(Instant::now())
    }

    pub fn elapsed(&self) -> Duration {
        self.0.elapsed()
    }
}
