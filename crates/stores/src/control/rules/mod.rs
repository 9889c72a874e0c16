//! What the control store decides, with no database in sight.
//!
//! Every change of a control record is a function here from a record to a changed record and its [`Effects`]: the
//! entries of the audit log and what is added to the daily metrics. A backend reads the record, calls the function
//! and writes record and effects in one atomic step, under its own condition (a transaction in SQLite, a conditional
//! write elsewhere). So every backend decides alike, and the decisions have tests that need no disk.

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
pub use commands::{discard, mark_loaded, new_record, register, request_delete, reset, resume, reversion};
pub use transitions::apply;

use std::time::Duration;

use docweir_core::clock::UnixMicros;
use docweir_core::documents::Stage;
use docweir_core::error::StageError;
use serde_json::Value;

use super::{AuditEvent, ControlRecord, DocumentStatus, StageMetrics, StageRecord};

/// The sort key of the system that this one replaces; the version is an attribute of its own.
pub const PROCESSING_VERSION: &str = "v1";

/// Values of `current_stage` beside those of [`Stage::current_stage`].
pub const SUBMITTED: &str = "SUBMITTED";
pub const RETRY_QUEUED: &str = "RETRY_QUEUED";
pub const COMPLETE: &str = "STAGE_5_COMPLETE";
pub const FAILED: &str = "FAILED";
pub const DELETED: &str = "DELETED";

/// Values of `event_type`.
pub mod events {
    pub const DOCUMENT_RECEIVED: &str = "DOCUMENT_RECEIVED";
    pub const STAGE_IN_PROGRESS: &str = "STAGE_IN_PROGRESS";
    pub const STAGE_COMPLETED: &str = "STAGE_COMPLETED";
    pub const STAGE_FAILED: &str = "STAGE_FAILED";
    pub const DOCUMENT_COMPLETED: &str = "DOCUMENT_COMPLETED";
    pub const DOCUMENT_FAILED: &str = "DOCUMENT_FAILED";
    pub const STATUS_CHANGE: &str = "STATUS_CHANGE";
    /// Of a document that contains others: some were registered or removed.
    pub const CHILDREN_CHANGED: &str = "CHILDREN_CHANGED";
}

/// Values of `metric_type` in `pipeline_metrics_daily` that are not of one stage. A stage's are `{stage}.completed`,
/// `{stage}.failed`, `{stage}.retried`, `{stage}.duration_seconds` and `{stage}.{metric}` for what it reports.
pub mod metric_types {
    /// Documents completed (versions, strictly: a replaced document counts again).
    pub const DOCUMENTS_PROCESSED: &str = "DocumentsProcessed";
    /// Documents quarantined.
    pub const DOCUMENTS_FAILED: &str = "DocumentsFailed";
    /// Seconds spent in extraction.
    pub const EXTRACTION_DURATION: &str = "ExtractionDuration";
    /// US dollars, from the stages' `openai_cost_usd`.
    pub const EMBEDDING_COST: &str = "EmbeddingCost";
    /// From the stages' `tokens_processed`.
    pub const TOKENS_PROCESSED: &str = "TokensProcessed";
}

/// What is written beside the record, in the same step.
#[derive(Debug, Default)]
pub struct Effects {
    /// In order, with empty `timestamp`s: the store stamps them.
    pub events: Vec<AuditEvent>,
    /// Metric type and what is added to today's value.
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

    /// A change of status that nothing more special describes.
    fn status_change(&mut self, record: &ControlRecord, from: DocumentStatus) -> &mut AuditEvent {
        self.event(record, events::STATUS_CHANGE).status(record.status).with("from", name(from))
    }

    fn count(&mut self, metric: impl Into<String>, by: f64) {
        self.metrics.push((metric.into(), by));
    }
}

/// Filling in an event, part by part.
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

/// The word that a status is written as, in columns and in JSON.
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

/// `duration` after `now`.
pub fn after(now: UnixMicros, duration: Duration) -> UnixMicros {
    now.saturating_add(i64::try_from(duration.as_micros()).unwrap_or(i64::MAX))
}

/// An entry of the stage map that says nothing but its status.
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

/// The entry of `stage`, made if there is none.
fn entry(record: &mut ControlRecord, stage: Stage) -> &mut StageRecord {
    record.stage_status.entry(stage).or_insert_with(|| blank(DocumentStatus::Pending))
}

/// Forgets the results of the stages from `stage` on.
fn forget_from(record: &mut ControlRecord, stage: Stage) {
    record.stage_status.retain(|&s, _| s < stage);
}

/// Whoever holds a claim holds it no longer: the lease is gone and the next claim has a higher epoch.
fn end_claim(record: &mut ControlRecord) {
    record.lease_owner = None;
    record.lease_expires_at = None;
}

/// As [`end_claim`], for commands that come from outside the claim: they also void the claim's late writes.
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

/// No longer parked. What the quarantine kept is remembered until the document is complete and it is taken away.
fn leave_aside(record: &mut ControlRecord) {
    record.parked_reason = None;
    record.parked_resume = None;
}

/// A new version, before its first stage. The rows of the version before stay in force until this one is loaded.
fn start_anew(record: &mut ControlRecord) {
    record.version += 1;
    record.stage_status.clear();
    record.completed_at = None;
    SUBMITTED.clone_into(&mut record.current_stage);
    set_back_attempts(record);
}
