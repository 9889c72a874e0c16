//! Keeps the persistent state, which is a journal of events, and the totals of all events. The journal has one JSON
//! line for each event.
//!
//! Each change goes through [`Ledger::write`], which first appends the event to the journal and then applies the
//! event in memory. After a restart, the journal is read again. If the process was killed while it wrote the last
//! line, this line is incomplete and is dropped. The client never got a reply for this change.

use std::collections::BTreeMap;
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Write};
use std::path::Path;

use serde::{Deserialize, Serialize};

use crate::batches::{Batch, MockBatchStatus, Progress};
use crate::charges::{Analysis, AnalysisCharges, BatchEntry, Charge, Charges};
use crate::error::MockProviderError;
use crate::files::StoredFile;

/// Describes a change of the ledger, which is one line of the journal. The name of the event is the key of the line.
/// With an internal tag, serde could not read decimal numbers (decision 0023).
#[derive(Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    File(StoredFile),
    FileGone {
        id: String,
    },
    /// Stores a new batch, or replaces a known one.
    Batch(Box<Batch>),
    /// Records processed rows of a batch, and their charges.
    Rows {
        batch: String,
        progress: Progress,
        charges: Vec<Charge>,
    },
    Charge(Charge),
    Answered {
        status: u16,
    },
    Fault {
        name: String,
    },
    /// Records a request that Comprehend answered and charged.
    Analysed(Analysis),
    /// Records a request that Comprehend refused.
    Unanalysed {
        kind: String,
    },
}

pub struct Ledger {
    journal: File,
    files: BTreeMap<String, StoredFile>,
    batches: BTreeMap<String, Batch>,
    charges: Charges,
    /// Next number for a file or batch. Files and batches are numbered together, in the order of their creation.
    next: u64,
}

impl Ledger {
    pub fn open(path: &Path) -> Result<Self, MockProviderError> {
        let data = |source| MockProviderError::Data { path: path.to_path_buf(), source };
        let mut journal =
            OpenOptions::new().read(true).append(true).create(true).truncate(false).open(path).map_err(data)?;
        let mut text = Vec::new();
        journal.read_to_end(&mut text).map_err(data)?;
        let whole = text.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
        journal.set_len(whole as u64).map_err(data)?;
        let (files, batches) = (BTreeMap::new(), BTreeMap::new());
        let mut ledger = Self { journal, files, batches, charges: Charges::default(), next: 0 };
        for (at, line) in text[..whole].split(|&b| b == b'\n').enumerate().filter(|(_, line)| !line.is_empty()) {
            let event = serde_json::from_slice(line).map_err(|source| MockProviderError::Journal {
                path: path.to_path_buf(),
                line: at + 1,
                source,
            })?;
            ledger.apply(event);
        }
        Ok(ledger)
    }

    /// Writes all events in one write, so that either all of them persist or none.
    pub fn write(&mut self, events: Vec<Event>) -> io::Result<()> {
        let mut lines = Vec::new();
        for event in &events {
            serde_json::to_writer(&mut lines, event)?;
            lines.push(b'\n');
        }
        self.journal.write_all(&lines)?;
        events.into_iter().for_each(|event| self.apply(event));
        Ok(())
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::File(file) => {
                self.next = self.next.max(file.number + 1);
                self.files.insert(file.id.clone(), file);
            }
            Event::FileGone { id } => {
                self.files.remove(&id);
            }
            Event::Batch(batch) => {
                self.next = self.next.max(batch.number + 1);
                self.batches.insert(batch.id.clone(), *batch);
            }
            Event::Rows { batch, progress, charges } => {
                charges.iter().for_each(|charge| self.charges.charge(charge));
                if let Some(batch) = self.batches.get_mut(&batch) {
                    batch.progress = progress;
                    batch.charged_tokens += charges.iter().map(|charge| charge.tokens).sum::<u64>();
                }
            }
            Event::Charge(charge) => self.charges.charge(&charge),
            Event::Answered { status } => self.charges.answered(status),
            Event::Analysed(analysis) => self.charges.analysis.charge(&analysis),
            Event::Unanalysed { kind } => *self.charges.analysis.refused.entry(kind).or_default() += 1,
            Event::Fault { name } => *self.charges.faults.entry(name).or_default() += 1,
        }
    }

    pub fn next_number(&mut self) -> u64 {
        self.next += 1;
        self.next
    }

    pub fn file(&self, id: &str) -> Option<&StoredFile> {
        self.files.get(id)
    }

    /// Returns all files, newest first.
    pub fn files(&self) -> Vec<&StoredFile> {
        let mut all: Vec<_> = self.files.values().collect();
        all.sort_by_key(|file| std::cmp::Reverse(file.number));
        all
    }

    pub fn batch(&self, id: &str) -> Option<&Batch> {
        self.batches.get(id)
    }

    /// Returns all batches, newest first.
    pub fn batches(&self) -> Vec<&Batch> {
        let mut all: Vec<_> = self.batches.values().collect();
        all.sort_by_key(|batch| std::cmp::Reverse(batch.number));
        all
    }

    /// Returns the sum of the tokens in a model's unfinished batches. Batches that are still being validated do not
    /// count.
    pub fn enqueued_tokens(&self, model: &str) -> u64 {
        let waiting =
            |batch: &&Batch| matches!(batch.status, MockBatchStatus::InProgress | MockBatchStatus::Finalizing);
        let of_model = |batch: &&Batch| batch.model.as_deref() == Some(model);
        self.batches.values().filter(waiting).filter(of_model).map(|batch| batch.tokens).sum()
    }

    pub fn spent(&self) -> u64 {
        self.charges.nanodollars()
    }

    pub fn charges(&self) -> Charges {
        let mut charges = self.charges.clone();
        charges.batches = self.batches().into_iter().rev().map(Batch::entry).collect();
        charges
    }

    /// Returns the charges without the maps that grow with every row or text.
    pub fn short_ledger(&self) -> Charges {
        let charges = &self.charges;
        Charges {
            live: charges.live.clone(),
            batch: charges.batch.clone(),
            accepted_requests: charges.accepted_requests,
            refused: charges.refused.clone(),
            by_model: charges.by_model.clone(),
            by_key: charges.by_key.clone(),
            by_custom_id: BTreeMap::new(),
            by_text: BTreeMap::new(),
            faults: charges.faults.clone(),
            analysis: AnalysisCharges { by_text: BTreeMap::new(), ..charges.analysis.clone() },
            batches: self.batches().into_iter().rev().map(Batch::entry).collect::<Vec<BatchEntry>>(),
        }
    }
}
