//! Generates the sort keys of the audit log. Each key consists of a time in microseconds, `#` and a ULID.

use ulid::Ulid;

use docweir_core::clock::{UnixMicros, timestamp};

/// Smallest backward step of the clock, in microseconds, that is visible in the keys. After a smaller step, keys
/// repeat the last time until the clock has caught up, so that entries stay in the order in which they were written.
/// After a step of this size or more, keys use the new time.
const MAX_STEP_BACK: UnixMicros = 10 * 60 * 1_000_000;

/// Generates the keys of one writer. Each key is greater than the previous key, unless the clock was set back by
/// 10 minutes or more.
#[derive(Debug, Default)]
pub struct Stamps {
    last: UnixMicros,
    ulid: Option<Ulid>,
}

impl Stamps {
    pub fn next(&mut self, now: UnixMicros) -> String {
        let at = if now < self.last && self.last - now < MAX_STEP_BACK { self.last } else { now };
        self.last = at;
        let milliseconds = u64::try_from(at / 1000).unwrap_or(0);
        let ulid = match self.ulid {
            // The random part has 80 bits. Drawing it with the top bit clear leaves room for 2^79 entries per
            // millisecond.
            Some(last) if last.timestamp_ms() == milliseconds => Ulid(last.0 + 1),
            _ => Ulid::from_parts(milliseconds, fastrand::u128(..) >> 1 & (u128::MAX >> 49)),
        };
        self.ulid = Some(ulid);
        format!("{}#{ulid}", timestamp(at))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: UnixMicros = 1_763_718_000_123_456;

    #[test]
    fn ten_thousand_entries_in_one_microsecond_are_apart_and_in_order() {
        let mut stamps = Stamps::default();
        let keys: Vec<_> = (0..10_000).map(|_| stamps.next(NOW)).collect();
        assert!(keys.windows(2).all(|w| w[0] < w[1]));
        assert!(keys[0].starts_with("2025-11-21T09:40:00.123456Z#"), "{}", keys[0]);
        assert_eq!(keys[0].len(), "2025-11-21T09:40:00.123456Z#".len() + 26);
    }

    #[test]
    fn a_clock_that_steps_back_a_little_changes_no_order_and_one_that_steps_back_far_is_believed() {
        let mut stamps = Stamps::default();
        let before = stamps.next(NOW);
        assert!(stamps.next(NOW - 1_000_000) > before);
        assert!(stamps.next(NOW - MAX_STEP_BACK) < before);
    }
}
