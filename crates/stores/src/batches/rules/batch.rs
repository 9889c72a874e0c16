//! Decides what each event changes in the record of a batch.
//!
//! Only an open batch can be changed: a store writes changes on the condition that the batch has not ended. Each change
//! consists of the name of a field and its new value. Each store uses this name for the column or attribute, so a store
//! can write changes without reading the record first.

use crate::batches::{Batch, BatchStatus, Checked, Ending, Order};
use crate::ledger::EntryId;

/// Holds the new value of a field.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Text(String),
    Number(u64),
    Yes,
    /// Clears the field.
    Nothing,
}

/// Lists changed fields by name, with their new values.
pub type Changes = Vec<(&'static str, Value)>;

/// Counts a batch's items by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct BatchTotals {
    pub stored: u64,
    pub failed: u64,
    pub returned: u64,
}

impl BatchTotals {
    /// Adds an item's outcome.
    pub fn add(&mut self, fate: super::ItemOutcome) {
        match fate {
            super::ItemOutcome::Stored => self.stored += 1,
            super::ItemOutcome::Failed => self.failed += 1,
            super::ItemOutcome::Returned => self.returned += 1,
        }
    }

    /// Returns how many items of an ended batch have no outcome. These items changed or were deleted after they were
    /// sent.
    pub fn stale(self, items: u64) -> u64 {
        items.saturating_sub(self.stored + self.failed + self.returned)
    }
}

/// Describes an event of a batch.
#[derive(Clone, Debug)]
pub enum Event<'a> {
    Uploaded {
        file: &'a str,
    },
    Asked,
    NotTaken,
    Unconfirmed,
    /// The cost of these duplicates at the provider is in the ledger.
    Twins(&'a [String]),
    FileLost,
    TakenOver {
        provider_id: &'a str,
    },
    Checked(&'a Checked),
    Warned,
    Cancel,
    /// The batch has ended. `items` is the number of items in the batch.
    Ended {
        ending: &'a Ending,
        items: u64,
        totals: BatchTotals,
    },
}

/// Returns the changes that an event makes to a batch's record. `now` is the timestamp of the event.
pub fn changes(event: &Event<'_>, now: &str) -> Changes {
    let text = |text: &str| Value::Text(text.to_owned());
    let optional = |value: &Option<String>| value.as_deref().map_or(Value::Nothing, text);
    match event {
        Event::Uploaded { file } => vec![("input_file_id", text(file))],
        Event::Asked => vec![("asked_at", text(now))],
        Event::NotTaken => vec![("asked_at", Value::Nothing)],
        Event::Unconfirmed => vec![("asked_at", Value::Nothing), ("unconfirmed", Value::Yes)],
        // Serialising an array of strings cannot fail.
        Event::Twins(ids) => vec![("twins", Value::Text(serde_json::to_string(ids).unwrap_or_default()))],
        Event::FileLost => vec![("input_file_id", Value::Nothing)],
        Event::TakenOver { provider_id } => vec![
            ("provider_id", text(provider_id)),
            ("submitted_at", text(now)),
            ("status", text(BatchStatus::Validating.name())),
        ],
        Event::Checked(c) => {
            // Serialising an array of numbers cannot fail.
            let lines = serde_json::to_string(&c.error_lines).unwrap_or_default();
            let mut changes = vec![
                ("status", text(c.status.name())),
                ("done", Value::Number(c.done)),
                ("checked_at", text(now)),
                ("error_lines", Value::Text(lines)),
                ("output_file_id", optional(&c.output_file_id)),
                ("error_file_id", optional(&c.error_file_id)),
                ("expires_at", optional(&c.expires_at)),
            ];
            // Later answers of the provider may omit an earlier error or charge; keep it.
            changes.extend(c.error.as_deref().map(|error| ("error", text(error))));
            changes.extend(c.charged_tokens.map(|tokens| ("charged_tokens", Value::Number(tokens))));
            changes
        }
        Event::Warned => vec![("warned", Value::Yes)],
        Event::Cancel => vec![("cancel", Value::Yes)],
        Event::Ended { ending, items, totals } => {
            let mut changes = vec![
                ("status", text(ending.status.name())),
                ("charged_tokens", ending.charged_tokens.map_or(Value::Nothing, Value::Number)),
                ("stored", Value::Number(totals.stored)),
                ("failed", Value::Number(totals.failed)),
                ("returned", Value::Number(totals.returned)),
                ("stale", Value::Number(totals.stale(*items))),
                ("ended_at", text(now)),
            ];
            changes.extend(ending.error.as_deref().map(|error| ("error", text(error))));
            changes
        }
    }
}

/// Returns the record of a newly packed batch.
pub fn packed(order: &Order, items: u64, tokens: u64, entry: EntryId, now: &str) -> Batch {
    Batch {
        id: order.id.clone(),
        space: order.space.clone(),
        status: BatchStatus::Pending,
        model: order.model.clone(),
        endpoint: order.endpoint.clone(),
        items,
        tokens,
        entry,
        created_at: now.to_owned(),
        input_file_id: None,
        asked_at: None,
        provider_id: None,
        submitted_at: None,
        checked_at: None,
        output_file_id: None,
        error_file_id: None,
        expires_at: None,
        done: 0,
        cancel: false,
        warned: false,
        unconfirmed: false,
        twins: Vec::new(),
        stored: 0,
        failed: 0,
        stale: 0,
        returned: 0,
        charged_tokens: None,
        error: None,
        error_lines: Vec::new(),
        ended_at: None,
    }
}
