//! Applies changes that are not transitions. These are registrations by intake, commands by users, and updates after a
//! version was found in the manifest.

use docweir_core::clock::{UnixMicros, timestamp};
use docweir_core::documents::{DocumentId, MediaType, Sha256Hex, Stage, Version};

use super::transitions::completed;
use super::{
    Effects, FAILED, PROCESSING_VERSION, RELEASED, RETRY_QUEUED, SUBMITTED, check_claim, claims, entry, events,
    first_unfinished,
};
use super::{forget_from, leave_aside, name, set_back_attempts, start_anew, void_claim};
use crate::control::{
    Claim, ClaimKey, ControlError, ControlRecord, DocumentKey, DocumentStatus, Intent, NewDocument, Registered, Resume,
};

pub(super) fn key(record: &ControlRecord) -> DocumentKey {
    DocumentKey { id: record.document_id.clone(), version: record.version }
}

/// Splits a source into `file://` and a path, or into a bucket and a key.
fn bucket_and_key(source: &str) -> (&str, &str) {
    if let Some(path) = source.strip_prefix("file://") {
        return ("file://", path);
    }
    source.split_once("://").and_then(|(_, rest)| rest.split_once('/')).unwrap_or(("", source))
}

/// Creates the record of a new source.
pub fn new_record(
    document: NewDocument,
    id: DocumentId,
    max_retries: u32,
    now: UnixMicros,
) -> (ControlRecord, Effects) {
    let at = timestamp(now);
    let (bucket, path) = bucket_and_key(&document.source);
    let record = ControlRecord {
        document_id: id,
        processing_version: PROCESSING_VERSION.into(),
        source_bucket: bucket.into(),
        source_s3_key: path.into(),
        version: 1,
        content_sha256: document.content,
        fingerprint: document.fingerprint,
        media_type: document.media_type,
        file_size_bytes: document.bytes,
        status: DocumentStatus::Pending,
        current_stage: SUBMITTED.into(),
        intent: Intent::Process,
        stage_status: Default::default(),
        retry_count: 0,
        max_retries,
        interruptions: 0,
        urgent: false,
        last_error: None,
        error_stage: None,
        quarantine_artefact: None,
        quarantine_original: None,
        loaded_version: None,
        parked_reason: None,
        parked_resume: None,
        lease_owner: None,
        lease_expires_at: None,
        epoch: 0,
        tenant: document.tenant,
        weight: document.weight,
        upload_timestamp: at.clone(),
        created_at: at.clone(),
        updated_at: at,
        completed_at: None,
        ttl: 0,
        parent: document.parent,
        children: Vec::new(),
        children_content: None,
        source: document.source,
    };
    let mut effects = Effects::default();
    received(&record, &mut effects);
    (record, effects)
}

fn received(record: &ControlRecord, effects: &mut Effects) {
    effects
        .event(record, events::DOCUMENT_RECEIVED)
        .status(DocumentStatus::Pending)
        .with("content_sha256", record.content_sha256.as_str())
        .with("fingerprint", record.fingerprint.as_str())
        .with("file_size_bytes", record.file_size_bytes)
        .with_some("parent", record.parent.as_ref().map(DocumentId::as_str));
}

/// Registers a file whose source already has a record. Returns `None` instead of effects if the record does not
/// change.
///
/// A document counts as unchanged if its content, configuration *and* parent are the same. The status does not matter,
/// so another `ingest` does not retry a quarantined document. A held document stays held while its content and parent
/// are the same, because a new configuration would load the content that the user has rejected. A document that was
/// deleted or is scheduled for deletion becomes pending again.
pub fn register(record: &mut ControlRecord, document: NewDocument, now: UnixMicros) -> (Registered, Option<Effects>) {
    let held = record.parked_resume == Some(Resume::On(RELEASED.to_owned()));
    let same = record.content_sha256 == document.content
        && (record.fingerprint == document.fingerprint || held)
        && record.parent == document.parent;
    if same && record.intent == Intent::Process && record.status != DocumentStatus::Deleted {
        return (Registered::Unchanged(key(record), record.status), None);
    }
    let was_deleted = record.status == DocumentStatus::Deleted;
    record.content_sha256 = document.content;
    record.fingerprint = document.fingerprint;
    record.media_type = document.media_type;
    record.file_size_bytes = document.bytes;
    record.tenant = document.tenant;
    record.weight = document.weight;
    record.parent = document.parent;
    record.upload_timestamp = timestamp(now);
    record.intent = Intent::Process;
    record.status = DocumentStatus::Pending;
    record.urgent = false;
    void_claim(record);
    start_anew(record);
    let mut effects = Effects::default();
    received(record, &mut effects);
    let answer = if was_deleted { Registered::New(key(record)) } else { Registered::Replaces(key(record)) };
    (answer, Some(effects))
}

/// Registers the changed content of a claimed document, and thereby ends the claim.
pub fn register_changed(
    record: Option<&mut ControlRecord>,
    claim: &ClaimKey,
    document: NewDocument,
    now: UnixMicros,
) -> Result<(Registered, Option<Effects>), ControlError> {
    check_claim(record.as_deref(), claim)?;
    let record = record.filter(|record| record.source == document.source && record.intent == Intent::Process);
    let record = record.ok_or_else(|| ControlError::Fenced(claim.clone()))?;
    Ok(register(record, document, now))
}

/// Changes the source of a document whose file was moved. Rows in the index contain the source, so a loaded document
/// gets a new version. Its results up to the embeddings stay valid, and only loading is left to do. A document starts
/// anew if its new name gives it another type, if its extraction failed (the file may have been gone), or if it
/// contains other documents, because their sources begin with its own.
pub fn relocate(record: &mut ControlRecord, source: &str, media_type: MediaType) -> Result<Effects, ControlError> {
    if record.intent == Intent::Delete || record.status == DocumentStatus::Deleted {
        return Err(refused(record, "move", "ingest its file again"));
    }
    let was = record.status;
    let from = std::mem::replace(&mut record.source, source.to_owned());
    let (bucket, path) = bucket_and_key(source);
    (record.source_bucket, record.source_s3_key) = (bucket.to_owned(), path.to_owned());
    let failed_to_open = was == DocumentStatus::Quarantined && record.error_stage == Some(Stage::Extraction);
    let starts_anew = media_type != record.media_type || !record.children.is_empty() || failed_to_open;
    record.media_type = media_type;
    match was {
        _ if starts_anew && was != DocumentStatus::Failed => {
            void_claim(record);
            start_anew(record);
            record.children_content = None;
            record.status = DocumentStatus::Pending;
        }
        DocumentStatus::Completed | DocumentStatus::InProgress => {
            void_claim(record);
            if was == DocumentStatus::Completed || record.loaded_version >= Some(record.version) {
                record.version += 1;
                record.completed_at = None;
                forget_from(record, Stage::Loading);
                set_back_attempts(record);
            }
            record.status = DocumentStatus::Pending;
            RETRY_QUEUED.clone_into(&mut record.current_stage);
        }
        // The next run reads the source, or a person decides.
        DocumentStatus::Pending | DocumentStatus::Parked | DocumentStatus::Quarantined | DocumentStatus::Failed => {}
        DocumentStatus::Deleted => {}
    }
    let mut effects = Effects::default();
    effects.status_change(record, was).with("reason", "the file was moved").with("moved_from", from);
    Ok(effects)
}

/// Gives a claimed document a new version with a new configuration, and renews the claim.
pub fn reversion(record: &mut ControlRecord, fingerprint: &Sha256Hex) -> Result<(Claim, Effects), ControlError> {
    if record.intent == Intent::Delete {
        let id = &record.document_id;
        return Err(ControlError::Refused(format!(
            "document {id} is scheduled for deletion and can't get a new configuration"
        )));
    }
    record.fingerprint = fingerprint.clone();
    start_anew(record);
    record.epoch += 1;
    let mut effects = Effects::default();
    effects
        .status_change(record, record.status)
        .with("reason", "configuration changed; restarting from extraction")
        .with("fingerprint", fingerprint.as_str());
    Ok((claims::claim(record, Stage::Extraction), effects))
}

/// Updates a control record after the rows of `version` were found in the manifest. If the document has no newer
/// version and is not complete yet, it is completed. Returns the effects, and whether this completed the document.
/// Returns `None` if nothing has changed.
///
/// A record that already names `version` or a later version as loaded is not changed. A document that was reset after
/// the load therefore stays reset. If `version` is higher than the record's version, the record adopts `version`. This
/// case occurs if a power loss has undone the update of the record, but not the load of the rows.
pub fn mark_loaded(record: &mut ControlRecord, version: Version, now: UnixMicros) -> Option<(Effects, bool)> {
    let known = record.loaded_version >= Some(version);
    let deleted_since = record.status == DocumentStatus::Deleted && version <= record.version;
    let tombstone = record.intent == Intent::Delete && version == record.version;
    if known || deleted_since || tombstone {
        return None;
    }
    let mut effects = Effects::default();
    if version < record.version || (version == record.version && record.status == DocumentStatus::Completed) {
        record.loaded_version = Some(version);
        return Some((effects, false));
    }
    void_claim(record);
    record.version = version;
    record.intent = Intent::Process;
    completed(record, &mut effects, now).with("reason", "found in the manifest");
    Some((effects, true))
}

fn refused(record: &ControlRecord, what: &str, hint: &str) -> ControlError {
    ControlError::Refused(format!(
        "can't {what} document {}: it is {}; {hint}",
        record.document_id,
        name(record.status)
    ))
}

/// Makes the document pending again. It restarts from stage `from` or, without `from`, from its first unfinished
/// stage. A completed document gets a new version.
pub fn reset(record: &mut ControlRecord, from: Option<Stage>) -> Result<Effects, ControlError> {
    let was = record.status;
    match was {
        DocumentStatus::Quarantined | DocumentStatus::Failed | DocumentStatus::Parked | DocumentStatus::Completed => {}
        DocumentStatus::Pending => return Err(refused(record, "retry", "the next run processes it")),
        DocumentStatus::InProgress => {
            return Err(refused(record, "retry", "wait until it ends, or stop the run first"));
        }
        DocumentStatus::Deleted => return Err(refused(record, "retry", "ingest its file again")),
    }
    let unfinished = first_unfinished(record);
    let start = from.or(unfinished).unwrap_or(Stage::Extraction);
    if let Some(first) = unfinished.filter(|first| *first < start && record.intent == Intent::Process) {
        let id = &record.document_id;
        return Err(ControlError::Refused(format!(
            "can't retry document {id} from {start}: {first} has no result yet; retry it from {first}"
        )));
    }
    void_claim(record);
    if was == DocumentStatus::Completed || record.loaded_version >= Some(record.version) {
        record.version += 1;
        record.completed_at = None;
    }
    forget_from(record, start);
    set_back_attempts(record);
    record.status = DocumentStatus::Pending;
    record.urgent = true;
    RETRY_QUEUED.clone_into(&mut record.current_stage);
    let mut effects = Effects::default();
    effects.status_change(record, was).stage(start).with("reason", "retry requested");
    Ok(effects)
}

/// Parks a completed document, or one that is pending, until a user retries it or its source changes. It will restart
/// from stage `from`. A completed document gets a new version.
pub fn hold(record: &mut ControlRecord, from: Option<Stage>, reason: &str) -> Result<Effects, ControlError> {
    let was = record.status;
    match (was, record.intent) {
        (DocumentStatus::Completed, _) => drop(reset(record, from)?),
        (DocumentStatus::Pending, Intent::Process) => {}
        _ => return Err(refused(record, "hold", "only a completed or pending document can be held")),
    }
    record.status = DocumentStatus::Parked;
    record.urgent = false;
    record.parked_reason = Some(reason.to_owned());
    record.parked_resume = Some(Resume::On(RELEASED.to_owned()));
    let stage = first_unfinished(record);
    if let Some(stage) = stage {
        entry(record, stage).status = DocumentStatus::Parked;
    }
    let mut effects = Effects::default();
    effects.status_change(record, was).with("reason", reason).stage = stage;
    Ok(effects)
}

/// Schedules the document for deletion and makes it pending. Returns `None` if the deletion was already requested.
pub fn request_delete(record: &mut ControlRecord) -> Result<Option<Effects>, ControlError> {
    let was = record.status;
    if was == DocumentStatus::Deleted {
        return Err(refused(record, "delete", "ingest its file to restore it"));
    }
    if record.intent == Intent::Delete && matches!(was, DocumentStatus::Pending | DocumentStatus::InProgress) {
        // A deletion that was set to pending by hand has no mark.
        let unmarked = was == DocumentStatus::Pending && !record.urgent;
        record.urgent |= unmarked;
        return Ok(unmarked.then(Effects::default));
    }
    void_claim(record);
    start_anew(record);
    record.intent = Intent::Delete;
    record.status = DocumentStatus::Pending;
    record.urgent = true;
    // Registering the document again must register its children again.
    record.children_content = None;
    Stage::Loading.current_stage().clone_into(&mut record.current_stage);
    let mut effects = Effects::default();
    effects.status_change(record, was).with("reason", "deletion requested");
    Ok(Some(effects))
}

/// Makes the failure of a quarantined document final.
pub fn discard(record: &mut ControlRecord) -> Result<Effects, ControlError> {
    let was = record.status;
    if was != DocumentStatus::Quarantined {
        return Err(refused(record, "discard", "only quarantined documents can be discarded"));
    }
    void_claim(record);
    record.status = DocumentStatus::Failed;
    FAILED.clone_into(&mut record.current_stage);
    record.quarantine_artefact = None;
    record.quarantine_original = None;
    leave_aside(record);
    let mut effects = Effects::default();
    effects.status_change(record, was).with("reason", "discarded");
    Ok(effects)
}

/// Makes a parked document pending again.
pub fn resume(record: &mut ControlRecord) -> Effects {
    let was = record.status;
    let waited_for = record.parked_reason.take();
    leave_aside(record);
    record.status = DocumentStatus::Pending;
    let stage = first_unfinished(record);
    if let Some(stage) = stage {
        entry(record, stage).status = DocumentStatus::Pending;
    }
    let mut effects = Effects::default();
    effects.status_change(record, was).with("reason", "resumed").with_some("waited_for", waited_for).stage = stage;
    effects
}
