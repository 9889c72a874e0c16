//! Decides how many workers a pool should have. The decision is a function without I/O, and it has hysteresis.
//!
//! A worker is added if several consecutive observations show that the oldest job has waited too long and that all
//! workers are busy. A worker is removed if a larger number of consecutive observations show that no job waits and
//! that too many workers are idle. After each change the counting restarts, so the number of workers does not
//! oscillate.

/// Configures how pools add and remove workers. Users cannot set these options; the configuration only has
/// `workers.min` and `workers.max` for each pool.
#[derive(Clone, Debug, PartialEq)]
pub struct ScalingOptions {
    /// Interval between two observations of a pool, in seconds. The default is 0.1.
    pub interval_seconds: f64,
    /// Waiting time of the oldest job, in seconds, beyond which a pool adds workers. The default is 0.1.
    pub queue_age_seconds: f64,
    /// Number of consecutive observations after which a worker is added. Each of them must show that all workers are
    /// busy and that a job has waited too long. The default is 2.
    pub up_after: u32,
    /// Minimum share of workers that should be busy, from 0 to 1. If a smaller share is busy, the pool has one worker
    /// too many. The default is 0.5.
    pub idle_below: f64,
    /// Number of consecutive observations after which a worker is removed. Each of them must show that too many
    /// workers are idle. The default is 100.
    pub down_after: u32,
}

impl Default for ScalingOptions {
    fn default() -> Self {
        Self { interval_seconds: 0.1, queue_age_seconds: 0.1, up_after: 2, idle_below: 0.5, down_after: 100 }
    }
}

/// Describes one observation of a pool.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    pub workers: usize,
    pub busy: usize,
    pub queued: usize,
    pub oldest_seconds: f64,
}

/// Counts consecutive observations in favour of more workers, and consecutive observations in favour of fewer
/// workers.
#[derive(Clone, Debug, Default)]
pub struct Scaler {
    crowded: u32,
    idle: u32,
}

impl Scaler {
    /// Evaluates an observation, and returns the number of workers that the pool should have now.
    pub fn observe(&mut self, sample: Sample, min: usize, max: usize, options: &ScalingOptions) -> usize {
        let Sample { workers, busy, queued, oldest_seconds } = sample;
        let crowded = queued > 0 && busy >= workers && oldest_seconds >= options.queue_age_seconds;
        let idle = queued == 0 && (busy as f64) < options.idle_below * workers as f64;
        self.crowded = if crowded { self.crowded + 1 } else { 0 };
        self.idle = if idle { self.idle + 1 } else { 0 };
        let wanted = if self.crowded >= options.up_after {
            self.crowded = 0;
            workers + 1
        } else if self.idle >= options.down_after {
            self.idle = 0;
            workers.saturating_sub(1)
        } else {
            workers
        };
        wanted.clamp(min, max.max(min))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const CROWDED: (usize, f64) = (5, 1.0);
    const QUIET: (usize, f64) = (0, 0.0);

    fn run(steps: &[(usize, f64)], workers: &mut usize, scaler: &mut Scaler, options: &ScalingOptions) -> Vec<usize> {
        let mut sizes = Vec::new();
        for (queued, oldest_seconds) in steps {
            let busy = if *queued > 0 { *workers } else { 0 };
            let sample = Sample { workers: *workers, busy, queued: *queued, oldest_seconds: *oldest_seconds };
            *workers = scaler.observe(sample, 1, 3, options);
            sizes.push(*workers);
        }
        sizes
    }

    #[test]
    fn grows_while_the_queue_is_old_and_shrinks_only_after_a_long_quiet() {
        let options = ScalingOptions { up_after: 2, down_after: 3, ..Default::default() };
        let (mut workers, mut scaler) = (1, Scaler::default());
        assert_eq!(run(&[CROWDED; 6], &mut workers, &mut scaler, &options), [1, 2, 2, 3, 3, 3]);
        assert_eq!(run(&[QUIET; 7], &mut workers, &mut scaler, &options), [3, 3, 2, 2, 2, 1, 1]);
    }

    #[test]
    fn a_young_queue_or_a_free_worker_is_no_reason_to_grow() {
        let options = ScalingOptions { up_after: 1, ..Default::default() };
        let mut scaler = Scaler::default();
        let young = Sample { workers: 1, busy: 1, queued: 9, oldest_seconds: 0.05 };
        let free = Sample { workers: 2, busy: 1, queued: 1, oldest_seconds: 9.0 };
        assert_eq!(scaler.observe(young, 1, 4, &options), 1);
        assert_eq!(scaler.observe(free, 1, 4, &options), 2);
    }

    proptest! {
        /// Checks that the number of workers never changes too soon after its previous change. For any load, at least
        /// the configured number of observations must lie between two changes.
        #[test]
        fn never_flaps(loads in proptest::collection::vec(any::<bool>(), 0..200)) {
            let options = ScalingOptions { up_after: 3, down_after: 4, ..Default::default() };
            let (mut workers, mut scaler, mut since) = (2, Scaler::default(), u32::MAX);
            for crowded in loads {
                let before = workers;
                let step = [if crowded { CROWDED } else { QUIET }];
                run(&step, &mut workers, &mut scaler, &options);
                prop_assert!((1..=3).contains(&workers));
                since = since.saturating_add(1);
                if workers != before {
                    prop_assert!(since >= options.up_after.min(options.down_after));
                    since = 0;
                }
            }
        }
    }
}
