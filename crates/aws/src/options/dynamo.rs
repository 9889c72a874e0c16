//! Defines the options of the DynamoDB store: table names, limits and retention.

use docweir_core::ranges::out_of_range;
use serde::{Deserialize, Serialize};

/// Returns whether DynamoDB accepts `name` as a table name.
pub fn is_table_name(name: &str) -> bool {
    let letters = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
    letters && (3..=255).contains(&name.len())
}

/// Configures the tables and limits of the state that is kept in DynamoDB.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct DynamoOptions {
    /// Endpoint of DynamoDB. Empty means `aws.endpoint`, or AWS itself if `aws.endpoint` is empty too.
    pub endpoint: String,
    /// Name of the table that holds the control records.
    pub control_table: String,
    /// Name of the table that holds the audit log.
    pub audit_table: String,
    /// Name of the table that holds the daily metrics.
    pub metrics_table: String,
    /// Name of the table that maps sources to documents and holds the leases.
    pub state_table: String,
    /// Name of the table that holds the ledger, which records all spending at providers.
    pub ledger_table: String,
    /// Name of the table that holds batches, their items, and the documents that wait for batch results.
    pub batches_table: String,
    /// Maximum number of operations in the queue of the writer. Further callers wait until the queue has room.
    #[serde(skip)]
    pub queue_operations: usize,
    /// Maximum number of queued operations that the writer processes together.
    #[serde(skip)]
    pub batch_operations: usize,
    /// Minimum time between two writes, in milliseconds. Operations that arrive during this time are written
    /// together. A larger value reduces the cost but delays each operation more. The first write after a pause is not
    /// delayed.
    pub pace_milliseconds: u64,
    /// Maximum number of attempts of a write. A write is retried if it conflicts with another writer of the same
    /// document, or if DynamoDB throttles it.
    pub attempts: u32,
    /// Maximum time, in seconds, for which a conflicting write of the ledger is retried. Conflicts arise when several
    /// processes update the same totals at once.
    #[serde(skip)]
    pub conflict_seconds: u64,
    /// Time without a heartbeat, in seconds, after which the ledger regards a process as dead. The unsettled
    /// reservations of that process are then in doubt, because the provider may have charged for the reserved calls.
    pub ledger_lease_seconds: u64,
    /// Time, in seconds, for which daily metrics are collected before they are written. If a process is killed, its
    /// metrics since the last write are lost.
    #[serde(skip)]
    pub metrics_seconds: u64,
    /// Maximum number of attempts of a stage. Each control record stores this number in its attribute `max_retries`.
    /// The engine takes the number from `retry.attempts`.
    #[serde(skip)]
    pub max_retries: u32,
    /// Number of days for which the record of a deleted document is kept after its last change. Records of all other
    /// documents are kept. DynamoDB deletes a record at the time in its attribute `forget_at`, which Docweir sets only
    /// when the document is deleted. The attribute `ttl`, which every record has, is also computed from this value but
    /// deletes nothing.
    pub record_days: u32,
    /// Retention of audit-log entries, in days.
    pub audit_days: u32,
}

impl Default for DynamoOptions {
    fn default() -> Self {
        Self {
            endpoint: String::new(),
            control_table: "document_processing_control".into(),
            audit_table: "document_processing_audit".into(),
            metrics_table: "pipeline_metrics_daily".into(),
            state_table: "docweir_state".into(),
            ledger_table: "docweir_ledger".into(),
            batches_table: "docweir_batches".into(),
            queue_operations: 1_024,
            batch_operations: 64,
            pace_milliseconds: 25,
            attempts: 12,
            conflict_seconds: 30,
            ledger_lease_seconds: 120,
            metrics_seconds: 10,
            max_retries: 3,
            record_days: 90,
            audit_days: 180,
        }
    }
}

impl DynamoOptions {
    /// Returns each option that is out of range, with a message that names the allowed range.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let mut check = |field, value: u64, low, high| problems.extend(out_of_range(field, value, low, high));
        check("pace_milliseconds", self.pace_milliseconds, 0, 10_000);
        check("attempts", u64::from(self.attempts), 1, 1_000);
        check("ledger_lease_seconds", self.ledger_lease_seconds, 3, 86_400);
        check("record_days", u64::from(self.record_days), 1, 36_500);
        check("audit_days", u64::from(self.audit_days), 1, 36_500);
        let names = [
            ("control_table", &self.control_table),
            ("audit_table", &self.audit_table),
            ("metrics_table", &self.metrics_table),
            ("state_table", &self.state_table),
            ("ledger_table", &self.ledger_table),
            ("batches_table", &self.batches_table),
        ];
        for (field, name) in names {
            if !is_table_name(name) {
                problems.push((field, "must be 3 to 255 letters, digits, `_`, `-` or `.`".into()));
            }
        }
        problems
    }
}
