//! Defines the options of the SQLite control store.

use std::time::Duration;

use docweir_core::ranges::out_of_range;
use serde::{Deserialize, Serialize};

use crate::sqlite::OpenOptions;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct SqliteControlOptions {
    /// Maximum time, in milliseconds, to wait while another process writes to the database. After this time, the
    /// operation fails with the message that the store is busy.
    pub busy_timeout_milliseconds: u64,
    /// Maximum number of operations that wait in the writer's queue. When the queue is full, callers wait. A longer
    /// queue uses more memory.
    #[serde(skip)]
    pub queue_operations: usize,
    /// Maximum number of operations in one commit. A higher value raises throughput under load, but each operation
    /// waits for the whole commit.
    #[serde(skip)]
    pub batch_operations: usize,
    /// Number of read connections. Each connection serves one read at a time.
    #[serde(skip)]
    pub read_connections: usize,
    /// Number of 4 KiB pages that the write-ahead log collects before they are copied into the database. A larger log
    /// means fewer copies but more disk space.
    #[serde(skip)]
    pub wal_pages: u32,
    /// Size of the page cache of the writer's connection, in KiB.
    #[serde(skip)]
    pub page_cache_kibibytes: u32,
    /// Maximum number of attempts of a stage. This is not a setting of its own: the value of `retry.attempts` is
    /// copied here. Each new record stores the value as `max_retries`.
    #[serde(skip)]
    pub max_retries: u32,
    /// Number of days that the record of a deleted document is kept after the record's last change. Records of other
    /// documents are kept forever.
    pub record_days: u32,
    /// Number of days that an entry of the audit log is kept.
    pub audit_days: u32,
}

impl Default for SqliteControlOptions {
    fn default() -> Self {
        Self {
            busy_timeout_milliseconds: 10_000,
            queue_operations: 1024,
            batch_operations: 256,
            read_connections: 2,
            wal_pages: 4000,
            page_cache_kibibytes: 16_384,
            max_retries: 3,
            record_days: 90,
            audit_days: 180,
        }
    }
}

impl SqliteControlOptions {
    /// Returns each field that is out of range, with a message that names the valid range.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let mut check = |field, value: u64, low, high| problems.extend(out_of_range(field, value, low, high));
        check("busy_timeout_milliseconds", self.busy_timeout_milliseconds, 1, 600_000);
        check("record_days", u64::from(self.record_days), 1, 36_500);
        check("audit_days", u64::from(self.audit_days), 1, 36_500);
        problems
    }

    pub(super) fn busy_timeout(&self) -> Duration {
        Duration::from_millis(self.busy_timeout_milliseconds)
    }

    pub fn opening(&self) -> OpenOptions {
        OpenOptions::durable(self.busy_timeout(), self.wal_pages, self.page_cache_kibibytes)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_in_range_and_zeros_are_not() {
        assert_eq!(SqliteControlOptions::default().problems(), []);
        let bad = SqliteControlOptions { record_days: 0, audit_days: 0, ..Default::default() };
        let fields: Vec<_> = bad.problems().into_iter().map(|(field, _)| field).collect();
        assert_eq!(fields, ["record_days", "audit_days"]);
    }
}
