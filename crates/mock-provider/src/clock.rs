//! Reads the wall clock. No other module of this crate reads it.
//!
//! Batches have Unix times and outlive the process, so a monotonic clock would not work for batches. Rates and waits
//! within one process use tokio's clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Returns the milliseconds since 1970.
#[expect(clippy::disallowed_methods, reason = "the mock provider simulates a remote server, which has its own clock")]
pub fn unix_millis() -> u64 {
    millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// Returns whole milliseconds, limited to the largest `u64`.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
