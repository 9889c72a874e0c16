//! Defines the statistics that a pool reports.

use serde::Serialize;

/// Names the state of a pool.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum PoolState {
    Running,
    Draining,
    /// Workers died too often. The root decides whether the pool is restarted.
    Escalated,
    /// A system failure stopped the pool, and the process is about to end.
    Failed,
    Ended,
}

/// Describes the state of a pool at one moment. `in_flight` is the number of jobs in the pool: the sum of the queued,
/// busy, retry-waiting, persisting and forwarding jobs.
#[derive(Clone, Debug, Serialize)]
pub struct PoolStats {
    pub name: String,
    pub state: PoolState,
    pub workers: usize,
    pub want: usize,
    pub min: usize,
    pub max: usize,
    pub idle: usize,
    pub busy: usize,
    pub queued: usize,
    pub queued_urgent: usize,
    pub oldest_queued_seconds: f64,
    pub retry_waiting: usize,
    #[serde(rename = "settling")]
    pub persisting: usize,
    /// Number of finished jobs that wait for room in the next pool.
    pub forwarding: usize,
    pub in_flight: usize,
    pub max_in_flight: usize,
    pub bytes: usize,
    pub max_bytes: usize,
    #[serde(flatten)]
    pub counts: Counts,
}

/// Counts events since the pool was started.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Counts {
    pub done: u64,
    /// Number of failed attempts. Throttled calls and system failures are not included.
    pub failed: u64,
    pub throttled: u64,
    pub quarantined: u64,
    pub parked: u64,
    pub released: u64,
    pub fenced: u64,
    pub restarts: u64,
    pub escalations: u64,
    pub hung: u64,
    pub abandoned: u64,
    pub job_seconds: f64,
    pub blocked_seconds: f64,
}
