//! Stores the control records, which describe pending work, finished work and current claims. This crate has a store
//! in SQLite; `docweir-aws-backend` has a store in DynamoDB.
//!
//! The record of a document holds the version to process and the progress of this version. A process gets work by a
//! *claim*, which is a conditional update that grants a lease and an epoch. The lease ends at an expiry time. The
//! epoch is a number that only grows. Every later write under the claim carries the epoch, and is refused once a newer
//! epoch exists ([`ControlError::Fenced`]). A stalled process that wakes up therefore changes nothing. A document
//! becomes `COMPLETED` only after its rows are in the manifest of the vector store.

#[cfg(any(test, feature = "testing"))]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "used only in tests")]
pub mod conformance;
pub mod rules;
pub mod sqlite;
pub mod stamps;

use std::collections::BTreeMap;
use std::time::Duration;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};

use docweir_core::clock::UnixMicros;
use docweir_core::documents::{DocumentId, MediaType, Sha256Hex, Stage, Version};
use docweir_core::error::StageError;

/// Lists the states of a document. The stages in a document's stage map have the same states.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum DocumentStatus {
    Pending,
    InProgress,
    Completed,
    Failed,
    Parked,
    Quarantined,
    Deleted,
}

impl DocumentStatus {
    pub const ALL: [DocumentStatus; 7] = [
        DocumentStatus::Pending,
        DocumentStatus::InProgress,
        DocumentStatus::Completed,
        DocumentStatus::Failed,
        DocumentStatus::Parked,
        DocumentStatus::Quarantined,
        DocumentStatus::Deleted,
    ];
}

/// Describes a file after intake has found the file, hashed its content and detected its type.
#[derive(Clone, Debug, PartialEq)]
pub struct NewDocument {
    /// URI of the file, for example `file:///…`. The URI is percent-encoded, because file names need not be UTF-8.
    /// Each source is one document.
    pub source: String,
    pub content: Sha256Hex,
    /// Hash of all settings that affect the result. These are settings of extraction, chunking, enrichment and the
    /// model.
    pub fingerprint: Sha256Hex,
    pub bytes: u64,
    pub media_type: MediaType,
    pub tenant: String,
    /// Weight of the tenant in fair sharing; 1 by default.
    pub weight: u32,
    /// Tag (ETag) that the object had when its content was read. Set only for objects in a bucket.
    pub tag: Option<String>,
    /// Document that contains this document. If this is set, `source` is the containing document's source with a
    /// fragment (`docweir_core::member`).
    pub parent: Option<DocumentId>,
}

/// Describes the object of a source at the time of the last read. Holds the object's tag and the hash of the object's
/// content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KnownObject {
    pub tag: String,
    pub content: Sha256Hex,
}

/// Reports the changes that [`ControlStore::set_children`] made.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChildChanges {
    /// Outcome of the registration of each child, in the order of the children.
    pub registered: Vec<Registered>,
    /// Former children that were scheduled for deletion.
    pub removed: Vec<RemovedChild>,
}

/// Identifies a former child that was scheduled for deletion.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RemovedChild {
    pub id: DocumentId,
    pub source: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
pub struct DocumentKey {
    pub id: DocumentId,
    pub version: Version,
}

/// Reports the outcome of registering one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Registered {
    /// The source is new, or returns after a deletion.
    New(DocumentKey),
    /// The content or the configuration has changed, so the document has a new version, which is pending.
    Replaces(DocumentKey),
    /// Content and configuration are unchanged. The status shows whether the document is done, waiting or
    /// quarantined.
    Unchanged(DocumentKey, DocumentStatus),
}

impl Registered {
    /// Returns the document's id and current version.
    pub fn key(&self) -> &DocumentKey {
        match self {
            Self::New(key) | Self::Replaces(key) | Self::Unchanged(key, _) => key,
        }
    }
}

/// Identifies a claim, which is the right to work on one version of a document until the lease ends or another process
/// claims the document.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClaimKey {
    pub id: DocumentId,
    pub version: Version,
    pub epoch: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Intent {
    /// Processes the document in all stages.
    Process,
    /// Removes the document from the vector store by a tombstone that has the claim's version.
    Delete,
}

/// Points to the stored result of a completed stage. The hash shows whether the result is intact.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageOutput {
    pub key: String,
    pub sha256: Sha256Hex,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Claim {
    pub key: ClaimKey,
    pub intent: Intent,
    pub source: String,
    pub content: Sha256Hex,
    pub fingerprint: Sha256Hex,
    pub bytes: u64,
    pub media_type: MediaType,
    pub tenant: String,
    pub weight: u32,
    pub parent: Option<DocumentId>,
    /// Documents that this document is known to contain.
    pub children: Vec<DocumentId>,
    /// First stage that is not completed.
    pub stage: Stage,
    /// Number of failed attempts at the current stage so far (`retry_count` of the record).
    pub attempts: u32,
    /// Number of times that a process died during the current stage.
    pub interruptions: u32,
    /// True if a user asked for this work.
    pub urgent: bool,
    /// Results of the completed stages.
    pub outputs: BTreeMap<Stage, StageOutput>,
    /// Highest version whose rows are known to be in the manifest. The claimed version will replace these rows.
    pub loaded_version: Option<Version>,
    /// Keys of objects that an earlier quarantine of the document stored. These objects are deleted when the document
    /// is complete.
    pub kept: Vec<String>,
}

/// Holds the metrics that a stage reports, as a map from names to values. Examples of names are `pages_extracted`,
/// `tokens_processed` and `openai_cost_usd`.
pub type StageMetrics = BTreeMap<String, f64>;

/// Describes an event of a claimed document. Each event is written to the record, the audit log and the daily metrics
/// in one atomic step.
#[derive(Clone, Debug, PartialEq)]
pub enum Transition {
    /// An attempt begins. This transition is stored before the work starts and raises `interruptions` by one; the next
    /// transition resets the counter. A document that kills its process is detected by this counter.
    StageStarted {
        stage: Stage,
    },
    StageCompleted {
        stage: Stage,
        output: Option<StageOutput>,
        metrics: StageMetrics,
        duration: Duration,
    },
    /// An attempt failed. This process will retry the stage after `wait`.
    StageRetry {
        stage: Stage,
        error: StageError,
        wait: Duration,
        consumes_attempt: bool,
    },
    /// The document waits for an event or a time and uses no worker and no memory. The claim ends.
    Parked {
        stage: Stage,
        reason: String,
        resume: Resume,
    },
    /// The document failed permanently, and the claim ends. `artefact` is the key of the failure report under
    /// `errors/`. `original` is the key of the copy of the original under `input/_quarantine/`, if a copy could be
    /// made.
    Quarantined {
        stage: Stage,
        error: StageError,
        artefact: Option<String>,
        original: Option<String>,
    },
    /// The document's rows are in the manifest. The document is complete, and the claim ends.
    Completed {
        metrics: StageMetrics,
        duration: Duration,
    },
    /// The document's tombstone is in the manifest. The claim ends.
    Deleted,
    /// The claim was released before its work was finished, as during a drain. The document is pending again at the
    /// same stage, and no attempt is counted.
    Released {
        stage: Stage,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resume {
    /// Resumes when [`ControlStore::resume`] is called with this event.
    On(String),
    At(UnixMicros),
}

/// Holds a stage's entry in the stage map, with the field names of the system that docweir replaces.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageRecord {
    pub status: DocumentStatus,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub started_at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub completed_at: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub duration_seconds: Option<f64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_s3_key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub output_sha256: Option<Sha256Hex>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub error: Option<String>,
    #[serde(flatten, deserialize_with = "metrics")]
    pub metrics: StageMetrics,
}

/// Reads metrics by way of JSON numbers, because a flattened map cannot read decimal numbers (decision 0023).
fn metrics<'de, D: serde::Deserializer<'de>>(from: D) -> Result<StageMetrics, D::Error> {
    let numbers = BTreeMap::<String, serde_json::Number>::deserialize(from)?;
    Ok(numbers.into_iter().filter_map(|(name, number)| Some((name, number.as_f64()?))).collect())
}

/// Holds a control record as it is read. The fields have the same names as the columns in SQLite and the attributes in
/// DynamoDB.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ControlRecord {
    pub document_id: DocumentId,
    /// Sort key of the system that docweir replaces; always `v1`.
    pub processing_version: String,
    /// `file://` for local files, otherwise the bucket's name.
    pub source_bucket: String,
    pub source_s3_key: String,
    pub source: String,
    pub version: Version,
    pub content_sha256: Sha256Hex,
    pub fingerprint: Sha256Hex,
    pub media_type: MediaType,
    pub file_size_bytes: u64,
    pub status: DocumentStatus,
    pub current_stage: String,
    pub intent: Intent,
    pub stage_status: BTreeMap<Stage, StageRecord>,
    pub retry_count: u32,
    pub max_retries: u32,
    pub interruptions: u32,
    /// True if a user asked for this work: a deletion, a retry or a replay. It is claimed before other work.
    #[serde(skip_serializing_if = "is_false")]
    pub urgent: bool,
    pub last_error: Option<StageError>,
    pub error_stage: Option<Stage>,
    /// Key of the failure report, set from the last quarantine until the document is complete.
    pub quarantine_artefact: Option<String>,
    /// Key of the copy of the original, set from the last quarantine until the document is complete.
    pub quarantine_original: Option<String>,
    /// Highest version whose rows are known to be in the manifest.
    pub loaded_version: Option<Version>,
    pub parked_reason: Option<String>,
    pub parked_resume: Option<Resume>,
    pub lease_owner: Option<String>,
    pub lease_expires_at: Option<String>,
    pub epoch: u64,
    pub tenant: String,
    pub weight: u32,
    /// Document that contains this document.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<DocumentId>,
    /// Documents that this document contains, at most [`rules::MAX_CHILDREN`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<DocumentId>,
    /// Hash of the content from which `children` was derived. Set once all children are registered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub children_content: Option<Sha256Hex>,
    pub upload_timestamp: String,
    pub created_at: String,
    pub updated_at: String,
    pub completed_at: Option<String>,
    /// Time after which the record may be deleted, in Unix seconds.
    pub ttl: i64,
}

/// Holds an entry of the audit log. `timestamp` consists of the UTC time in microseconds, `#` and a ULID, so that no
/// two entries collide.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditEvent {
    pub document_id: DocumentId,
    pub timestamp: String,
    pub event_type: String,
    pub stage: Option<Stage>,
    pub status: Option<DocumentStatus>,
    pub processing_version: String,
    /// Further details of the event, such as version, epoch, attempt and metrics.
    pub metadata: serde_json::Map<String, serde_json::Value>,
    pub worker_id: Option<String>,
    pub duration_seconds: Option<f64>,
    pub output_s3_key: Option<String>,
    pub error_type: Option<String>,
    pub error_message: Option<String>,
}

fn is_false(value: &bool) -> bool {
    !value
}

/// Selects the documents that may be claimed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimFilter {
    /// Work that a user asked for: pending documents that are to be deleted, retried or replayed.
    Commands,
    /// Documents that are to be deleted, including those whose process has died.
    Deletions,
}

impl ClaimFilter {
    /// Returns whether a record can be claimed under this filter.
    pub fn admits(self, record: &ControlRecord) -> bool {
        match self {
            Self::Commands => record.urgent && record.status == DocumentStatus::Pending,
            Self::Deletions => record.intent == Intent::Delete,
        }
    }
}

/// Selects records to list. A record must meet all conditions.
#[derive(Clone, Debug, Default)]
pub struct RecordFilter {
    pub status: Option<DocumentStatus>,
    /// Prefix of the sources to list.
    pub source_prefix: Option<String>,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum ControlError {
    #[error("no document `{0}`; `docweir status` lists all documents")]
    NotFound(String),
    /// Another process holds the document now, or the document has a newer version. Stop working on the document and
    /// write nothing.
    #[error("the claim on {id} version {version} epoch {epoch} is no longer valid", id = .0.id, version = .0.version, epoch = .0.epoch)]
    Fenced(ClaimKey),
    /// The command is not allowed in the current state of the record. The text says what is possible instead.
    #[error("{0}")]
    Refused(String),
    /// The store was locked or busy for longer than the configured wait.
    #[error("the control store is busy: {0}")]
    Busy(String),
    /// The credentials are missing, expired or not allowed to use the store. A process that has already worked waits
    /// until this is repaired.
    #[error("the control store at {location} denies access: {reason}; {hint}")]
    Denied { location: String, reason: String, hint: &'static str },
    /// The storage failed, for example because of a full disk, a read-only file or a damaged database.
    #[error("the control store at {location} failed: {reason}; {hint}")]
    Storage { location: String, reason: String, hint: &'static str },
}

/// Counts documents by status, for progress and `docweir status`.
pub type StatusCounts = BTreeMap<String, u64>;

/// Counts unfinished documents by their next step, and quarantined documents by their error.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct WaitCounts {
    /// Number of unfinished documents by next step: a stage such as `extract`, or `delete`.
    pub steps: BTreeMap<String, u64>,
    /// Number of quarantined documents by the code of their error.
    pub reasons: BTreeMap<String, u64>,
}

impl WaitCounts {
    /// Adds the document of a record.
    pub fn add_record(&mut self, record: &ControlRecord) {
        match record.status {
            DocumentStatus::InProgress => self.add(record.status, rules::next_step(record), 1),
            status => self.add(status, &rules::waits_for(record), 1),
        }
    }

    /// Adds all documents with a status by reading their records.
    pub async fn add_records<S: ControlStore + ?Sized>(
        &mut self,
        store: &S,
        status: DocumentStatus,
    ) -> Result<(), ControlError> {
        const PAGE: usize = 1_000;
        let filter = RecordFilter { status: Some(status), ..RecordFilter::default() };
        let mut after: Option<DocumentId> = None;
        loop {
            let page = store.list(&filter, after.as_ref(), PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            after = Some(last.document_id.clone());
            page.iter().for_each(|record| self.add_record(record));
        }
    }

    /// Adds documents with a status, and with the result of [`rules::waits_for`] or the next step of a document in
    /// progress.
    pub fn add(&mut self, status: DocumentStatus, waits_for: &str, documents: u64) {
        let counts = match status {
            DocumentStatus::Pending | DocumentStatus::InProgress | DocumentStatus::Parked => &mut self.steps,
            DocumentStatus::Quarantined => &mut self.reasons,
            DocumentStatus::Completed | DocumentStatus::Failed | DocumentStatus::Deleted => return,
        };
        if documents > 0 {
            *counts.entry(waits_for.to_owned()).or_default() += documents;
        }
    }
}

#[async_trait]
pub trait ControlStore: Send + Sync + 'static {
    fn location(&self) -> String;

    /// Registers files durably in one write. The answers are in the order of the files.
    async fn register(&self, documents: Vec<NewDocument>) -> Result<Vec<Registered>, ControlError>;

    /// Claims up to `limit` documents. A document can be claimed if it is `PENDING`, or if it is `IN_PROGRESS` and its
    /// lease has expired. Work that a user asked for (`urgent`) comes first; otherwise the order is first in, first
    /// out. The cost does not depend on the number of pending documents. For a `PENDING` document, the lease and the
    /// stage map do not matter. If `only` is set, other documents are skipped. A pending record without an unfinished
    /// stage was reset by hand. Such a record gets a new version and restarts from the first stage.
    async fn claim(
        &self,
        owner: &str,
        lease: Duration,
        limit: usize,
        only: Option<ClaimFilter>,
    ) -> Result<Vec<Claim>, ControlError>;

    /// Counts the pending documents, but counts at most to `at_most`.
    async fn pending(&self, at_most: usize) -> Result<usize, ControlError>;

    /// Extends the leases of `claims`. Returns those of the claims that are no longer valid.
    async fn renew(&self, claims: &[ClaimKey], lease: Duration) -> Result<Vec<ClaimKey>, ControlError>;

    /// Ends all leases, except those that `owner` holds. Only the holder of the state folder's lock may call this,
    /// because the lock proves that the other processes are gone.
    async fn expire_leases_of_others(&self, owner: &str) -> Result<u64, ControlError>;

    async fn apply(&self, claim: &ClaimKey, transition: Transition) -> Result<(), ControlError>;

    /// Declares which documents (children) a claimed document contains. New and changed children are registered;
    /// unchanged children are kept. Children that are no longer contained are scheduled for deletion, and so are their
    /// own children in turn. All changes are durable when this returns. After a failure, the call can be repeated. A
    /// child that was deleted separately from its parent stays deleted until the parent's content changes.
    ///
    /// Under a claim with [`Intent::Delete`], `children` must be empty, and all children are scheduled for deletion.
    ///
    /// # Errors
    /// Returns [`ControlError::Fenced`] if the claim is no longer valid. In this case, no further child is registered
    /// or removed. Returns [`ControlError::Refused`] for children that [`rules::check_children`] refuses.
    async fn set_children(&self, claim: &ClaimKey, children: Vec<NewDocument>) -> Result<ChildChanges, ControlError>;

    /// Registers the current content of a claimed document's source, because the file has changed since it was
    /// registered. The claim ends.
    ///
    /// # Errors
    /// Returns [`ControlError::Fenced`] if the claim is no longer valid, for example because the document is to be
    /// deleted. In this case nothing is registered.
    async fn register_changed(&self, claim: &ClaimKey, document: NewDocument) -> Result<Registered, ControlError>;

    /// Gives a claimed document a new version with a new fingerprint, and restarts the document from extraction. Call
    /// this for an unfinished document whose configuration has changed. Returns the renewed claim.
    async fn reversion(&self, claim: &ClaimKey, fingerprint: &Sha256Hex) -> Result<Claim, ControlError>;

    /// Marks documents as complete, because the given versions of these documents were found in the manifest.
    /// Documents that are already complete are not changed. Returns the number of newly completed documents.
    async fn mark_loaded(&self, keys: &[DocumentKey]) -> Result<u64, ControlError>;

    /// Makes a quarantined, failed, parked or completed document pending again. The document restarts from stage
    /// `from` or, without `from`, from its first unfinished stage. Its attempts are counted from zero again. A
    /// completed document gets a new version.
    async fn reset(&self, id: &DocumentId, from: Option<Stage>) -> Result<DocumentKey, ControlError>;

    /// Parks a completed or pending document until it is reset, its source changes, or [`resume`](Self::resume) is
    /// called with [`rules::RELEASED`]. The document will restart from stage `from` or, without `from`, from its first
    /// unfinished stage. A completed document gets a new version.
    async fn hold(&self, id: &DocumentId, from: Option<Stage>, reason: &str) -> Result<DocumentKey, ControlError>;

    /// Schedules the document for deletion from the vector store. The record becomes pending, with [`Intent::Delete`]
    /// and a new version.
    async fn request_delete(&self, id: &DocumentId) -> Result<DocumentKey, ControlError>;

    /// Discards a quarantined document permanently. Its status becomes `FAILED`. If an earlier version was loaded,
    /// that version stays visible in searches.
    async fn discard(&self, id: &DocumentId) -> Result<(), ControlError>;

    /// Makes parked documents pending if they wait for `event`, or if their resume time has passed. Returns the number
    /// of documents.
    async fn resume(&self, event: Option<&str>) -> Result<u64, ControlError>;

    async fn record(&self, id: &DocumentId) -> Result<ControlRecord, ControlError>;

    /// Returns the record of a source, or `None` if the source has none.
    async fn by_source(&self, source: &str) -> Result<Option<ControlRecord>, ControlError>;

    /// Returns documents with the given contents that come from files of this machine and are not deleted, at most 20
    /// for each content. Intake uses them to recognise moved files. A store without an index of contents returns none.
    async fn with_contents(&self, contents: &[Sha256Hex]) -> Result<Vec<ControlRecord>, ControlError> {
        let _ = contents;
        Ok(Vec::new())
    }

    /// Gives a document another source, because its file was moved. If its rows are loaded, the document gets a new
    /// version, of which only the loading stage is left to do. If the new name gives it another type, it starts anew.
    ///
    /// # Errors
    /// Returns [`ControlError::Refused`] if another document has the source, if the document is deleted or is to be
    /// deleted, or if the store has no index of contents.
    async fn relocate(
        &self,
        id: &DocumentId,
        source: &str,
        media_type: MediaType,
    ) -> Result<DocumentKey, ControlError> {
        let _ = media_type;
        Err(ControlError::Refused(format!("this store cannot change the source of document {id} to {source}")))
    }

    /// Returns the record of each source. Each record comes with the tag and the content hash that were last
    /// registered for the source's object. Intake compares the tags, and does not read unchanged objects again.
    /// Unknown sources are omitted. The result is empty if the store keeps no tags.
    async fn seen(&self, sources: &[String]) -> Result<Vec<(KnownObject, ControlRecord)>, ControlError> {
        let _ = sources;
        Ok(Vec::new())
    }

    /// Lists at most `limit` records with an id above `after`, in order of id.
    async fn list(
        &self,
        filter: &RecordFilter,
        after: Option<&DocumentId>,
        limit: usize,
    ) -> Result<Vec<ControlRecord>, ControlError>;

    async fn counts(&self) -> Result<StatusCounts, ControlError>;

    /// Counts the documents that wait, by what they wait for. A store that keeps no such numbers reads the records of
    /// these documents.
    async fn waiting(&self) -> Result<WaitCounts, ControlError> {
        let mut counts = WaitCounts::default();
        for status in
            [DocumentStatus::Pending, DocumentStatus::InProgress, DocumentStatus::Parked, DocumentStatus::Quarantined]
        {
            counts.add_records(self, status).await?;
        }
        Ok(counts)
    }

    /// Lists at most `limit` audit entries later than `after` (a `timestamp`), in order of time.
    async fn audit(&self, id: &DocumentId, after: Option<&str>, limit: usize) -> Result<Vec<AuditEvent>, ControlError>;

    /// Writes metrics whose write was deferred. Call this before the process ends.
    async fn flush(&self) -> Result<(), ControlError> {
        Ok(())
    }
}
