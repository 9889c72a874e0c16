//! Adds up what happened in a run, for the summary and the exit code.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::documents::{DocumentId, Stage};
use crate::error::StageError;
use crate::messages::event::Event;

/// Reasons listed one by one in the summary; the rest is counted. `docweir quarantine list` has them all.
const LISTED: usize = 1_000;

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Tally {
    pub files: u64,
    pub registered: u64,
    pub unchanged: u64,
    pub resumed: u64,
    /// Completed in this run, replaced ones included.
    pub completed: u64,
    pub replaced: u64,
    pub deleted: u64,
    pub retried: u64,
    pub parked: u64,
    pub superseded: u64,
    pub quarantined: Vec<Rejected>,
    /// Quarantined ones beyond those listed.
    pub quarantined_unlisted: u64,
    /// Quarantined in an earlier run and unchanged since.
    pub still_quarantined: u64,
    pub unreadable: Vec<Unreadable>,
    pub unreadable_unlisted: u64,
    pub pages: u64,
    pub chunks: u64,
    pub vectors: u64,
    pub tokens: u64,
    pub cached_tokens: u64,
    pub cost_usd: f64,
    /// What readers of the result should know, and of how many documents it is true.
    pub notes: BTreeMap<String, u64>,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Rejected {
    pub document: DocumentId,
    pub source: String,
    pub stage: Stage,
    pub error: StageError,
}

#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Unreadable {
    pub source: String,
    pub reason: String,
}

impl Tally {
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
            Event::IntakeFinished { files } => self.files += files,
            Event::Resumed { .. } => self.resumed += 1,
            Event::StageCompleted { metrics, .. } => {
                let count = |name: &str| metrics.get(name).copied().unwrap_or_default();
                self.pages += count("pages_extracted") as u64;
                self.chunks += count("chunks_created") as u64;
                self.vectors += count("vectors_uploaded") as u64;
                self.tokens += count("tokens_processed") as u64;
                self.cached_tokens += count("tokens_cached") as u64;
                self.cost_usd += count("openai_cost_usd");
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
            Event::Parked { .. } => self.parked += 1,
            Event::Completed { replaced, notes, .. } => {
                self.completed += 1;
                self.replaced += u64::from(*replaced);
                for note in notes {
                    *self.notes.entry(kind(note)).or_default() += 1;
                }
            }
            Event::Deleted { .. } => self.deleted += 1,
            Event::Superseded { .. } => self.superseded += 1,
            Event::RemovalRequested { .. } | Event::Notice { .. } => {}
        }
    }

    pub fn quarantined_now(&self) -> u64 {
        self.quarantined.len() as u64 + self.quarantined_unlisted
    }

    pub fn unreadable_now(&self) -> u64 {
        self.unreadable.len() as u64 + self.unreadable_unlisted
    }

    /// Everything that was asked for is in the index.
    pub fn all_well(&self) -> bool {
        self.quarantined_now() + self.still_quarantined + self.unreadable_now() == 0
    }
}

/// A note without its figures and places: what many documents have in common, so that there are few kinds however many
/// documents there are.
fn kind(note: &str) -> String {
    let head = note.split(": ").next().unwrap_or_default();
    let figure = |word: &&str| !word.trim_matches(|c: char| !c.is_alphanumeric()).bytes().all(|b| b.is_ascii_digit());
    head.split_whitespace().filter(figure).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn notes_are_counted_by_their_kind() {
        let table = [
            ("100 glyphs without a Unicode mapping left out: page 1", "glyphs without a Unicode mapping left out"),
            ("tables too large for one chunk, split at rows: 6", "tables too large for one chunk, split at rows"),
            ("page 2 without a text layer", "page without a text layer"),
            ("all-MiniLM-L6-v2 knows English: weaker", "all-MiniLM-L6-v2 knows English"),
        ];
        for (note, expected) in table {
            assert_eq!(kind(note), expected);
        }
    }
}
