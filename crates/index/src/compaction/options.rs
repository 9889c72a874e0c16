//! Defines when files are merged, and the limits of a merge.

use serde::{Deserialize, Serialize};

/// Configures the merging of vector files: `[compaction]` of config.toml.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CompactionOptions {
    /// If true, vector files are merged in the background during a run. If false, files accumulate and slow down
    /// searches. The command `docweir compact` then merges the files.
    pub automatic: bool,
    /// Number of deltas (files of one commit each) at which a merge starts. A lower number makes searches faster and
    /// merges more frequent.
    pub deltas: usize,
    /// Total size of the deltas, in bytes, at which a merge starts.
    pub delta_bytes: u64,
    /// Age, in seconds, at which a delta starts a merge, even if there is only one delta.
    pub delta_age_seconds: u64,
    /// Number of snapshots in one size tier that starts a merge of these snapshots. The maximum size of a snapshot
    /// also grows by this factor from one tier to the next.
    #[serde(skip)]
    pub tier_factor: usize,
    /// Maximum number of rows of a snapshot in the smallest tier.
    #[serde(skip)]
    pub smallest_tier_rows: u64,
    /// Memory limit of a merge, in bytes, not counting memory-mapped files. A lower limit makes merges slower.
    pub memory_bytes: u64,
    /// Number of groups of deltas that are merged in parallel. The groups share `memory_bytes`.
    pub threads: usize,
    /// Interval, in seconds, at which the compactor checks whether a merge is due.
    pub poll_seconds: u64,
    /// Time, in seconds, after which the lease on merging expires if it is not renewed. After a crash, the next merge
    /// waits for this time.
    pub lease_seconds: u64,
    /// Interval between two renewals (heartbeats) of the lease, in seconds. At most half of `lease_seconds`.
    pub heartbeat_seconds: u64,
    /// Number of consecutive failed heartbeats after which the holder abandons the lease.
    #[serde(skip)]
    pub heartbeat_failures: u32,
    /// Maximum duration of one merge, in seconds. A merge that takes longer is cancelled and fails.
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
    /// Returns the invalid fields, each with a description of the problem.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let mut range = |field, value: u64, low: u64, high: u64| {
            if !(low..=high).contains(&value) {
                found.push((field, format!("must be between {low} and {high}, not {value}")));
            }
        };
        range("deltas", self.deltas as u64, 2, 10_000);
        range("delta_bytes", self.delta_bytes, 1 << 16, 1 << 40);
        range("delta_age_seconds", self.delta_age_seconds, 1, 31_536_000);
        range("memory_bytes", self.memory_bytes, 16 << 20, 1 << 40);
        range("threads", self.threads as u64, 1, 256);
        range("poll_seconds", self.poll_seconds, 1, 86_400);
        range("lease_seconds", self.lease_seconds, 3, 86_400);
        range("heartbeat_seconds", self.heartbeat_seconds, 1, 86_400);
        range("work_seconds", self.work_seconds, 1, 86_400);
        if self.heartbeat_seconds.saturating_mul(2) > self.lease_seconds {
            let reason = format!("must be at most half of lease_seconds ({})", self.lease_seconds);
            found.push(("heartbeat_seconds", reason));
        }
        found
    }
}
