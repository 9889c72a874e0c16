//! How a run stands at this moment: the pipeline writes it a few times a second, progress reads it.
//!
//! Figures for people. Nothing is decided by them, so a reader may see a state that is a moment old.

use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use docweir_admission::{GateStatus, Shut};
use docweir_core::documents::Stage;

/// Shared between the pipeline and whoever shows it.
#[derive(Debug, Default)]
pub struct SharedProgress(Mutex<ProgressSnapshot>);

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ProgressSnapshot {
    pub intake: IntakeRow,
    /// In the order of the stages; empty until the pools are up.
    pub stages: Vec<StageRow>,
    /// What is asked of the provider that embeds, if there is one.
    pub provider: Option<ProviderRow>,
    /// No new work is taken; what runs comes to its end.
    pub draining: bool,
}

/// How far the look at the files has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct IntakeRow {
    /// Files looked at so far.
    pub files: u64,
    /// All of them were.
    pub finished: bool,
}

/// One stage's pool. Counts of documents; `done`, `retried` and `quarantined` since the run began.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct StageRow {
    pub stage: Stage,
    /// For a worker, for the time of a retry, for a place in the next stage.
    pub waiting: u64,
    pub in_flight: u64,
    pub done: u64,
    pub retried: u64,
    pub quarantined: u64,
    /// Workers now.
    pub workers: u64,
}

/// A provider's budget, and who waits for it.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ProviderRow {
    /// Of its model.
    pub name: String,
    /// Calls under way.
    pub running: u64,
    /// Calls that wait for their turn, by collection.
    pub waiting: Vec<WaitingRow>,
    /// What may be asked just now, and in a minute; `None` without a limit.
    pub tokens_left: Option<f64>,
    pub tokens_per_minute: Option<f64>,
    pub requests_left: Option<f64>,
    pub requests_per_minute: Option<f64>,
    /// Why nobody may call: `throttled`, `insufficient_quota`, `provider_down`; and for how many seconds yet.
    pub closed: Option<&'static str>,
    pub closed_seconds: f64,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WaitingRow {
    pub collection: String,
    pub calls: u64,
    /// The longest wait.
    pub seconds: f64,
}

impl ProviderRow {
    pub fn of(name: &str, status: &GateStatus) -> Self {
        let waiting = |(lane, (calls, longest)): (&std::sync::Arc<str>, &(u64, std::time::Duration))| WaitingRow {
            collection: lane.to_string(),
            calls: *calls,
            seconds: longest.as_secs_f64(),
        };
        let (closed, left) = match &status.shut {
            Some((Shut::QuotaSpent, left)) => (Some("insufficient_quota"), *left),
            Some((Shut::Down, left)) => (Some("provider_down"), *left),
            None if !status.closed_for.is_zero() => (Some("throttled"), status.closed_for),
            None => (None, std::time::Duration::ZERO),
        };
        Self {
            name: name.to_owned(),
            running: status.running as u64,
            waiting: status.waiting.iter().map(waiting).collect(),
            tokens_left: status.tokens.map(|b| b.left),
            tokens_per_minute: status.tokens.map(|b| b.per_minute),
            requests_left: status.requests.map(|b| b.left),
            requests_per_minute: status.requests.map(|b| b.per_minute),
            closed,
            closed_seconds: left.as_secs_f64(),
        }
    }
}

impl StageRow {
    pub fn new(stage: Stage) -> Self {
        Self { stage, waiting: 0, in_flight: 0, done: 0, retried: 0, quarantined: 0, workers: 0 }
    }
}

impl SharedProgress {
    pub fn update(&self, change: impl FnOnce(&mut ProgressSnapshot)) {
        change(&mut self.0.lock().unwrap_or_else(PoisonError::into_inner));
    }

    pub fn snapshot(&self) -> ProgressSnapshot {
        self.0.lock().unwrap_or_else(PoisonError::into_inner).clone()
    }
}
