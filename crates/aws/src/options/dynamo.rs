//! Names of the tables, and limits.

use serde::{Deserialize, Serialize};

/// Whether DynamoDB lets a table have this name.
pub fn is_table_name(name: &str) -> bool {
    let letters = name.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
    letters && (3..=255).contains(&name.len())
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct DynamoOptions {
    /// Address of DynamoDB alone; empty for `aws.endpoint`, or AWS itself.
    pub endpoint: String,
    /// Table of control records.
    pub control_table: String,
    /// Table of the audit log.
    pub audit_table: String,
    /// Table of daily metrics.
    pub metrics_table: String,
    /// Table of what only Docweir reads: which document a source is, leases.
    pub state_table: String,
    /// Table of the ledger: every cent that is spent at providers.
    pub ledger_table: String,
    /// Table of batches, the items that wait for them, and the documents that wait for texts.
    pub batches_table: String,
    /// Operations that may wait for the writer; whoever comes later waits for a place.
    pub queue_operations: usize,
    /// Operations written together at most.
    pub batch_operations: usize,
    /// Milliseconds from one write to the next, at least: what comes meanwhile is written together, for less money. The
    /// first after a pause does not wait.
    pub pace_milliseconds: u64,
    /// Times that a write is tried again where somebody else writes the same document or DynamoDB is busy.
    pub attempts: u32,
    /// Seconds that a write of the ledger is tried again where other processes write the same totals at the same moment.
    pub conflict_seconds: u64,
    /// Seconds without a sign of life after which what a process has set aside for calls and not settled is in doubt.
    pub ledger_lease_seconds: u64,
    /// Seconds that daily metrics are gathered before they are written; a process that is killed loses as many.
    pub metrics_seconds: u64,
    /// Attempts that a record says a stage has (`max_retries`): the engine sets it to `retry.attempts`.
    #[serde(skip)]
    pub max_retries: u32,
    /// Days after its last change at which a record says it may be forgotten (`ttl`). Only records of deleted documents
    /// ever are.
    pub record_days: u32,
    /// Days that an entry of the audit log is kept.
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
    /// Fields out of range, and their ranges.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let mut check = |field, value: u64, low: u64, high: u64| {
            if !(low..=high).contains(&value) {
                problems.push((field, format!("{value} is out of range: use {low} to {high}")));
            }
        };
        check("queue_operations", self.queue_operations as u64, 1, 1_000_000);
        check("batch_operations", self.batch_operations as u64, 1, 1_000);
        check("pace_milliseconds", self.pace_milliseconds, 0, 10_000);
        check("attempts", u64::from(self.attempts), 1, 1_000);
        check("conflict_seconds", self.conflict_seconds, 1, 3_600);
        check("ledger_lease_seconds", self.ledger_lease_seconds, 3, 86_400);
        check("metrics_seconds", self.metrics_seconds, 1, 3_600);
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
