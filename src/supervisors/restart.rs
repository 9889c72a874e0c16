//! Decides whether and when a dead child is restarted. The decision is a function without I/O and follows Erlang's
//! supervisors.
//!
//! At most `max_restarts` restarts are allowed within `window_seconds`, each after a longer wait than the previous
//! one. Beyond that limit another restart is unlikely to help, so the supervisor escalates to its parent.

use std::collections::VecDeque;
use std::time::Duration;

use docweir_core::backoff::Backoff;
use docweir_core::ranges::out_of_range;
use serde::{Deserialize, Serialize};
use tokio::time::Instant;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct RestartOptions {
    /// Maximum number of times within a minute that the workers of one pool are restarted. Beyond this limit, the
    /// whole pool is restarted.
    pub max_restarts: usize,
    /// Maximum number of times within a minute that a whole pool or service is restarted. Beyond this limit, the
    /// process ends.
    pub max_escalations: usize,
    /// Period in which restarts are counted, in seconds.
    #[serde(skip)]
    pub window_seconds: u64,
    /// Wait before the first restart, in seconds. Each further restart within the window doubles the wait.
    #[serde(skip)]
    pub backoff_initial_seconds: f64,
    /// Maximum wait before a restart, in seconds.
    #[serde(skip)]
    pub backoff_max_seconds: f64,
    /// Time, in seconds, that cancelled work may take to stop on its own. After this time, the work is dropped.
    #[serde(skip)]
    pub grace_seconds: f64,
    /// Maximum number of threads per pool and run that may keep running after their work was cancelled. Beyond this
    /// limit, the process ends.
    pub max_abandoned: u32,
}

impl Default for RestartOptions {
    fn default() -> Self {
        Self {
            max_restarts: 20,
            max_escalations: 3,
            window_seconds: 60,
            backoff_initial_seconds: 0.01,
            backoff_max_seconds: 5.0,
            grace_seconds: 5.0,
            max_abandoned: 16,
        }
    }
}

impl RestartOptions {
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let mut range = |field, value: f64, low, high| found.extend(out_of_range(field, value, low, high));
        range("max_restarts", self.max_restarts as f64, 0.0, 10_000.0);
        range("max_escalations", self.max_escalations as f64, 0.0, 1_000.0);
        range("max_abandoned", f64::from(self.max_abandoned), 0.0, 10_000.0);
        found
    }

    pub fn grace(&self) -> Duration {
        Duration::from_secs_f64(self.grace_seconds)
    }
}

/// Counts the deaths of a child within the window.
#[derive(Debug, Default)]
pub struct Intensity {
    deaths: VecDeque<Instant>,
}

/// Describes what follows the death of a child.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Restart {
    After(Duration),
    /// The child is not restarted, because it died too often. The supervisor escalates to its parent.
    Escalate,
}

impl Intensity {
    /// Records a death at `now`, and decides whether the child is restarted. `max` is the maximum number of restarts
    /// within the window.
    pub fn died(&mut self, now: Instant, max: usize, options: &RestartOptions) -> Restart {
        let window = Duration::from_secs(options.window_seconds);
        while self.deaths.front().is_some_and(|at| now.duration_since(*at) >= window) {
            self.deaths.pop_front();
        }
        if self.deaths.len() >= max {
            return Restart::Escalate;
        }
        let earlier = u32::try_from(self.deaths.len()).unwrap_or(u32::MAX);
        self.deaths.push_back(now);
        let backoff = Backoff::doubling_seconds(options.backoff_initial_seconds, options.backoff_max_seconds);
        Restart::After(backoff.limit(earlier))
    }

    /// Clears the counted deaths. Called when the parent has decided to restart the child.
    pub fn forgive(&mut self) {
        self.deaths.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn restarts_are_spaced_out_and_limited_within_the_window() {
        let options = RestartOptions { window_seconds: 10, backoff_initial_seconds: 1.0, ..Default::default() };
        let start = Instant::now();
        let at = |seconds| start + Duration::from_secs(seconds);
        let mut intensity = Intensity::default();
        let table = [
            (0, Restart::After(Duration::from_secs(1))),
            (1, Restart::After(Duration::from_secs(2))),
            (2, Restart::After(Duration::from_secs(4))),
            (3, Restart::Escalate),
            (9, Restart::Escalate),
            // The deaths at 0 s and 1 s are now outside the window.
            (11, Restart::After(Duration::from_secs(2))),
        ];
        for (seconds, expected) in table {
            assert_eq!(intensity.died(at(seconds), 3, &options), expected, "at {seconds}");
        }
        intensity.forgive();
        assert_eq!(intensity.died(at(12), 3, &options), Restart::After(Duration::from_secs(1)));
    }

    #[test]
    fn the_wait_has_a_ceiling_and_no_restart_may_be_allowed_at_all() {
        let options = RestartOptions { backoff_max_seconds: 5.0, ..Default::default() };
        let mut intensity = Intensity::default();
        let now = Instant::now();
        let waits: Vec<_> = (0..20).map(|_| intensity.died(now, 100, &options)).collect();
        assert_eq!(waits.last(), Some(&Restart::After(Duration::from_secs(5))));
        assert_eq!(Intensity::default().died(now, 0, &options), Restart::Escalate);
    }
}
