//! Provides the only access to the clock.
//!
//! Records are stamped with wall time; waits and durations use monotonic time. Code outside this module receives a
//! [`Clock`], so that a test or a simulation can stop the time. The file `clippy.toml` bans `SystemTime::now` and
//! `Instant::now` elsewhere.

use std::sync::Arc;
use std::sync::atomic::{AtomicI64, Ordering};
use std::time::Duration;

use async_trait::async_trait;
use time::OffsetDateTime;
use time::macros::format_description;

/// Microseconds since the Unix epoch, UTC.
pub type UnixMicros = i64;

#[async_trait]
pub trait Clock: Send + Sync + 'static {
    /// Returns the wall time. Wall time may jump, so do not measure durations with it.
    fn now(&self) -> UnixMicros;
    /// Waits for `duration` on the monotonic clock.
    async fn sleep(&self, duration: Duration);
}

pub type SharedClock = Arc<dyn Clock>;

/// Implements [`Clock`] with the clock of the machine.
#[derive(Clone, Copy, Debug, Default)]
pub struct SystemClock;

#[async_trait]
impl Clock for SystemClock {
    #[allow(clippy::disallowed_methods, reason = "this is the one place that may read the clock")]
    fn now(&self) -> UnixMicros {
        let since = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
        i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
    }

    async fn sleep(&self, duration: Duration) {
        tokio::time::sleep(duration).await;
    }
}

/// Implements [`Clock`] for tests and simulations. Only `advance` and `sleep` move the time forward.
#[derive(Debug, Default)]
pub struct ManualClock(AtomicI64);

impl ManualClock {
    pub fn at(micros: UnixMicros) -> Self {
        Self(AtomicI64::new(micros))
    }

    pub fn advance(&self, by: Duration) {
        self.0.fetch_add(i64::try_from(by.as_micros()).unwrap_or(i64::MAX), Ordering::SeqCst);
    }
}

#[async_trait]
impl Clock for ManualClock {
    fn now(&self) -> UnixMicros {
        self.0.load(Ordering::SeqCst)
    }

    async fn sleep(&self, duration: Duration) {
        self.advance(duration);
        tokio::task::yield_now().await;
    }
}

/// Formats a time as `2026-11-21T09:30:00.000123Z`. All records, logs and artefacts use this format. Sorting the
/// formatted texts also sorts the times.
pub fn timestamp(at: UnixMicros) -> String {
    let format = format_description!("[year]-[month]-[day]T[hour]:[minute]:[second].[subsecond digits:6]Z");
    OffsetDateTime::from_unix_timestamp_nanos(i128::from(at) * 1000)
        .ok()
        .and_then(|t| t.format(&format).ok())
        .unwrap_or_else(|| "9999-12-31T23:59:59.999999Z".into())
}

/// Parses an RFC 3339 timestamp, such as the output of [`timestamp`].
pub fn parse_timestamp(text: &str) -> Option<UnixMicros> {
    let t = OffsetDateTime::parse(text, &time::format_description::well_known::Rfc3339).ok()?;
    i64::try_from(t.unix_timestamp_nanos() / 1000).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_round_trip_and_sort_as_text() {
        let times = [0, 1, 999_999, 1_000_000, 1_763_718_000_123_456];
        let texts: Vec<_> = times.iter().map(|&t| timestamp(t)).collect();
        assert_eq!(texts[0], "1970-01-01T00:00:00.000000Z");
        assert!(texts.is_sorted());
        for (time, text) in times.iter().zip(&texts) {
            assert_eq!(parse_timestamp(text), Some(*time));
        }
    }
}
