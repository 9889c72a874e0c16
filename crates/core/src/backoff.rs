//! Computes the waits between attempts: exponential, with a limit and jitter.
//!
//! This module neither waits nor draws random numbers; the caller passes in each random number. A caller that draws
//! the numbers from a seeded `fastrand::Rng` gets the same waits for the same seed, so a simulation can be repeated
//! exactly.

use std::time::Duration;

/// Maximum exponent of `factor` in the computation of a wait. A larger exponent would have no effect, because with this
/// exponent the wait already exceeds every limit that the configuration allows.
const LARGEST_POWER: u32 = 64;

/// Describes waits that grow by a factor with each retry.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Backoff {
    /// Wait before the first retry.
    pub initial: Duration,
    /// Factor between one wait and the next.
    pub factor: f64,
    /// Longest wait, before jitter is applied.
    pub cap: Duration,
    /// Smallest and largest factor that jitter applies to a wait; `(1.0, 1.0)` disables jitter.
    pub jitter: (f64, f64),
}

impl Backoff {
    /// Returns waits that double up to `cap`, without jitter.
    pub const fn doubling(initial: Duration, cap: Duration) -> Self {
        Self { initial, factor: 2.0, cap, jitter: (1.0, 1.0) }
    }

    /// Returns waits that double up to `cap`, without jitter. Both arguments are in seconds. Negative numbers and NaN
    /// count as 0; numbers that are too large count as the longest possible duration.
    pub fn doubling_seconds(initial: f64, cap: f64) -> Self {
        Self::doubling(duration(initial), duration(cap))
    }

    /// Returns a copy that multiplies each wait by a random factor between `least` and `most`.
    pub const fn with_jitter(self, least: f64, most: f64) -> Self {
        Self { jitter: (least, most), ..self }
    }

    /// Returns the wait before the next retry, without jitter. `retries` is the number of earlier retries.
    pub fn limit(&self, retries: u32) -> Duration {
        let power = i32::try_from(retries.min(LARGEST_POWER)).unwrap_or_default();
        duration(self.initial.as_secs_f64() * self.factor.powi(power)).min(self.cap)
    }

    /// Returns the wait before the next retry, with jitter. `retries` is the number of earlier retries, and `random`
    /// is a random number in `0.0..1.0`.
    pub fn wait(&self, retries: u32, random: f64) -> Duration {
        let (least, most) = self.jitter;
        duration(self.limit(retries).as_secs_f64() * (least + (most - least) * random))
    }
}

/// Converts seconds to a duration. Negative numbers and NaN become 0; numbers that are too large become the longest
/// possible duration.
fn duration(seconds: f64) -> Duration {
    let out_of_range = if seconds > 0.0 { Duration::MAX } else { Duration::ZERO };
    Duration::try_from_secs_f64(seconds).unwrap_or(out_of_range)
}

#[cfg(test)]
mod tests {
    use super::*;

    const fn ms(milliseconds: u64) -> Duration {
        Duration::from_millis(milliseconds)
    }

    #[test]
    fn waits_grow_by_the_factor_up_to_the_cap() {
        let doubling = Backoff::doubling(ms(100), ms(1_500));
        let slower = Backoff { factor: 1.5, ..doubling };
        let none = Backoff::doubling(Duration::ZERO, ms(1_500));
        let capped = Backoff::doubling(ms(100), ms(30));
        let table = [
            (doubling, 0, ms(100)),
            (doubling, 1, ms(200)),
            (doubling, 3, ms(800)),
            (doubling, 4, ms(1_500)),
            (doubling, u32::MAX, ms(1_500)),
            (slower, 2, ms(225)),
            (slower, 40, ms(1_500)),
            (none, 0, Duration::ZERO),
            (none, u32::MAX, Duration::ZERO),
            (capped, 0, ms(30)),
        ];
        for (backoff, retries, expected) in table {
            assert_eq!(backoff.limit(retries), expected, "{backoff:?} after {retries}");
            assert_eq!(backoff.wait(retries, 0.7), expected, "no jitter: {backoff:?} after {retries}");
        }
    }

    #[test]
    fn jitter_is_a_share_of_the_capped_wait() {
        let backoff = Backoff::doubling(ms(100), ms(400));
        let table = [
            ((0.0, 1.0), 0, 0.0, ms(0)),
            ((0.0, 1.0), 0, 0.25, ms(25)),
            ((0.5, 1.0), 1, 0.0, ms(100)),
            ((0.5, 1.0), 1, 0.5, ms(150)),
            ((0.5, 1.5), 9, 0.5, ms(400)),
            ((0.5, 1.5), 9, 0.75, ms(500)),
            ((0.75, 1.0), 2, 0.0, ms(300)),
        ];
        for ((least, most), retries, random, expected) in table {
            let wait = backoff.with_jitter(least, most).wait(retries, random);
            assert_eq!(wait, expected, "{least}..{most} after {retries} with {random}");
        }
    }

    #[test]
    fn numbers_that_are_no_time_are_none_or_the_longest() {
        let table = [
            (f64::NAN, Duration::ZERO),
            (-1.0, Duration::ZERO),
            (f64::INFINITY, Duration::MAX),
            (1e300, Duration::MAX),
        ];
        for (seconds, expected) in table {
            assert_eq!(Backoff::doubling_seconds(seconds, f64::INFINITY).limit(0), expected, "{seconds}");
        }
        assert_eq!(Backoff::doubling(ms(1), Duration::MAX).wait(u32::MAX, 0.5), duration(0.001 * 2f64.powi(64)));
    }
}
