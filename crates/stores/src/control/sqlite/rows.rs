//! Converts records and audit entries to rows and back.
//!
//! A person may have edited values by hand. An unreadable value is ignored if the only consequence is repeated work.
//! For example, a stage with an unreadable entry in the stage map counts as not done. An unreadable id, status or
//! content hash makes the whole row unreadable ([`OpError::Unreadable`]).

use std::collections::BTreeMap;
use std::sync::LazyLock;

use docweir_core::clock::timestamp;
use docweir_core::documents::{DocumentId, Sha256Hex, Stage};
use rusqlite::Row;
use rusqlite::types::{FromSql, Value};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::failure::{OpError, OpResult};
use crate::control::rules::{name, waits_for};
use crate::control::{AuditEvent, ControlRecord, DocumentStatus, Resume, StageRecord};

/// Columns that are written only once, except for the source of a moved file. (Columns are grouped by how often they
/// change, so that an update touches no index unnecessarily.)
const IDENTITY: [&str; 7] =
    ["document_id", "processing_version", "source", "source_bucket", "source_s3_key", "created_at", "max_retries"];
/// Columns that a move of the file changes.
const SOURCE: [&str; 3] = ["source", "source_bucket", "source_s3_key"];
/// Columns that claims and commands change.
const STATE: [&str; 25] = [
    "version",
    "content_sha256",
    "fingerprint",
    "media_type",
    "file_size_bytes",
    "upload_timestamp",
    "status",
    "intent",
    "quarantine_artefact",
    "quarantine_original",
    "loaded_version",
    "parked_reason",
    "parked_resume",
    "parked_until",
    "lease_owner",
    "lease_expires_at",
    "epoch",
    "tenant",
    "weight",
    "completed_at",
    "parent",
    "children",
    "children_content",
    "urgent",
    "waits_for",
];
/// Columns that every transition changes.
const PROGRESS: [&str; 8] =
    ["current_stage", "stage_status", "retry_count", "interruptions", "last_error", "error_stage", "updated_at", "ttl"];

pub static COLUMNS: LazyLock<String> = LazyLock::new(|| [&IDENTITY[..], &STATE, &PROGRESS].concat().join(", "));

pub static INSERT: LazyLock<String> = LazyLock::new(|| {
    let marks: Vec<_> = (1..=IDENTITY.len() + STATE.len() + PROGRESS.len()).map(|i| format!("?{i}")).collect();
    format!("INSERT INTO document_processing_control ({}) VALUES ({})", *COLUMNS, marks.join(", "))
});

pub static UPDATE: LazyLock<String> = LazyLock::new(|| update(&[&STATE[..], &PROGRESS].concat()));
pub static UPDATE_SOURCE: LazyLock<String> = LazyLock::new(|| update(&[&SOURCE[..], &STATE, &PROGRESS].concat()));
pub static UPDATE_PROGRESS: LazyLock<String> = LazyLock::new(|| update(&PROGRESS));

fn update(columns: &[&str]) -> String {
    let set: Vec<_> = columns.iter().enumerate().map(|(i, c)| format!("{c} = ?{}", i + 2)).collect();
    format!(
        "UPDATE document_processing_control SET {} WHERE document_id = ?1 AND processing_version = 'v1'",
        set.join(", ")
    )
}

pub fn insert_values(record: &ControlRecord) -> Vec<Value> {
    let mut values = vec![
        text(record.document_id.as_str()),
        text(&record.processing_version),
        text(&record.source),
        text(&record.source_bucket),
        text(&record.source_s3_key),
        text(&record.created_at),
        Value::Integer(record.max_retries.into()),
    ];
    push_state(record, &mut values);
    push_progress(record, &mut values);
    values
}

pub fn update_values(record: &ControlRecord) -> Vec<Value> {
    let mut values = vec![text(record.document_id.as_str())];
    push_state(record, &mut values);
    push_progress(record, &mut values);
    values
}

pub fn source_values(record: &ControlRecord) -> Vec<Value> {
    let mut values = vec![
        text(record.document_id.as_str()),
        text(&record.source),
        text(&record.source_bucket),
        text(&record.source_s3_key),
    ];
    push_state(record, &mut values);
    push_progress(record, &mut values);
    values
}

pub fn progress_values(record: &ControlRecord) -> Vec<Value> {
    let mut values = vec![text(record.document_id.as_str())];
    push_progress(record, &mut values);
    values
}

fn push_state(r: &ControlRecord, values: &mut Vec<Value>) {
    let until = match &r.parked_resume {
        Some(Resume::At(at)) => Some(timestamp(*at)),
        _ => None,
    };
    values.extend([
        integer(r.version),
        text(r.content_sha256.as_str()),
        text(r.fingerprint.as_str()),
        text(r.media_type.as_str()),
        integer(r.file_size_bytes),
        text(&r.upload_timestamp),
        text(name(r.status)),
        word(&r.intent),
        optional(&r.quarantine_artefact),
        optional(&r.quarantine_original),
        r.loaded_version.map_or(Value::Null, integer),
        optional(&r.parked_reason),
        r.parked_resume.as_ref().map_or(Value::Null, json),
        until.map_or(Value::Null, Value::Text),
        optional(&r.lease_owner),
        optional(&r.lease_expires_at),
        integer(r.epoch),
        text(&r.tenant),
        Value::Integer(r.weight.into()),
        optional(&r.completed_at),
        r.parent.as_ref().map_or(Value::Null, |id| text(id.as_str())),
        json(&r.children),
        r.children_content.as_ref().map_or(Value::Null, |hash| text(hash.as_str())),
        Value::Integer(r.urgent.into()),
        Value::Text(waits_for(r)),
    ]);
}

fn push_progress(r: &ControlRecord, values: &mut Vec<Value>) {
    values.extend([
        text(&r.current_stage),
        json(&r.stage_status),
        Value::Integer(r.retry_count.into()),
        Value::Integer(r.interruptions.into()),
        r.last_error.as_ref().map_or(Value::Null, json),
        r.error_stage.map_or(Value::Null, |s| text(s.name())),
        text(&r.updated_at),
        Value::Integer(r.ttl),
    ]);
}

fn text(s: &str) -> Value {
    Value::Text(s.to_owned())
}

fn optional(s: &Option<String>) -> Value {
    s.as_deref().map_or(Value::Null, text)
}

fn integer(n: u64) -> Value {
    Value::Integer(i64::try_from(n).unwrap_or(i64::MAX))
}

/// Serialises a value as JSON. This cannot fail for the values of this module, because their keys are strings and
/// their numbers are finite.
pub fn json(value: &impl Serialize) -> Value {
    Value::Text(serde_json::to_string(value).unwrap_or_else(|_| "null".into()))
}

/// Returns the JSON name of an enum's variant as a text value.
pub fn word(value: &impl Serialize) -> Value {
    match serde_json::to_value(value) {
        Ok(serde_json::Value::String(word)) => Value::Text(word),
        _ => Value::Null,
    }
}

/// Parses an enum from the name of a variant. This is the inverse of [`word`].
pub fn from_word<T: DeserializeOwned>(word: String) -> Option<T> {
    serde_json::from_value(serde_json::Value::String(word)).ok()
}

/// Reads the columns of a row one after another.
struct Fields<'r> {
    row: &'r Row<'r>,
    next: usize,
}

impl Fields<'_> {
    fn get<T: FromSql>(&mut self) -> OpResult<T> {
        self.next += 1;
        self.row.get(self.next - 1).map_err(|e| OpError::Unreadable(format!("a row can't be read: {e}")))
    }

    fn parsed<T>(&mut self, what: &str, parse: impl FnOnce(String) -> Option<T>) -> OpResult<T> {
        let raw: String = self.get()?;
        let unreadable = || OpError::Unreadable(format!("`{raw}` is not a valid {what}"));
        parse(raw.clone()).ok_or_else(unreadable)
    }

    fn unsigned(&mut self) -> OpResult<u64> {
        Ok(u64::try_from(self.get::<i64>()?).unwrap_or(0))
    }

    fn small(&mut self) -> OpResult<u32> {
        Ok(u32::try_from(self.get::<i64>()?).unwrap_or(0))
    }

    fn lenient_json<T: DeserializeOwned>(&mut self) -> OpResult<Option<T>> {
        Ok(self.get::<Option<String>>()?.and_then(|t| serde_json::from_str(&t).ok()))
    }
}

/// Converts a row with the columns [`COLUMNS`] into a record.
pub fn record(row: &Row<'_>) -> OpResult<ControlRecord> {
    let mut f = Fields { row, next: 0 };
    // Read in the order of the columns: a struct literal evaluates its fields in written order.
    Ok(ControlRecord {
        document_id: f.parsed("document_id", |t| DocumentId::parse(&t))?,
        processing_version: f.get()?,
        source: f.get()?,
        source_bucket: f.get()?,
        source_s3_key: f.get()?,
        created_at: f.get()?,
        max_retries: f.small()?,
        version: f.unsigned()?,
        content_sha256: f.parsed("content_sha256", |t| Sha256Hex::parse(&t))?,
        fingerprint: f.parsed("fingerprint", |t| Sha256Hex::parse(&t))?,
        media_type: f.parsed("media_type", from_word)?,
        file_size_bytes: f.unsigned()?,
        upload_timestamp: f.get()?,
        status: f.parsed("status", from_word)?,
        intent: f.parsed("intent", from_word)?,
        quarantine_artefact: f.get()?,
        quarantine_original: f.get()?,
        loaded_version: f.get::<Option<i64>>()?.and_then(|v| u64::try_from(v).ok()),
        parked_reason: f.get()?,
        parked_resume: f.lenient_json()?,
        lease_owner: {
            let _until: Option<String> = f.get()?;
            f.get()?
        },
        lease_expires_at: f.get()?,
        epoch: f.unsigned()?,
        tenant: f.get()?,
        weight: f.small()?,
        completed_at: f.get()?,
        parent: f.get::<Option<String>>()?.and_then(|id| DocumentId::parse(&id)),
        children: f.lenient_json()?.unwrap_or_default(),
        children_content: f.get::<Option<String>>()?.and_then(|hash| Sha256Hex::parse(&hash)),
        urgent: {
            let urgent = f.get::<i64>()? != 0;
            let _waits_for: String = f.get()?;
            urgent
        },
        current_stage: f.get()?,
        stage_status: stage_map(&f.get::<String>()?),
        retry_count: f.small()?,
        interruptions: f.small()?,
        last_error: f.lenient_json()?,
        error_stage: f.get::<Option<String>>()?.and_then(|s| s.parse().ok()),
        updated_at: f.get()?,
        ttl: f.get()?,
    })
}

fn stage_map(text: &str) -> BTreeMap<Stage, StageRecord> {
    if let Ok(map) = serde_json::from_str(text) {
        return map;
    }
    let mut entries: BTreeMap<String, serde_json::Value> = serde_json::from_str(text).unwrap_or_default();
    let readable = |stage: Stage| Some((stage, serde_json::from_value(entries.remove(stage.name())?).ok()?));
    Stage::ALL.into_iter().filter_map(readable).collect()
}

pub const INSERT_AUDIT: &str = "INSERT INTO document_processing_audit (document_id, timestamp, event_type, stage, \
    status, processing_version, metadata, worker_id, duration_seconds, output_s3_key, error_type, error_message, ttl) \
    VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11, ?12, ?13)";

pub const SELECT_AUDIT: &str = "SELECT document_id, timestamp, event_type, stage, status, processing_version, \
    metadata, worker_id, duration_seconds, output_s3_key, error_type, error_message FROM document_processing_audit \
    WHERE document_id = ?1 AND timestamp > ?2 ORDER BY timestamp LIMIT ?3";

pub fn audit_values(event: &AuditEvent, ttl: i64) -> [Value; 13] {
    [
        text(event.document_id.as_str()),
        text(&event.timestamp),
        text(&event.event_type),
        event.stage.map_or(Value::Null, |s| text(s.name())),
        event.status.map_or(Value::Null, |s| text(name(s))),
        text(&event.processing_version),
        json(&event.metadata),
        optional(&event.worker_id),
        event.duration_seconds.map_or(Value::Null, Value::Real),
        optional(&event.output_s3_key),
        optional(&event.error_type),
        optional(&event.error_message),
        Value::Integer(ttl),
    ]
}

/// Converts a row that [`SELECT_AUDIT`] returns into an audit entry.
pub fn audit(row: &Row<'_>) -> OpResult<AuditEvent> {
    let mut f = Fields { row, next: 0 };
    Ok(AuditEvent {
        document_id: f.parsed("document_id", |t| DocumentId::parse(&t))?,
        timestamp: f.get()?,
        event_type: f.get()?,
        stage: f.get::<Option<String>>()?.and_then(|s| s.parse().ok()),
        status: f.get::<Option<String>>()?.and_then(from_word::<DocumentStatus>),
        processing_version: f.get()?,
        metadata: f.lenient_json()?.unwrap_or_default(),
        worker_id: f.get()?,
        duration_seconds: f.get()?,
        output_s3_key: f.get()?,
        error_type: f.get()?,
        error_message: f.get()?,
    })
}
