//! When files are merged, and how much a merge may take.

use serde::{Deserialize, Serialize};

/// `[compaction]` of config.toml.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct CompactionOptions {
    /// Merge while a run lasts, in the background. Default true.
    pub automatic: bool,
    /// So many deltas are merged. Default 16.
    pub deltas: usize,
    /// So many bytes of deltas are merged. Default 67,108,864 (64 MiB).
    pub delta_bytes: u64,
    /// Deltas are merged when the oldest is so many seconds old. Default 900.
    pub delta_age_seconds: u64,
    /// So many snapshots of about the same size are merged, and a size is so many times the one below. Default 8.
    pub tier_factor: usize,
    /// Rows up to which snapshots count as being of the smallest size. Default 10,000.
    pub smallest_tier_rows: u64,
    /// Memory that a merge may take beside what is mapped, in bytes. Default 268,435,456 (256 MiB).
    pub memory_bytes: u64,
    /// Groups of deltas that are merged side by side; they share the memory. Default 2.
    pub threads: usize,
    /// Seconds between two looks at whether there is something to merge. Default 30.
    pub poll_seconds: u64,
    /// Seconds for which a lease holds without a sign of life. Default 300.
    pub lease_seconds: u64,
    /// Seconds between two signs of life. Default 60.
    pub heartbeat_seconds: u64,
    /// Failed signs of life in a row after which the holder gives up. Default 3.
    pub heartbeat_failures: u32,
    /// Seconds that one merge may take. Default 900.
    pub work_seconds: u64,
}

impl Default for CompactionOptions {
    fn default() -> Self {
        Self {
            automatic: true,
            deltas: 16,
            delta_bytes: 64 << 20,
            delta_age_seconds: 900,
            tier_factor: 8,
            smallest_tier_rows: 10_000,
            memory_bytes: 256 << 20,
            threads: 2,
            poll_seconds: 30,
            lease_seconds: 300,
            heartbeat_seconds: 60,
            heartbeat_failures: 3,
            work_seconds: 900,
        }
    }
}

impl CompactionOptions {
    /// Field and what is wrong with it.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let mut range = |field, value: u64, low: u64, high: u64| {
            if !(low..=high).contains(&value) {
                found.push((field, format!("is {value}, must be between {low} and {high}")));
            }
        };
        range("deltas", self.deltas as u64, 2, 10_000);
        range("delta_bytes", self.delta_bytes, 1 << 16, 1 << 40);
        range("delta_age_seconds", self.delta_age_seconds, 1, 31_536_000);
        range("tier_factor", self.tier_factor as u64, 2, 100);
        range("smallest_tier_rows", self.smallest_tier_rows, 1, 1 << 32);
        range("memory_bytes", self.memory_bytes, 16 << 20, 1 << 40);
        range("threads", self.threads as u64, 1, 256);
        range("poll_seconds", self.poll_seconds, 1, 86_400);
        range("lease_seconds", self.lease_seconds, 3, 86_400);
        range("heartbeat_seconds", self.heartbeat_seconds, 1, 86_400);
        range("heartbeat_failures", self.heartbeat_failures.into(), 1, 100);
        range("work_seconds", self.work_seconds, 1, 86_400);
        if self.heartbeat_seconds.saturating_mul(2) > self.lease_seconds {
            let reason = format!("leaves no time for a second try within lease_seconds ({})", self.lease_seconds);
            found.push(("heartbeat_seconds", reason));
        }
        found
    }
}
