//! Decides whether a failed attempt is retried. The decision is a function of the error's class and the number of
//! earlier attempts, without I/O.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use docweir_core::backoff::Backoff;
use docweir_core::error::{ErrorClass, StageError};
use docweir_core::ranges::out_of_range;
use tokio::time::Instant;

/// Maximum wait after a system failure, in seconds.
const LONGEST_SYSTEM_SECONDS: f64 = 3_600.0;
/// Time for which a success shows that the stores and services work.
const RECENT: Duration = Duration::from_secs(120);
/// Maximum wait between two attempts during an outage, in seconds. Work resumes at most this long after its end.
const LONGEST_OUTAGE_SECONDS: f64 = 30.0;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RetryOptions {
    /// Maximum number of attempts at a stage, including the first. A document whose attempts all failed is
    /// quarantined. Throttled calls, outages and system failures do not count as attempts.
    pub attempts: u32,
    /// Waits before the attempts at a stage, in seconds. The list has one value per attempt, in order. The last value
    /// also applies to all further attempts. The first value is never used, because the first attempt starts without
    /// a wait.
    pub waits_seconds: Vec<f64>,
    /// Wait after the first throttled call, in seconds. Each consecutive throttled call doubles the wait. If the
    /// service names a wait, that wait is used instead.
    #[serde(skip)]
    pub throttle_initial_seconds: f64,
    /// Maximum wait after a throttled call, in seconds. This limit applies even if the service asks for a longer
    /// wait.
    #[serde(skip)]
    pub throttle_max_seconds: f64,
    /// Maximum duration of an outage of a store or the network, in seconds. During an outage, work waits and no attempt
    /// is consumed. If the outage lasts longer, the process ends, and the next run resumes the work. `docweir serve`
    /// waits without a limit.
    pub outage_seconds: u64,
    /// Time, in seconds, after which an outage that only one document sees counts as a failure of that document. An
    /// outage is seen by one document if other documents of the stage succeed meanwhile.
    pub alone_seconds: u64,
    /// Number of consecutive system failures at which the process ends. A full disk or a broken store causes a system
    /// failure.
    pub system_failures: u32,
    /// Wait after the first system failure, in seconds. Each consecutive system failure doubles the wait.
    #[serde(skip)]
    pub system_initial_seconds: f64,
}

impl Default for RetryOptions {
    fn default() -> Self {
        Self {
            attempts: 3,
            waits_seconds: vec![0.0, 2.0, 4.0],
            throttle_initial_seconds: 1.0,
            throttle_max_seconds: 120.0,
            outage_seconds: 3_600,
            alone_seconds: 600,
            system_failures: 5,
            system_initial_seconds: 0.2,
        }
    }
}

impl RetryOptions {
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let mut range = |field, value: f64, low, high| found.extend(out_of_range(field, value, low, high));
        range("attempts", f64::from(self.attempts), 1.0, 100.0);
        for wait in &self.waits_seconds {
            range("waits_seconds", *wait, 0.0, 86_400.0);
        }
        range("outage_seconds", self.outage_seconds as f64, 1.0, 31_536_000.0);
        range("alone_seconds", self.alone_seconds as f64, 1.0, 31_536_000.0);
        if self.alone_seconds >= self.outage_seconds {
            found
                .push(("alone_seconds", format!("must be less than `retry.outage_seconds` ({})", self.outage_seconds)));
        }
        let mut range = |field, value: f64, low, high| found.extend(out_of_range(field, value, low, high));
        range("system_failures", f64::from(self.system_failures), 1.0, 1_000.0);
        found
    }

    /// Returns whether an outage that has lasted for `failing` is seen by few: the time for that is over, and something
    /// that needs the same stores began meanwhile and has just succeeded. `success` holds the times at which it began
    /// and ended.
    pub fn is_alone(&self, failing: Duration, success: Option<(Instant, Instant)>) -> bool {
        failing >= Duration::from_secs(self.alone_seconds)
            && success.is_some_and(|(began, ended)| began.elapsed() < failing && ended.elapsed() < RECENT)
    }

    /// Returns the wait before the next attempt. `failed` is the number of attempts that have failed so far.
    fn wait(&self, failed: u32) -> Duration {
        let waits = &self.waits_seconds;
        let seconds = waits.get(failed as usize).or(waits.last()).copied().unwrap_or_default();
        Duration::from_secs_f64(seconds.max(0.0))
    }
}

/// Describes what happens after a failed attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum Decision {
    Retry {
        wait: Duration,
        /// True if the failed attempt counts towards the limit on attempts.
        consumes_attempt: bool,
    },
    Quarantine,
    /// The system is broken, so no job can be processed. The job did not cause the failure.
    Escalate,
}

/// Counts the failures of a job in direct succession that consumed no attempt: throttled calls, outages and system
/// failures.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Streak {
    pub failures: u32,
    /// Time since the first failure of the streak.
    pub lasts: Duration,
}

/// Decides what happens after a failed attempt. `failed` is the number of earlier failed attempts that count towards
/// the limit. `streak` describes the failures before this attempt, for this job.
pub fn decide(options: &RetryOptions, error: &StageError, failed: u32, streak: Streak) -> Decision {
    let in_a_row = streak.failures;
    match error.class {
        ErrorClass::Unavailable => {
            if streak.lasts >= Duration::from_secs(options.outage_seconds) {
                return Decision::Escalate;
            }
            let backoff = Backoff::doubling_seconds(options.system_initial_seconds, LONGEST_OUTAGE_SECONDS);
            Decision::Retry { wait: backoff.limit(in_a_row), consumes_attempt: false }
        }
        ErrorClass::Permanent => Decision::Quarantine,
        ErrorClass::Transient | ErrorClass::Timeout | ErrorClass::Crash => {
            if failed + 1 >= options.attempts {
                return Decision::Quarantine;
            }
            Decision::Retry { wait: options.wait(failed + 1), consumes_attempt: true }
        }
        ErrorClass::Throttled => {
            let (initial, max) = (options.throttle_initial_seconds, options.throttle_max_seconds);
            let backoff = Backoff::doubling_seconds(initial, max);
            let wait = error.retry_after.map_or_else(|| backoff.limit(in_a_row), |asked| asked.min(backoff.cap));
            Decision::Retry { wait, consumes_attempt: false }
        }
        ErrorClass::System => {
            if in_a_row + 1 >= options.system_failures {
                return Decision::Escalate;
            }
            let wait =
                Backoff::doubling_seconds(options.system_initial_seconds, LONGEST_SYSTEM_SECONDS).limit(in_a_row);
            Decision::Retry { wait, consumes_attempt: false }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn retry(seconds: f64, consumes_attempt: bool) -> Decision {
        Decision::Retry { wait: Duration::from_secs_f64(seconds), consumes_attempt }
    }

    #[test]
    fn class_and_attempts_decide() {
        use ErrorClass::*;
        let table = [
            (Permanent, 0, 0, Decision::Quarantine),
            (Transient, 0, 0, retry(2.0, true)),
            (Transient, 1, 0, retry(4.0, true)),
            (Transient, 2, 0, Decision::Quarantine),
            (Transient, 9, 0, Decision::Quarantine),
            (Timeout, 0, 0, retry(2.0, true)),
            (Crash, 1, 5, retry(4.0, true)),
            (Crash, 2, 0, Decision::Quarantine),
            (Throttled, 0, 0, retry(1.0, false)),
            (Throttled, 2, 3, retry(8.0, false)),
            (Throttled, 99, 40, retry(120.0, false)),
            (System, 2, 0, retry(0.2, false)),
            (System, 0, 3, retry(1.6, false)),
            (System, 0, 4, Decision::Escalate),
            (Unavailable, 2, 0, retry(0.2, false)),
            (Unavailable, 0, 3, retry(1.6, false)),
            (Unavailable, 0, 1_000, retry(30.0, false)),
        ];
        for (class, failed, failures, expected) in table {
            let error = StageError::new(class, "x", "x");
            let streak = Streak { failures, lasts: Duration::from_secs(3_599) };
            assert_eq!(decide(&RetryOptions::default(), &error, failed, streak), expected, "{class:?} {failed}");
        }
    }

    #[test]
    fn an_outage_is_waited_for_up_to_its_limit() {
        let error = StageError::unavailable("x", "x");
        let after = |seconds| {
            let streak = Streak { failures: 200, lasts: Duration::from_secs(seconds) };
            decide(&RetryOptions::default(), &error, 2, streak)
        };
        assert_eq!((after(3_599), after(3_600)), (retry(30.0, false), Decision::Escalate));
    }

    #[test]
    fn the_other_side_may_ask_for_a_wait_but_not_for_ever() {
        let options = RetryOptions::default();
        let asked = |seconds| StageError::throttled("slow down", Some(Duration::from_secs(seconds)));
        assert_eq!(decide(&options, &asked(7), 0, Streak::default()), retry(7.0, false));
        assert_eq!(decide(&options, &asked(100_000), 0, Streak::default()), retry(120.0, false));
    }

    #[test]
    fn one_attempt_means_no_retry_and_missing_waits_repeat_the_last() {
        let error = StageError::transient("x", "x");
        let once = RetryOptions { attempts: 1, ..Default::default() };
        assert_eq!(decide(&once, &error, 0, Streak::default()), Decision::Quarantine);
        let many = RetryOptions { attempts: 10, waits_seconds: vec![0.0, 3.0], ..Default::default() };
        assert_eq!(decide(&many, &error, 6, Streak::default()), retry(3.0, true));
    }
}
