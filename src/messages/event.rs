//! Defines the events of a run. The progress display, the output of `--json` and the summary are computed from these
//! events.

use serde::Serialize;

use docweir_core::documents::{DocumentId, Stage, Version};
use docweir_core::error::StageError;

use crate::intake::left_alone::LeftAlone;

#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A file was registered as a new version of its document and is waiting to be claimed.
    Registered {
        document: DocumentId,
        version: Version,
        source: String,
        replaces: bool,
    },
    /// The content and the configuration of a file are unchanged, so nothing is done.
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
    /// Deletion of a document was requested, either by the user or by `--prune` because the document's file is gone.
    RemovalRequested {
        document: DocumentId,
        source: String,
    },
    /// The file of a document was moved. The document keeps its id and its vectors.
    Moved {
        document: DocumentId,
        from: String,
        to: String,
    },
    /// `--prune` removed no documents of this folder. `gone` of its `documents` documents have no file any more.
    PruneRefused {
        folder: String,
        gone: u64,
        documents: u64,
        reason: String,
    },
    /// Intake has inspected all files. `left_alone` counts the entries that are not ingested.
    IntakeFinished {
        files: u64,
        left_alone: LeftAlone,
    },
    /// A document that an earlier run left unfinished is resumed.
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
    /// This process lost its claim on a document, because a newer claim exists. The process that holds the newer claim
    /// reports the outcome.
    Superseded {
        document: DocumentId,
    },
    /// A batch of texts or records was submitted to the provider.
    BatchSubmitted {
        batch: String,
        /// Kind of the batch's items: `documents` for texts of documents, otherwise the collection of the records.
        space: String,
        items: u64,
        tokens: u64,
    },
    /// A batch has ended, and its results are stored.
    BatchEnded {
        batch: String,
        space: String,
        /// Final status of the batch: `COMPLETED`, `FAILED`, `EXPIRED` or `CANCELLED`.
        status: &'static str,
        items: u64,
        stored: u64,
        /// Number of items that the provider refused permanently.
        failed: u64,
        /// Number of items that were deleted or changed after they had been sent. The results for these items are
        /// dropped.
        stale: u64,
        /// Number of items without a result. These items will be sent again.
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
        /// Number of unchanged records that are not embedded again, because the provider refused them in an earlier
        /// run.
        failed: u64,
    },
    /// A record was refused because it is invalid.
    RecordRefused {
        source: String,
        /// Line number of the record in its source, counted from 1. The number is 0 if the source has no lines.
        line: u64,
        reason: String,
    },
    /// A record was stored, or replaced by a later one, in a way that users should know of.
    RecordNoted {
        source: String,
        /// Line number of the record in its source, counted from 1. The number is 0 if the note concerns many lines.
        line: u64,
        text: String,
    },
    /// Nothing more can be paid for within the budget. The rest of the work waits.
    BudgetSpent {
        text: String,
    },
    /// A message for the user that concerns the run as a whole and not one document. Examples are the download of a
    /// model and the start of a drain.
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
