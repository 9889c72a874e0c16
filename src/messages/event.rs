//! Facts about documents, as they happen: for progress, `--json` and the summary.

use serde::Serialize;

use docweir_core::documents::{DocumentId, Stage, Version};
use docweir_core::error::StageError;

#[derive(Clone, Debug, Serialize)]
#[serde(tag = "event", rename_all = "snake_case")]
pub enum Event {
    /// A file was registered under a new version and waits for its turn.
    Registered {
        document: DocumentId,
        version: Version,
        source: String,
        replaces: bool,
    },
    /// Same content, same configuration: nothing to do.
    Unchanged {
        document: DocumentId,
        source: String,
        quarantined: bool,
    },
    /// A file that could not even be read; nothing was recorded.
    Unreadable {
        source: String,
        reason: String,
    },
    /// A document left the folder (`--prune`) or was asked to be deleted.
    RemovalRequested {
        document: DocumentId,
        source: String,
    },
    /// All files have been looked at.
    IntakeFinished {
        files: u64,
    },
    /// An unfinished document of an earlier run goes on.
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
    /// A document's claim was taken over or superseded; whoever has it now reports on it.
    Superseded {
        document: DocumentId,
    },
    /// A batch of texts or records is at the provider.
    BatchSubmitted {
        batch: String,
        /// `documents`, or the collection that its records come into.
        space: String,
        items: u64,
        tokens: u64,
    },
    /// A batch has ended, and its results are taken in.
    BatchEnded {
        batch: String,
        space: String,
        /// `COMPLETED`, `FAILED`, `EXPIRED`, `CANCELLED`.
        status: &'static str,
        items: u64,
        stored: u64,
        /// Refused for good.
        failed: u64,
        /// Changed or deleted since they were sent.
        stale: u64,
        /// To be sent again.
        returned: u64,
        tokens: u64,
        cost_usd: f64,
    },
    /// Records were stored that were embedded at once.
    RecordsStored {
        space: String,
        items: u64,
        failed: u64,
        tokens: u64,
        cost_usd: f64,
    },
    /// Records were taken in.
    RecordsRead {
        new: u64,
        changed: u64,
        unchanged: u64,
        noise: u64,
        /// Of the unchanged ones: refused by the provider in an earlier run.
        failed: u64,
    },
    /// A record that can't be used.
    RecordRefused {
        source: String,
        /// From 1; 0 where the source is the record itself.
        line: u64,
        reason: String,
    },
    /// Something that the user should see and that belongs to no document: fetching the model, draining.
    Notice {
        text: String,
    },
}

/// Takes events from any thread and returns at once.
pub trait EventSink: Send + Sync + 'static {
    fn emit(&self, event: Event);
}

impl<F: Fn(Event) + Send + Sync + 'static> EventSink for F {
    fn emit(&self, event: Event) {
        self(event);
    }
}
