//! Implements a rate budget that refills continuously.

use std::time::Duration;

use tokio::time::Instant;

/// Maximum wait that [`Bucket::wait_for`] returns, in seconds, even if the reported limits are very low.
const LONGEST: f64 = 86_400.0;

/// Holds a budget per minute. Unused budget is saved up to the capacity of the bucket.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Bucket {
    per_second: f64,
    /// Maximum amount of unused budget that is saved up.
    capacity: f64,
    /// Amount that was left at the time `at`. Negative if more was used than the bucket held, for example by another
    /// process.
    level: f64,
    at: Instant,
}

impl Bucket {
    /// Creates a full bucket. `burst` is the time that an empty bucket takes to fill.
    pub fn new(per_minute: f64, burst: Duration, now: Instant) -> Self {
        let per_second = per_minute / 60.0;
        let capacity = (per_second * burst.as_secs_f64()).max(1.0);
        Self { per_second, capacity, level: capacity, at: now }
    }

    pub fn level(&self, now: Instant) -> f64 {
        self.refilled(now).min(self.capacity)
    }

    fn refilled(&self, now: Instant) -> f64 {
        self.level + now.saturating_duration_since(self.at).as_secs_f64() * self.per_second
    }

    pub fn per_minute(&self) -> f64 {
        self.per_second * 60.0
    }

    /// Returns the time until `amount` can be taken. For an `amount` above the capacity, the bucket refills beyond
    /// its capacity, so the wait always ends.
    pub fn wait_for(&self, amount: f64, now: Instant) -> Duration {
        let missing = amount - self.refilled(now);
        if missing <= 0.0 {
            return Duration::ZERO;
        }
        Duration::from_secs_f64((missing / self.per_second).min(LONGEST)).max(Duration::from_millis(1))
    }

    pub fn take(&mut self, amount: f64, now: Instant) {
        self.level = self.refilled(now).min(self.capacity.max(amount)) - amount;
        self.at = now;
    }

    /// Adopts the budget that the provider reports. `per_minute` is the provider's limit, and `level` is the amount
    /// that is left.
    pub fn correct(&mut self, per_minute: Option<f64>, level: f64, now: Instant) {
        if let Some(per_minute) = per_minute.filter(|limit| *limit >= 1.0) {
            self.per_second = per_minute / 60.0;
        }
        // The reported amount is more reliable than the configured capacity.
        self.capacity = self.capacity.max(level);
        self.level = level;
        self.at = now;
    }

    /// Empties the bucket after the provider refused a call. Also halves the capacity, because the refusal shows that
    /// the provider permits smaller bursts than assumed.
    pub fn empty(&mut self, now: Instant) {
        self.capacity = (self.capacity / 2.0).max(self.per_second).max(1.0);
        self.level = self.level(now).min(0.0);
        self.at = now;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn it_refills_up_to_its_capacity_and_lends_to_the_large() {
        let start = Instant::now();
        let at = |seconds: f64| start + Duration::from_secs_f64(seconds);
        let mut bucket = Bucket::new(600.0, Duration::from_secs(10), start);
        assert_eq!((bucket.level(start), bucket.level(at(100.0))), (100.0, 100.0));
        bucket.take(100.0, start);
        assert_eq!(bucket.wait_for(50.0, start), Duration::from_secs(5));
        assert_eq!(bucket.wait_for(50.0, at(5.0)), Duration::ZERO);
        // The amount is larger than the capacity.
        assert_eq!(bucket.wait_for(1_000.0, at(5.0)), Duration::from_secs(95));
        bucket.take(1_000.0, at(100.0));
        assert_eq!(bucket.wait_for(1.0, at(100.0)), Duration::from_millis(100));
        bucket.correct(Some(1_200.0), 400.0, at(101.0));
        assert_eq!((bucket.level(at(102.0)), bucket.per_minute()), (400.0, 1_200.0));
        bucket.empty(at(102.0));
        assert_eq!(bucket.wait_for(20.0, at(102.0)), Duration::from_secs(1));
    }
}
