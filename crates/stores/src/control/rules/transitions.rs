//! Applies transitions to the record of a claimed document.

use std::time::Duration;

use docweir_core::clock::{UnixMicros, timestamp};
use docweir_core::documents::Stage;
use docweir_core::error::StageError;

use super::claims::finish;
use super::{COMPLETE, DELETED, Effects, FAILED, RETRY_QUEUED, blank, entry, events, forget_from, leave_aside};
use super::{metric_types, set_back_attempts};
use crate::control::{
    AuditEvent, ControlError, ControlRecord, DocumentStatus, Intent, Resume, StageMetrics, StageOutput, StageRecord,
    Transition,
};

/// Field names of an entry in the stage map. A stage metric with one of these names is dropped, because the entry would
/// otherwise contain the name twice.
const RESERVED: [&str; 7] =
    ["status", "started_at", "completed_at", "duration_seconds", "output_s3_key", "output_sha256", "error"];

/// Applies `transition` to a record. The caller must have checked the claim.
pub fn apply(record: &mut ControlRecord, transition: Transition, now: UnixMicros) -> Result<Effects, ControlError> {
    let mut effects = Effects::default();
    match transition {
        Transition::StageStarted { stage } => started(record, &mut effects, stage, now),
        Transition::StageCompleted { stage, output, metrics, duration } => {
            completed_stage(record, &mut effects, stage, output, metrics, duration, now);
        }
        Transition::StageRetry { stage, error, wait, consumes_attempt } => {
            retry(record, &mut effects, stage, &error, wait, consumes_attempt);
        }
        Transition::Parked { stage, reason, resume } => parked(record, &mut effects, stage, reason, resume),
        Transition::Quarantined { stage, error, artefact, original } => {
            failed_stage(record, &mut effects, stage, &error, DocumentStatus::Quarantined);
            quarantined(record, &mut effects, stage, &error, artefact, original);
        }
        Transition::Completed { metrics, duration } => {
            expect_intent(record, Intent::Process)?;
            if record.stage_status.get(&Stage::Loading).is_none_or(|e| e.status != DocumentStatus::Completed) {
                completed_stage(record, &mut effects, Stage::Loading, None, metrics, duration, now);
            }
            completed(record, &mut effects, now);
        }
        Transition::Deleted => {
            expect_intent(record, Intent::Delete)?;
            deleted(record, &mut effects, now);
        }
        Transition::Released { stage } => {
            entry(record, stage).status = DocumentStatus::Pending;
            change_status(record, &mut effects, DocumentStatus::Pending, stage);
        }
    }
    Ok(effects)
}

fn expect_intent(record: &ControlRecord, intent: Intent) -> Result<(), ControlError> {
    if record.intent == intent {
        return Ok(());
    }
    let (is, can_not) = match intent {
        Intent::Process => ("scheduled for deletion", "completed; report its tombstone as `Deleted`"),
        Intent::Delete => ("scheduled for processing", "deleted; request its deletion first"),
    };
    Err(ControlError::Refused(format!("document {} is {is} and can't be {can_not}", record.document_id)))
}

fn started(record: &mut ControlRecord, effects: &mut Effects, stage: Stage, now: UnixMicros) {
    record.interruptions += 1;
    stage.current_stage().clone_into(&mut record.current_stage);
    // Results of later stages depend on this stage's former result and no longer count.
    forget_from(record, stage);
    let e = entry(record, stage);
    e.status = DocumentStatus::InProgress;
    e.started_at = Some(timestamp(now));
    let attempt = record.retry_count + 1;
    effects
        .event(record, events::STAGE_IN_PROGRESS)
        .stage(stage)
        .status(DocumentStatus::InProgress)
        .with("attempt", attempt)
        .with_some("interruptions", record.interruptions.checked_sub(1).filter(|n| *n > 0));
}

fn completed_stage(
    record: &mut ControlRecord,
    effects: &mut Effects,
    stage: Stage,
    output: Option<StageOutput>,
    metrics: StageMetrics,
    duration: Duration,
    now: UnixMicros,
) {
    let metrics: StageMetrics =
        metrics.into_iter().filter(|(k, v)| v.is_finite() && !RESERVED.contains(&k.as_str())).collect();
    let seconds = duration.as_secs_f64();
    let event = effects.event(record, events::STAGE_COMPLETED).stage(stage).status(DocumentStatus::Completed);
    event.with("attempt", record.retry_count + 1);
    event.duration_seconds = Some(seconds);
    event.output_s3_key = output.as_ref().map(|o| o.key.clone());
    for (key, value) in &metrics {
        event.with(key, *value);
    }

    effects.count(format!("{stage}.completed"), 1.0);
    effects.count(format!("{stage}.duration_seconds"), seconds);
    if stage == Stage::Extraction {
        effects.count(metric_types::EXTRACTION_DURATION, seconds);
    }
    for (key, value) in &metrics {
        effects.count(format!("{stage}.{key}"), *value);
        match key.as_str() {
            "openai_cost_usd" => effects.count(metric_types::EMBEDDING_COST, *value),
            "tokens_processed" => effects.count(metric_types::TOKENS_PROCESSED, *value),
            _ => {}
        }
    }

    record.retry_count = 0;
    record.interruptions = 0;
    if record.error_stage == Some(stage) {
        record.error_stage = None;
        record.last_error = None;
    }
    stage.next().unwrap_or(stage).current_stage().clone_into(&mut record.current_stage);
    let started_at = entry(record, stage).started_at.take();
    let (key, hash) = output.map(|o| (o.key, o.sha256)).unzip();
    *entry(record, stage) = StageRecord {
        started_at,
        completed_at: Some(timestamp(now)),
        duration_seconds: Some(seconds),
        output_s3_key: key,
        output_sha256: hash,
        metrics,
        ..blank(DocumentStatus::Completed)
    };
}

/// Records the failed attempt in the stage map and in the audit log.
fn failed_stage<'e>(
    record: &mut ControlRecord,
    effects: &'e mut Effects,
    stage: Stage,
    error: &StageError,
    status: DocumentStatus,
) -> &'e mut AuditEvent {
    let event = effects.event(record, events::STAGE_FAILED).stage(stage).status(status);
    event.with("attempt", record.retry_count + 1).error(error);
    let e = entry(record, stage);
    e.status = status;
    e.error = Some(error.to_string());
    record.error_stage = Some(stage);
    record.last_error = Some(error.clone());
    event
}

fn retry(
    record: &mut ControlRecord,
    effects: &mut Effects,
    stage: Stage,
    error: &StageError,
    wait: Duration,
    consumes_attempt: bool,
) {
    failed_stage(record, effects, stage, error, DocumentStatus::Pending)
        .with("wait_seconds", wait.as_secs_f64())
        .with("consumes_attempt", consumes_attempt);
    effects.count(format!("{stage}.retried"), 1.0);
    record.interruptions = 0;
    record.retry_count += u32::from(consumes_attempt);
    RETRY_QUEUED.clone_into(&mut record.current_stage);
}

fn parked(record: &mut ControlRecord, effects: &mut Effects, stage: Stage, reason: String, resume: Resume) {
    entry(record, stage).status = DocumentStatus::Parked;
    record.parked_reason = Some(reason.clone());
    record.parked_resume = Some(resume);
    change_status(record, effects, DocumentStatus::Parked, stage).with("reason", reason);
}

fn quarantined(
    record: &mut ControlRecord,
    effects: &mut Effects,
    stage: Stage,
    error: &StageError,
    artefact: Option<String>,
    original: Option<String>,
) {
    effects
        .event(record, events::DOCUMENT_FAILED)
        .stage(stage)
        .status(DocumentStatus::Quarantined)
        .with_some("quarantine_artefact", artefact.as_deref())
        .with_some("quarantine_original", original.as_deref())
        .error(error);
    effects.count(format!("{stage}.failed"), 1.0);
    effects.count(metric_types::DOCUMENTS_FAILED, 1.0);
    record.quarantine_artefact = artefact;
    record.quarantine_original = original;
    FAILED.clone_into(&mut record.current_stage);
    finish(record, DocumentStatus::Quarantined);
}

/// Completes the document. Its rows are in the manifest, so all stages count as completed, whatever the stage map
/// contains.
pub fn completed<'e>(record: &mut ControlRecord, effects: &'e mut Effects, now: UnixMicros) -> &'e mut AuditEvent {
    effects.count(metric_types::DOCUMENTS_PROCESSED, 1.0);
    let event = effects
        .event(record, events::DOCUMENT_COMPLETED)
        .status(DocumentStatus::Completed)
        .with_some("replaces_version", record.loaded_version.filter(|v| *v < record.version));
    for stage in Stage::ALL {
        entry(record, stage).status = DocumentStatus::Completed;
    }
    set_back_attempts(record);
    record.loaded_version = record.loaded_version.max(Some(record.version));
    record.completed_at = Some(timestamp(now));
    COMPLETE.clone_into(&mut record.current_stage);
    finish(record, DocumentStatus::Completed);
    event
}

/// Marks the document as deleted, and all its stages as completed. If a person later sets the record to pending, the
/// completed stages show that the document needs a new version, higher than the tombstone's version.
fn deleted(record: &mut ControlRecord, effects: &mut Effects, now: UnixMicros) {
    record.intent = Intent::Process;
    for stage in Stage::ALL {
        *entry(record, stage) = blank(DocumentStatus::Completed);
    }
    entry(record, Stage::Loading).completed_at = Some(timestamp(now));
    set_back_attempts(record);
    record.loaded_version = None;
    let from = record.status;
    let worker = record.lease_owner.clone();
    DELETED.clone_into(&mut record.current_stage);
    finish(record, DocumentStatus::Deleted);
    effects.status_change(record, from).worker(worker);
}

/// Ends the claim with a new status, and adds an audit entry in the name of the claim's owner.
fn change_status<'e>(
    record: &mut ControlRecord,
    effects: &'e mut Effects,
    status: DocumentStatus,
    stage: Stage,
) -> &'e mut AuditEvent {
    let (from, worker) = (record.status, record.lease_owner.clone());
    stage.current_stage().clone_into(&mut record.current_stage);
    if status == DocumentStatus::Pending {
        leave_aside(record);
    }
    finish(record, status);
    effects.status_change(record, from).stage(stage).worker(worker)
}
