//! Defines the events of a run. Progress, `--json` and the summary are made from them.

use serde::Serialize;

use docweir_core::documents::{DocumentId, Stage, Version};
use docweir_core::error::StageError;

#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A file was registered under a new version and is waiting to be claimed.
    Registered {
        document: DocumentId,
        version: Version,
        source: String,
        replaces: bool,
    },
    /// Content and configuration of a file are unchanged, so there is nothing to do.
    Unchanged {
        document: DocumentId,
        source: String,
        quarantined: bool,
    },
    /// A file could not be read, so nothing was recorded.
    Unreadable {
        source: String,
        reason: String,
    },
    /// Deletion of a document was requested, by the user or because its file left the folder (`--prune`).
    RemovalRequested {
        document: DocumentId,
        source: String,
    },
    /// Intake has inspected all files.
    IntakeFinished {
        files: u64,
    },
    /// An unfinished document of an earlier run is resumed.
    Resumed {
        document: DocumentId,
        version: Version,
        source: String,
        stage: Stage,
    },
    StageCompleted {
        document: DocumentId,
        stage: Stage,
        seconds: f64,
        metrics: std::collections::BTreeMap<String, f64>,
    },
    Retried {
        document: DocumentId,
        source: String,
        stage: Stage,
        wait_seconds: f64,
        error: StageError,
    },
    Quarantined {
        document: DocumentId,
        source: String,
        stage: Stage,
        error: StageError,
    },
    Parked {
        document: DocumentId,
        source: String,
        stage: Stage,
        reason: String,
    },
    Completed {
        document: DocumentId,
        version: Version,
        source: String,
        replaced: bool,
        notes: Vec<String>,
    },
    Deleted {
        document: DocumentId,
        source: String,
    },
    /// A document's claim was taken over or superseded. The process that holds the newer claim reports the outcome.
    Superseded {
        document: DocumentId,
    },
    /// A batch of texts or records was submitted to the provider.
    BatchSubmitted {
        batch: String,
        /// `documents` for texts of documents; otherwise the collection of the records.
        space: String,
        items: u64,
        tokens: u64,
    },
    /// A batch has ended, and its results are stored.
    BatchEnded {
        batch: String,
        space: String,
        /// Final status: `COMPLETED`, `FAILED`, `EXPIRED` or `CANCELLED`.
        status: &'static str,
        items: u64,
        stored: u64,
        /// Number of items that were refused permanently.
        failed: u64,
        /// Number of items that were changed or deleted after they were sent.
        stale: u64,
        /// Number of items that will be sent again.
        returned: u64,
        tokens: u64,
        cost_usd: f64,
    },
    /// Records were embedded by live calls and stored.
    RecordsStored {
        space: String,
        items: u64,
        failed: u64,
        tokens: u64,
        cost_usd: f64,
    },
    /// Records were read and enqueued.
    RecordsRead {
        new: u64,
        changed: u64,
        unchanged: u64,
        noise: u64,
        /// Number of unchanged records that the provider refused in an earlier run.
        failed: u64,
    },
    /// A record was refused because it can't be used.
    RecordRefused {
        source: String,
        /// Line in the source, from 1; 0 if the source is the record itself.
        line: u64,
        reason: String,
    },
    /// A message for the user that concerns no single document, such as the download of the model or a drain.
    Notice {
        text: String,
    },
}

/// Receives events from any thread. `emit` returns immediately.
pub trait EventSink: Send + Sync + 'static {
    fn emit(&self, event: Event);
}

impl<F: Fn(Event) + Send + Sync + 'static> EventSink for F {
    fn emit(&self, event: Event) {
        self(event);
    }
}
