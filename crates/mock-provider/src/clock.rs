//! The only place that reads the wall clock.
//!
//! Batches show Unix times and outlive the process, so a monotonic clock would not do for them. Everything within one
//! process (rates, waits) uses tokio's.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Milliseconds since 1970.
#[expect(
    clippy::disallowed_methods,
    reason = "this crate has no other clock; it pretends to be somebody else's server"
)]
pub fn unix_millis() -> u64 {
    millis(SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default())
}

/// Whole milliseconds, up to the largest number there is.
pub fn millis(duration: Duration) -> u64 {
    u64::try_from(duration.as_millis()).unwrap_or(u64::MAX)
}
