//! The control store: what is to be done, what was done, who is doing it. SQLite here, DynamoDB later.
//!
//! A document's record says which version is wanted and how far it has come. Work is taken by a *claim*: a conditional
//! update that gives the claimant a lease (a time) and an epoch (a number that only grows). Every later write of the
//! claimant carries the epoch and is refused once a newer one exists ([`ControlError::Fenced`]): a stalled process
//! that wakes up changes nothing. Completion follows the vector store's manifest: a document is `COMPLETED` because
//! its rows are in the manifest, never the other way round.

#[cfg(any(test, feature = "testing"))]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "it is for tests")]
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

/// DocumentStatus of a document, and of a stage in the stage map.
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

/// A file that intake has found, hashed and told the type of.
#[derive(Clone, Debug, PartialEq)]
pub struct NewDocument {
    /// `file:///…`, percent-encoded: names that are not UTF-8 too. One source is one document.
    pub source: String,
    pub content: Sha256Hex,
    /// Of the configuration that shapes the result: extraction, chunking, enrichment, model.
    pub fingerprint: Sha256Hex,
    pub bytes: u64,
    pub media_type: MediaType,
    pub tenant: String,
    /// Share among tenants, 1 by default.
    pub weight: u32,
    /// Of an object in a bucket: the mark of the state that has this content.
    pub tag: Option<String>,
    /// Document that contains this one; its source is then the container's with a fragment
    /// (`docweir_core::member`).
    pub parent: Option<DocumentId>,
}

/// What is known of a source's object: under this mark it has this content.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Seen {
    pub tag: String,
    pub content: Sha256Hex,
}

/// What declaring a document's children came to.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ChildChanges {
    /// One answer for each child, in their order.
    pub registered: Vec<Registered>,
    /// Former children whose removal was requested.
    pub removed: Vec<RemovedChild>,
}

/// A former child whose removal was requested.
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

/// What registering a file came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Registered {
    /// First time that this source is seen (or again after a deletion).
    New(DocumentKey),
    /// Other content or other configuration than before: a new version, pending.
    Replaces(DocumentKey),
    /// Same content, same configuration. The status says whether it is done, waiting or quarantined.
    Unchanged(DocumentKey, DocumentStatus),
}

impl Registered {
    /// Returns the document as it now stands.
    pub fn key(&self) -> &DocumentKey {
        match self {
            Self::New(key) | Self::Replaces(key) | Self::Unchanged(key, _) => key,
        }
    }
}

/// The right to work on one document version, until the lease ends or somebody claims it anew.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub struct ClaimKey {
    pub id: DocumentId,
    pub version: Version,
    pub epoch: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Intent {
    /// Bring the document through the stages.
    Process,
    /// Take it out of the vector store: a tombstone of the claim's version.
    Delete,
}

/// Where a completed stage left its result, and the hash that shows it is whole.
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
    /// Documents that it is known to contain.
    pub children: Vec<DocumentId>,
    /// The first stage that is not completed.
    pub stage: Stage,
    /// Failed attempts at that stage so far (`retry_count`).
    pub attempts: u32,
    /// Times that a process died while it was at that stage.
    pub interruptions: u32,
    /// Of the completed stages.
    pub outputs: BTreeMap<Stage, StageOutput>,
    /// The highest version whose rows the manifest is known to hold: what this version will replace.
    pub loaded_version: Option<Version>,
    /// Keys that an earlier quarantine of the document left, to be taken away when it is complete.
    pub kept: Vec<String>,
}

/// Numbers that a stage reports (`pages_extracted`, `chunks_created`, `tokens_processed`, `openai_cost_usd`, …).
pub type StageMetrics = BTreeMap<String, f64>;

/// What happens to a claimed document. Each is one atomic write of the record, the audit log and the daily metrics.
#[derive(Clone, Debug, PartialEq)]
pub enum Transition {
    /// An attempt begins. Persisted before the work, so that a document that kills the process is found out:
    /// `interruptions` grows by one here and is set back by what follows.
    StageStarted {
        stage: Stage,
    },
    StageCompleted {
        stage: Stage,
        output: Option<StageOutput>,
        metrics: StageMetrics,
        duration: Duration,
    },
    /// An attempt failed and another will follow after `wait`, in this process.
    StageRetry {
        stage: Stage,
        error: StageError,
        wait: Duration,
        consumes_attempt: bool,
    },
    /// Waits for an event or a time, holding no worker and no memory. The claim ends.
    Parked {
        stage: Stage,
        reason: String,
        resume: Resume,
    },
    /// Given up: the claim ends. `artefact` is the key under `errors/` that tells all, `original` the key of the
    /// copy under `input/_quarantine/`, if one could be made.
    Quarantined {
        stage: Stage,
        error: StageError,
        artefact: Option<String>,
        original: Option<String>,
    },
    /// The manifest holds the rows: the document is complete and the claim ends.
    Completed {
        metrics: StageMetrics,
        duration: Duration,
    },
    /// The tombstone is in the manifest. The claim ends.
    Deleted,
    /// Given back unfinished (drain): pending again at the same stage, with nothing held against it.
    Released {
        stage: Stage,
    },
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Resume {
    /// [`ControlStore::resume`] with the same word.
    On(String),
    At(UnixMicros),
}

/// A stage's entry in the record's stage map, under the names of the system that this one replaces.
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
    #[serde(flatten)]
    pub metrics: StageMetrics,
}

/// A control record as it is read. Field names are the columns' and attributes' names.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct ControlRecord {
    pub document_id: DocumentId,
    /// Always `v1`: the sort key of the system that this one replaces.
    pub processing_version: String,
    /// `file://` for local files, else the bucket.
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
    pub last_error: Option<StageError>,
    pub error_stage: Option<Stage>,
    /// Keys of the failed artefact and of the original's copy, from the last quarantine until the document is complete.
    pub quarantine_artefact: Option<String>,
    pub quarantine_original: Option<String>,
    /// The highest version whose rows the manifest is known to hold.
    pub loaded_version: Option<Version>,
    pub parked_reason: Option<String>,
    pub parked_resume: Option<Resume>,
    pub lease_owner: Option<String>,
    pub lease_expires_at: Option<String>,
    pub epoch: u64,
    pub tenant: String,
    pub weight: u32,
    /// Document that contains this one.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<DocumentId>,
    /// Documents that it contains, at most [`rules::MAX_CHILDREN`].
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<DocumentId>,
    /// Content that `children` was made from, once all of them are registered.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub children_content: Option<Sha256Hex>,
    pub upload_timestamp: String,
    pub created_at: String,
    pub updated_at: String,
    pub completed_at: Option<String>,
    /// Unix seconds after which the record may be forgotten.
    pub ttl: i64,
}

/// An entry of the audit log. `timestamp` is UTC microseconds + `#` + ULID, so that no two entries collide.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AuditEvent {
    pub document_id: DocumentId,
    pub timestamp: String,
    pub event_type: String,
    pub stage: Option<Stage>,
    pub status: Option<DocumentStatus>,
    pub processing_version: String,
    /// Version, epoch, attempt, metrics: whatever the event has.
    pub metadata: serde_json::Map<String, serde_json::Value>,
    pub worker_id: Option<String>,
    pub duration_seconds: Option<f64>,
    pub output_s3_key: Option<String>,
    pub error_type: Option<String>,
    pub error_message: Option<String>,
}

/// Which records to list; all conditions must hold.
#[derive(Clone, Debug, Default)]
pub struct RecordFilter {
    pub status: Option<DocumentStatus>,
    /// Sources that begin with this.
    pub source_prefix: Option<String>,
}

#[derive(Debug, thiserror::Error)]
pub enum ControlError {
    #[error("no document `{0}`; `docweir status` lists them")]
    NotFound(String),
    /// Somebody else holds the document now, or it has a newer version: drop the work, write nothing.
    #[error("the claim on {id} version {version} epoch {epoch} is no longer valid", id = .0.id, version = .0.version, epoch = .0.epoch)]
    Fenced(ClaimKey),
    /// A command that does not fit the record's state; the text says what would.
    #[error("{0}")]
    Refused(String),
    /// Locked or busy beyond the configured wait.
    #[error("the control store is busy: {0}")]
    Busy(String),
    /// Full disk, read-only file, damaged database.
    #[error("the control store at {location} failed: {reason}; {hint}")]
    Storage { location: String, reason: String, hint: &'static str },
}

/// Counts by status, for progress and `status`.
pub type StatusCounts = BTreeMap<String, u64>;

#[async_trait]
pub trait ControlStore: Send + Sync + 'static {
    fn location(&self) -> String;

    /// Records a batch of files, durably, in one write; the answers are in the order of the question.
    async fn register(&self, documents: Vec<NewDocument>) -> Result<Vec<Registered>, ControlError>;

    /// Takes up to `limit` documents to work on, first in first out: those that are `PENDING`, whatever their lease
    /// and stage map say, and those `IN_PROGRESS` whose lease has ended; only those of one intent, if one is given. A
    /// record without an unfinished stage that is pending again (a manual reset) gets a new version and starts anew.
    async fn claim(
        &self,
        owner: &str,
        lease: Duration,
        limit: usize,
        only: Option<Intent>,
    ) -> Result<Vec<Claim>, ControlError>;

    /// Moves the leases of `claims` on; returns those that are no longer valid.
    async fn renew(&self, claims: &[ClaimKey], lease: Duration) -> Result<Vec<ClaimKey>, ControlError>;

    /// Ends every lease of owners other than `owner`. Only for who holds the state folder's lock, which proves that
    /// their processes are gone.
    async fn expire_leases_of_others(&self, owner: &str) -> Result<u64, ControlError>;

    async fn apply(&self, claim: &ClaimKey, transition: Transition) -> Result<(), ControlError>;

    /// Declares which documents a claimed document contains. Registers those that are new or changed, keeps those that
    /// are not, and requests removal of those that it no longer contains, which each remove what they contain in turn.
    /// All of it is durable when this returns; after a failure it is safe to repeat. A child that was deleted by itself
    /// stays deleted until the parent's content changes.
    ///
    /// Under a claim to delete the document, `children` is empty: removal of all of them is requested.
    ///
    /// # Errors
    /// [`ControlError::Fenced`] where the claim is no longer valid: from then on nothing is registered or removed under
    /// it. [`ControlError::Refused`] for children that [`rules::check_children`] refuses.
    async fn set_children(&self, claim: &ClaimKey, children: Vec<NewDocument>) -> Result<ChildChanges, ControlError>;

    /// Gives a claimed document a new version under a new fingerprint and starts it anew from extraction: for a
    /// document whose configuration changed while it was unfinished. Returns the claim as it then stands.
    async fn reversion(&self, claim: &ClaimKey, fingerprint: &Sha256Hex) -> Result<Claim, ControlError>;

    /// The manifest was found to hold these versions: completes those records that do not say so yet.
    async fn mark_loaded(&self, keys: &[DocumentKey]) -> Result<u64, ControlError>;

    /// Makes a quarantined, failed, parked or completed document pending again, from `from` or from its unfinished
    /// stage, with its attempts set back. Completed ones get a new version.
    async fn reset(&self, id: &DocumentId, from: Option<Stage>) -> Result<DocumentKey, ControlError>;

    /// Asks for the document's removal from the vector store: pending, with [`Intent::Delete`] and a new version.
    async fn request_delete(&self, id: &DocumentId) -> Result<DocumentKey, ControlError>;

    /// Forgets a quarantined document's failure for good: status `FAILED`; its predecessor, if any, stays visible.
    async fn discard(&self, id: &DocumentId) -> Result<(), ControlError>;

    /// Makes parked documents pending: those that wait for `event`, and those whose time has come.
    async fn resume(&self, event: Option<&str>) -> Result<u64, ControlError>;

    async fn record(&self, id: &DocumentId) -> Result<ControlRecord, ControlError>;

    /// The record of a source, if it has one.
    async fn by_source(&self, source: &str) -> Result<Option<ControlRecord>, ControlError>;

    /// What was last registered with a mark for each of the sources, and their records: it saves reading the objects
    /// again. Sources of which nothing is known are left out; a store may keep none.
    async fn seen(&self, sources: &[String]) -> Result<Vec<(Seen, ControlRecord)>, ControlError> {
        let _ = sources;
        Ok(Vec::new())
    }

    /// Records in order of id, after `after`, at most `limit`.
    async fn list(
        &self,
        filter: &RecordFilter,
        after: Option<&DocumentId>,
        limit: usize,
    ) -> Result<Vec<ControlRecord>, ControlError>;

    async fn counts(&self) -> Result<StatusCounts, ControlError>;

    /// In order of time, after `after` (a `timestamp`), at most `limit`.
    async fn audit(&self, id: &DocumentId, after: Option<&str>, limit: usize) -> Result<Vec<AuditEvent>, ControlError>;

    /// Writes what was put off (figures only); to be called before a process ends.
    async fn flush(&self) -> Result<(), ControlError> {
        Ok(())
    }
}
