//! Holds the progress of a run. The pipeline updates the progress several times a second, and the progress display
//! reads it.
//!
//! The numbers are only displayed. No decision depends on them, so slightly outdated numbers are acceptable.

use std::sync::{Mutex, PoisonError};

use serde::Serialize;

use docweir_admission::{GateStatus, Shut};
use docweir_core::documents::Stage;

/// Shares the progress of a run between the pipeline and its readers.
#[derive(Debug, Default)]
pub struct SharedProgress(Mutex<ProgressSnapshot>);

/// Describes the progress of a run at one moment.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ProgressSnapshot {
    pub intake: IntakeRow,
    /// State of each stage, in stage order. Empty until the pools are started.
    pub stages: Vec<StageRow>,
    /// State of the embedding provider; `None` if the run uses no provider.
    pub provider: Option<ProviderRow>,
    /// True while the run drains: it starts no new work and finishes the running work.
    pub draining: bool,
}

/// Describes how many files intake has inspected.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct IntakeRow {
    /// Number of files inspected so far.
    pub files: u64,
    /// True if intake has inspected all files.
    pub finished: bool,
}

/// Counts the documents in the pool of one stage. Only `done`, `retried` and `quarantined` are totals since the start
/// of the run.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct StageRow {
    pub stage: Stage,
    /// Number of documents that wait for a worker, for their next attempt, or for room in the next stage.
    pub waiting: u64,
    pub in_flight: u64,
    pub done: u64,
    pub retried: u64,
    pub quarantined: u64,
    /// Number of running workers.
    pub workers: u64,
}

/// Describes an embedding provider: its rate limits, and the calls that wait to be sent.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct ProviderRow {
    /// Name of the provider's model.
    pub name: String,
    /// Number of calls that are running.
    pub running: u64,
    /// Calls that wait for admission, by collection.
    pub waiting: Vec<WaitingRow>,
    /// Number of tokens that may be sent now. `None` if tokens are not limited.
    pub tokens_left: Option<f64>,
    pub tokens_per_minute: Option<f64>,
    pub requests_left: Option<f64>,
    pub requests_per_minute: Option<f64>,
    /// Reason why no call may be sent now: `throttled`, `insufficient_quota`, `provider_down` or
    /// `provider_unreadable`. `None` while calls are allowed.
    pub closed: Option<&'static str>,
    /// Number of seconds until calls are allowed again; 0 while calls are allowed.
    pub closed_seconds: f64,
}

/// Describes the waiting calls of one collection.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct WaitingRow {
    pub collection: String,
    pub calls: u64,
    /// Longest time that any waiting call of the collection has waited so far, in seconds.
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
            Some((Shut::Unreadable, left)) => (Some("provider_unreadable"), *left),
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
