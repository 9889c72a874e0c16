//! Decides how control records change, without access to a database.
//!
//! Every rule is a function that changes a record and returns the [`Effects`] of the change: entries of the audit log
//! and additions to the daily metrics. A backend reads the record, calls the function, and writes record and effects
//! in one atomic step. The atomic step is a transaction in SQLite and a conditional write in DynamoDB. All backends
//! therefore make the same decisions, and the decisions can be tested without a disk.

mod children;
mod claims;
mod commands;
#[cfg(test)]
pub(super) mod tests;
mod transitions;

pub use children::{
    MAX_CHILDREN, announce_children, check_children, finish_children, register_child, remove_child, stays_deleted,
};
pub use claims::{Taken, check_claim, first_unfinished, take};
pub use commands::{
    discard, hold, mark_loaded, new_record, register, register_changed, relocate, request_delete, reset, resume,
    reversion,
};
pub use transitions::apply;

use std::time::Duration;

use docweir_core::clock::UnixMicros;
use docweir_core::documents::Stage;
use docweir_core::error::StageError;
use serde_json::Value;

use super::{AuditEvent, ControlRecord, DocumentStatus, Intent, StageMetrics, StageRecord};

/// Value of `processing_version`, the sort key of the system that docweir replaces. The version of a document is
/// stored in a separate attribute.
pub const PROCESSING_VERSION: &str = "v1";

/// Value of `current_stage` before the first stage. [`Stage::current_stage`] returns the values for the stages.
pub const SUBMITTED: &str = "SUBMITTED";
/// Value of `current_stage` while a retry is pending.
pub const RETRY_QUEUED: &str = "RETRY_QUEUED";
/// Event for which held documents wait. Only a user causes it.
pub const RELEASED: &str = "docweir retry";
/// Value of `current_stage` when all stages are complete.
pub const COMPLETE: &str = "STAGE_5_COMPLETE";
/// Value of `current_stage` after a permanent failure.
pub const FAILED: &str = "FAILED";
/// Value of `current_stage` after the document was deleted.
pub const DELETED: &str = "DELETED";

/// Returns what a document waits for. For a pending or parked document, this is the next step: a stage such as
/// `extract`, or `delete`. For a quarantined document, it is the code of the error. Other documents wait for nothing.
pub fn waits_for(record: &ControlRecord) -> String {
    match record.status {
        DocumentStatus::Pending | DocumentStatus::Parked => next_step(record).to_owned(),
        DocumentStatus::Quarantined => {
            record.last_error.as_ref().map_or_else(|| "unknown".to_owned(), |error| error.code.to_string())
        }
        DocumentStatus::InProgress | DocumentStatus::Completed | DocumentStatus::Failed | DocumentStatus::Deleted => {
            String::new()
        }
    }
}

/// Returns the next step of an unfinished document: a stage such as `extract`, or `delete`.
pub fn next_step(record: &ControlRecord) -> &'static str {
    if record.intent == Intent::Delete {
        return "delete";
    }
    let done = |stage: &Stage| record.stage_status.get(stage).is_some_and(|s| s.status == DocumentStatus::Completed);
    // A document with all stages completed is pending again after a reset; it starts at extraction.
    Stage::ALL.into_iter().find(|stage| !done(stage)).unwrap_or(Stage::Extraction).verb()
}

/// Defines the values of `event_type`.
pub mod events {
    pub const DOCUMENT_RECEIVED: &str = "DOCUMENT_RECEIVED";
    pub const STAGE_IN_PROGRESS: &str = "STAGE_IN_PROGRESS";
    pub const STAGE_COMPLETED: &str = "STAGE_COMPLETED";
    pub const STAGE_FAILED: &str = "STAGE_FAILED";
    pub const DOCUMENT_COMPLETED: &str = "DOCUMENT_COMPLETED";
    pub const DOCUMENT_FAILED: &str = "DOCUMENT_FAILED";
    pub const STATUS_CHANGE: &str = "STATUS_CHANGE";
    /// Reports that children of a document were registered or removed.
    pub const CHILDREN_CHANGED: &str = "CHILDREN_CHANGED";
}

/// Defines the values of `metric_type` in `pipeline_metrics_daily` that concern the whole pipeline. The values for a
/// stage are `{stage}.completed`, `{stage}.failed`, `{stage}.retried`, `{stage}.duration_seconds` and
/// `{stage}.{metric}` for each reported metric.
pub mod metric_types {
    /// Number of completed document versions; a replaced document counts again.
    pub const DOCUMENTS_PROCESSED: &str = "DocumentsProcessed";
    /// Number of quarantined documents.
    pub const DOCUMENTS_FAILED: &str = "DocumentsFailed";
    /// Time spent in extraction, in seconds.
    pub const EXTRACTION_DURATION: &str = "ExtractionDuration";
    /// Cost in US dollars: the sum of the stages' `openai_cost_usd`.
    pub const EMBEDDING_COST: &str = "EmbeddingCost";
    /// Number of tokens: the sum of the stages' `tokens_processed`.
    pub const TOKENS_PROCESSED: &str = "TokensProcessed";
}

/// Holds the audit entries and metrics of a change, which are written in the same step as the record.
#[derive(Debug, Default)]
pub struct Effects {
    /// Audit entries in order. Their `timestamp`s are empty; the store sets them.
    pub events: Vec<AuditEvent>,
    /// Types of metrics, each with the amount to add to today's value.
    pub metrics: Vec<(String, f64)>,
}

impl Effects {
    fn event(&mut self, record: &ControlRecord, event_type: &str) -> &mut AuditEvent {
        let mut metadata = serde_json::Map::new();
        metadata.insert("version".into(), record.version.into());
        metadata.insert("epoch".into(), record.epoch.into());
        let last = self.events.len();
        self.events.push(AuditEvent {
            document_id: record.document_id.clone(),
            timestamp: String::new(),
            event_type: event_type.to_owned(),
            stage: None,
            status: None,
            processing_version: record.processing_version.clone(),
            metadata,
            worker_id: record.lease_owner.clone(),
            duration_seconds: None,
            output_s3_key: None,
            error_type: None,
            error_message: None,
        });
        &mut self.events[last]
    }

    /// Adds the generic event for a change of status.
    fn status_change(&mut self, record: &ControlRecord, from: DocumentStatus) -> &mut AuditEvent {
        self.event(record, events::STATUS_CHANGE).status(record.status).with("from", name(from))
    }

    fn count(&mut self, metric: impl Into<String>, by: f64) {
        self.metrics.push((metric.into(), by));
    }
}

/// Provides builder methods that fill in an event.
impl AuditEvent {
    fn stage(&mut self, stage: Stage) -> &mut Self {
        self.stage = Some(stage);
        self
    }

    fn status(&mut self, status: DocumentStatus) -> &mut Self {
        self.status = Some(status);
        self
    }

    fn worker(&mut self, worker: Option<String>) -> &mut Self {
        self.worker_id = worker;
        self
    }

    fn with(&mut self, key: &str, value: impl Into<Value>) -> &mut Self {
        self.metadata.insert(key.to_owned(), value.into());
        self
    }

    fn with_some(&mut self, key: &str, value: Option<impl Into<Value>>) -> &mut Self {
        if let Some(value) = value {
            self.with(key, value);
        }
        self
    }

    fn error(&mut self, error: &StageError) -> &mut Self {
        self.error_type = Some(error.code.clone());
        self.error_message = Some(error.to_string());
        self.with("error_class", serde_json::to_value(error.class).unwrap_or_default())
    }
}

/// Returns the name of a status in columns and in JSON.
pub const fn name(status: DocumentStatus) -> &'static str {
    match status {
        DocumentStatus::Pending => "PENDING",
        DocumentStatus::InProgress => "IN_PROGRESS",
        DocumentStatus::Completed => "COMPLETED",
        DocumentStatus::Failed => "FAILED",
        DocumentStatus::Parked => "PARKED",
        DocumentStatus::Quarantined => "QUARANTINED",
        DocumentStatus::Deleted => "DELETED",
    }
}

/// Returns the time `duration` after `now`.
pub fn after(now: UnixMicros, duration: Duration) -> UnixMicros {
    now.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX))
}

/// Returns an entry of the stage map with a status and no other data.
fn blank(status: DocumentStatus) -> StageRecord {
    StageRecord {
        status,
        started_at: None,
        completed_at: None,
        duration_seconds: None,
        output_s3_key: None,
        output_sha256: None,
        error: None,
        metrics: StageMetrics::new(),
    }
}

/// Returns the entry of `stage` in the stage map, and creates the entry if it is missing.
fn entry(record: &mut ControlRecord, stage: Stage) -> &mut StageRecord {
    record.stage_status.entry(stage).or_insert_with(|| blank(DocumentStatus::Pending))
}

/// Removes the results of `stage` and of all later stages from the record.
fn forget_from(record: &mut ControlRecord, stage: Stage) {
    record.stage_status.retain(|&s, _| s < stage);
}

/// Ends the current claim by removing the lease. The next claim gets a higher epoch.
fn end_claim(record: &mut ControlRecord) {
    record.lease_owner = None;
    record.lease_expires_at = None;
}

/// Ends the current claim and raises the epoch, so that late writes under the claim are refused. This is called for
/// commands of users and for registrations by intake, because both come without a claim.
fn void_claim(record: &mut ControlRecord) {
    end_claim(record);
    record.epoch += 1;
}

fn set_back_attempts(record: &mut ControlRecord) {
    record.retry_count = 0;
    record.interruptions = 0;
    record.last_error = None;
    record.error_stage = None;
    leave_aside(record);
}

/// Clears the parked state. The keys of quarantined objects stay in the record until the document is complete and
/// these objects are deleted.
fn leave_aside(record: &mut ControlRecord) {
    record.parked_reason = None;
    record.parked_resume = None;
}

/// Gives the record a new version that begins at the first stage. The rows of the former version stay valid until the
/// new version is loaded.
fn start_anew(record: &mut ControlRecord) {
    record.version += 1;
    record.stage_status.clear();
    record.completed_at = None;
    SUBMITTED.clone_into(&mut record.current_stage);
    set_back_attempts(record);
}
