//! Limits of the SQLite control store.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::sqlite::OpenOptions;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct SqliteControlOptions {
    /// Milliseconds to wait while another process writes to the database, before the store reports that it is busy.
    /// Default 10000.
    pub busy_timeout_milliseconds: u64,
    /// Operations that may wait for the writer; whoever comes later waits for a place. Default 1024.
    pub queue_operations: usize,
    /// Operations written by one commit at most. Default 256.
    pub batch_operations: usize,
    /// Connections for reading, which is also how many reads run at once. Default 2.
    pub read_connections: usize,
    /// Pages (of 4 KiB) that the write-ahead log gathers before they are moved into the database. Default 4000.
    pub wal_pages: u32,
    /// Kibibytes of the database that the writer keeps in memory. Default 2048.
    pub page_cache_kibibytes: u32,
    /// Attempts that a record says a stage has (`max_retries`): the engine sets it to `retry.attempts`.
    #[serde(skip)]
    pub max_retries: u32,
    /// Days after its last change at which a record says it may be forgotten (`ttl`). Only records of deleted documents
    /// ever are. Default 90.
    pub record_days: u32,
    /// Days that an entry of the audit log is kept. Default 180.
    pub audit_days: u32,
    /// Expired audit entries removed by one run at most, in steps between other work. Default 100000.
    pub prune_rows: u64,
}

impl Default for SqliteControlOptions {
    fn default() -> Self {
        Self {
            busy_timeout_milliseconds: 10_000,
            queue_operations: 1024,
            batch_operations: 256,
            read_connections: 2,
            wal_pages: 4000,
            page_cache_kibibytes: 2_048,
            max_retries: 3,
            record_days: 90,
            audit_days: 180,
            prune_rows: 100_000,
        }
    }
}

impl SqliteControlOptions {
    /// Fields out of range, and their ranges.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let mut check = |field, value: u64, low: u64, high: u64| {
            if !(low..=high).contains(&value) {
                problems.push((field, format!("{value} is out of range: use {low} to {high}")));
            }
        };
        check("busy_timeout_milliseconds", self.busy_timeout_milliseconds, 1, 600_000);
        check("queue_operations", self.queue_operations as u64, 1, 1_000_000);
        check("batch_operations", self.batch_operations as u64, 1, 10_000);
        check("read_connections", self.read_connections as u64, 1, 64);
        check("wal_pages", u64::from(self.wal_pages), 100, 1_000_000);
        check("page_cache_kibibytes", u64::from(self.page_cache_kibibytes), 256, 4_194_304);
        check("record_days", u64::from(self.record_days), 1, 36_500);
        check("audit_days", u64::from(self.audit_days), 1, 36_500);
        check("prune_rows", self.prune_rows, 0, 100_000_000);
        problems
    }

    pub(super) fn busy_timeout(&self) -> Duration {
        Duration::from_millis(self.busy_timeout_milliseconds)
    }

    pub fn opening(&self) -> OpenOptions {
        OpenOptions {
            busy: self.busy_timeout(),
            wal_pages: self.wal_pages,
            page_cache_kibibytes: self.page_cache_kibibytes,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_in_range_and_zeros_are_not() {
        assert_eq!(SqliteControlOptions::default().problems(), []);
        let bad = SqliteControlOptions { batch_operations: 0, read_connections: 0, ..Default::default() };
        let fields: Vec<_> = bad.problems().into_iter().map(|(field, _)| field).collect();
        assert_eq!(fields, ["batch_operations", "read_connections"]);
    }
}
