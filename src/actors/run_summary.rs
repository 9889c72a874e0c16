//! Adds up the events of a run. The totals are the basis of the summary and the exit code.

use std::collections::{BTreeMap, HashMap};
use std::hash::{Hash, Hasher};

use docweir_core::documents::{DocumentId, Stage};
use docweir_core::error::StageError;
use docweir_stores::batches::DOCUMENTS;
use serde::Serialize;

use crate::intake::left_alone::LeftAlone;
use crate::messages::event::Event;

/// Maximum number of documents and of records that the summary lists with reasons. All others are only counted;
/// `docweir quarantine list` shows all quarantined documents.
const LISTED: usize = 1_000;

/// Holds the totals of a run.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct RunSummary {
    pub files: u64,
    /// Entries of folders and buckets that are not ingested, by reason.
    pub left_alone: LeftAlone,
    pub registered: u64,
    pub unchanged: u64,
    pub resumed: u64,
    /// Number of documents that this run completed. Includes new versions of earlier documents.
    pub completed: u64,
    pub replaced: u64,
    pub deleted: u64,
    /// Number of documents whose files were moved.
    pub moved: u64,
    /// Folders of which `--prune` removed no documents, because too many files are gone.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub prune_refused: Vec<PruneRefused>,
    pub retried: u64,
    pub parked: u64,
    pub superseded: u64,
    pub quarantined: Vec<Rejected>,
    /// Number of quarantined documents that are not in the list.
    pub quarantined_unlisted: u64,
    /// Number of documents that were quarantined in an earlier run and have not changed since.
    pub still_quarantined: u64,
    pub unreadable: Vec<Unreadable>,
    pub unreadable_unlisted: u64,
    pub pages: u64,
    pub chunks: u64,
    pub vectors: u64,
    pub tokens: u64,
    pub cached_tokens: u64,
    pub cost_usd: f64,
    /// Parked documents that wait for an external event. Each is stored with the kind of event, under a hash of its
    /// identifier, so that a million documents need few megabytes. The probability that two of a million documents have
    /// the same hash is below one in 10^7; the counts would then miss one.
    #[serde(skip)]
    pub waiting: HashMap<u64, WaitReason>,
    #[serde(skip_serializing_if = "Records::is_none")]
    pub records: Records,
    #[serde(skip_serializing_if = "BatchCounts::is_none")]
    pub batches: BatchCounts,
    /// Notes about documents. Each note is stored with the number of documents that have it.
    pub notes: BTreeMap<String, u64>,
    /// Reason why work waits for the budget, if the budget was used up in this run.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub budget_spent: Option<String>,
}

/// Names the external event that a document waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum WaitReason {
    Batch,
    Budget,
    Other,
}

/// Counts records by outcome.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Records {
    pub new: u64,
    pub changed: u64,
    pub unchanged: u64,
    /// Number of noise records, which are stored but not embedded. They are included in `new`, `changed` and
    /// `unchanged`.
    pub noise: u64,
    pub refused: Vec<RefusedRecord>,
    /// Number of refused records that are not in the list.
    pub refused_unlisted: u64,
    /// Notes on records that were not refused, such as records with a repeated id.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<RecordNote>,
    /// Number of notes that are not in the list.
    #[serde(skip_serializing_if = "is_zero")]
    pub notes_unlisted: u64,
    pub stored: u64,
    /// Number of records that the provider refused permanently.
    pub failed: u64,
    /// Number of records that the provider refused in an earlier run and that have not changed since.
    pub still_failed: u64,
}

impl Records {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }

    pub fn refused_now(&self) -> u64 {
        self.refused.len() as u64 + self.refused_unlisted
    }
}

/// Describes a record that could not be ingested.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RefusedRecord {
    pub source: String,
    pub line: u64,
    pub reason: String,
}

/// Describes what users should know of a record.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct RecordNote {
    pub source: String,
    /// Line number of the record, counted from 1. The number is 0 if the note concerns many lines.
    pub line: u64,
    pub text: String,
}

fn is_zero(n: &u64) -> bool {
    *n == 0
}

/// Counts the batches of this run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct BatchCounts {
    pub submitted: u64,
    pub ended: u64,
    /// Number of items whose results were discarded, because the item was changed or deleted after it had been sent.
    pub stale: u64,
}

impl BatchCounts {
    fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// Describes a document that was quarantined.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rejected {
    pub document: DocumentId,
    pub source: String,
    pub stage: Stage,
    pub error: StageError,
}

/// Describes a folder of which `--prune` removed no documents.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PruneRefused {
    pub folder: String,
    /// Number of documents whose files are gone.
    pub gone: u64,
    /// Number of all documents of the folder.
    pub documents: u64,
    pub reason: String,
}

/// Describes a file that could not be read.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Unreadable {
    pub source: String,
    pub reason: String,
}

impl RunSummary {
    pub fn add(&mut self, event: &Event) {
        match event {
            Event::Registered { .. } => self.registered += 1,
            Event::Unchanged { quarantined, .. } => {
                self.unchanged += 1;
                self.still_quarantined += u64::from(*quarantined);
            }
            Event::Unreadable { source, reason } => {
                if self.unreadable.len() < LISTED {
                    self.unreadable.push(Unreadable { source: source.clone(), reason: reason.clone() });
                } else {
                    self.unreadable_unlisted += 1;
                }
            }
            Event::IntakeFinished { files, left_alone } => {
                self.files += files;
                self.left_alone.merge(left_alone);
            }
            // A document that was parked in this run was already counted.
            Event::Resumed { document, .. } => self.resumed += u64::from(!self.unpark(document)),
            Event::StageCompleted { metrics, .. } => {
                let count = |name: &str| metrics.get(name).copied().unwrap_or_default();
                self.pages += count("pages_extracted") as u64;
                self.chunks += count("chunks_created") as u64;
                self.vectors += count("vectors_uploaded") as u64;
                self.tokens += count("tokens_processed") as u64;
                self.cached_tokens += count("tokens_cached") as u64;
                self.cost_usd += count("openai_cost_usd") + count("comprehend_cost_usd");
            }
            Event::Retried { .. } => self.retried += 1,
            Event::Quarantined { document, source, stage, error } => {
                if self.quarantined.len() < LISTED {
                    self.quarantined.push(Rejected {
                        document: document.clone(),
                        source: source.clone(),
                        stage: *stage,
                        error: error.clone(),
                    });
                } else {
                    self.quarantined_unlisted += 1;
                }
            }
            Event::Parked { document, reason, .. } => {
                let wait = WaitReason::of(reason);
                if wait == WaitReason::Budget {
                    self.budget_spent = Some(reason.clone());
                }
                self.waiting.insert(short_hash(document), wait);
                self.parked = self.waiting.len() as u64;
            }
            Event::Completed { document, replaced, notes, .. } => {
                self.unpark(document);
                self.completed += 1;
                self.replaced += u64::from(*replaced);
                for note in notes {
                    *self.notes.entry(kind(note)).or_default() += 1;
                }
            }
            Event::Deleted { .. } => self.deleted += 1,
            Event::Superseded { .. } => self.superseded += 1,
            Event::RecordsRead { new, changed, unchanged, noise, failed } => {
                let r = &mut self.records;
                r.new += new;
                r.changed += changed;
                r.unchanged += unchanged;
                r.noise += noise;
                r.still_failed += failed;
            }
            Event::RecordRefused { source, line, reason } => {
                let r = &mut self.records;
                if r.refused.len() < LISTED {
                    r.refused.push(RefusedRecord { source: source.clone(), line: *line, reason: reason.clone() });
                } else {
                    r.refused_unlisted += 1;
                }
            }
            Event::RecordNoted { source, line, text } => {
                let r = &mut self.records;
                if r.notes.len() < LISTED {
                    r.notes.push(RecordNote { source: source.clone(), line: *line, text: text.clone() });
                } else {
                    r.notes_unlisted += 1;
                }
            }
            Event::RecordsStored { items, failed, tokens, cost_usd, .. } => {
                self.records.stored += items;
                self.records.failed += failed;
                self.tokens += tokens;
                self.cost_usd += cost_usd;
            }
            Event::BatchSubmitted { .. } => self.batches.submitted += 1,
            Event::BatchEnded { space, stored, failed, stale, tokens, cost_usd, .. } => {
                self.batches.ended += 1;
                self.batches.stale += stale;
                // The cost of documents' texts is counted when the documents complete the embedding stage.
                if space != DOCUMENTS {
                    self.records.stored += stored;
                    self.records.failed += failed;
                    self.tokens += tokens;
                    self.cost_usd += cost_usd;
                }
            }
            Event::Moved { document, .. } => {
                self.moved += 1;
                // The run may have looked for the file at its old place before it found the new one. The document is
                // processed again, or counted as quarantined in an earlier run.
                self.quarantined.retain(|rejected| rejected.document != *document);
            }
            Event::PruneRefused { folder, gone, documents, reason } => self.prune_refused.push(PruneRefused {
                folder: folder.clone(),
                gone: *gone,
                documents: *documents,
                reason: reason.clone(),
            }),
            Event::BudgetSpent { text } => self.budget_spent = Some(text.clone()),
            Event::RemovalRequested { .. } | Event::Notice { .. } => {}
        }
    }

    /// Stops counting a document as parked. Returns whether the document was parked in this run.
    fn unpark(&mut self, document: &DocumentId) -> bool {
        let parked = self.waiting.remove(&short_hash(document)).is_some();
        self.parked = self.waiting.len() as u64;
        parked
    }

    /// Returns the number of documents that wait for the given kind of event.
    pub fn parked_for(&self, what: WaitReason) -> u64 {
        self.waiting.values().filter(|w| **w == what).count() as u64
    }

    pub fn quarantined_now(&self) -> u64 {
        self.quarantined.len() as u64 + self.quarantined_unlisted
    }

    pub fn unreadable_now(&self) -> u64 {
        self.unreadable.len() as u64 + self.unreadable_unlisted
    }

    /// Returns whether everything that the user requested is in the index.
    pub fn all_well(&self) -> bool {
        self.quarantined_now() + self.still_quarantined + self.unreadable_now() == 0
            && self.records.refused_now() + self.records.failed + self.records.still_failed == 0
    }
}

impl WaitReason {
    fn of(reason: &str) -> Self {
        match reason {
            r if r.starts_with("waits for a batch") => WaitReason::Batch,
            r if r.starts_with("the budget") => WaitReason::Budget,
            _ => WaitReason::Other,
        }
    }
}

fn short_hash(document: &DocumentId) -> u64 {
    let mut hasher = std::hash::DefaultHasher::new();
    document.hash(&mut hasher);
    hasher.finish()
}

/// Returns a note without its numbers and positions, so that similar notes about different documents are counted
/// together.
fn kind(note: &str) -> String {
    let head = note.split(": ").next().unwrap_or_default();
    let figure = |word: &&str| !word.trim_matches(|c: char| !c.is_alphanumeric()).bytes().all(|b| b.is_ascii_digit());
    head.split_whitespace().filter(figure).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_document_that_was_sought_at_its_old_place_is_not_rejected() {
        let mut summary = RunSummary::default();
        let (moved, other) = (DocumentId::mint(0, 1), DocumentId::mint(0, 2));
        for document in [&moved, &other] {
            let error = StageError::permanent("source_gone", "the file no longer exists");
            let (document, source) = (document.clone(), "file:///old".to_owned());
            summary.add(&Event::Quarantined { document, source, stage: Stage::Extraction, error });
        }
        summary.add(&Event::Moved { document: moved, from: "file:///old".into(), to: "file:///new".into() });
        assert_eq!((summary.moved, summary.quarantined_now()), (1, 1));
        assert_eq!(summary.quarantined[0].document, other);
    }

    #[test]
    fn notes_are_counted_by_their_kind() {
        let table = [
            ("100 glyphs without a Unicode mapping left out: page 1", "glyphs without a Unicode mapping left out"),
            ("tables too large for one chunk, split at rows: 6", "tables too large for one chunk, split at rows"),
            ("text layer missing on page 2", "text layer missing on page"),
            ("all-MiniLM-L6-v2 knows English: weaker", "all-MiniLM-L6-v2 knows English"),
        ];
        for (note, expected) in table {
            assert_eq!(kind(note), expected);
        }
    }
}
