//! Converts the record of a batch to attributes and back.

use docweir_aws::dynamo::{AttributeValue, Item as Attributes};
use docweir_stores::batches::{Batch, BatchStatus, Ending, Space};
use docweir_stores::ledger::EntryId;

use super::item::{self, AT, Key, LIST, WORK, number, string, text, unsigned};

/// Hash key under which the work index lists all open batches.
pub const OPEN: &str = "open";
/// Hash key under which the list index lists all batches, open or ended.
pub const BATCHES: &str = "batches";

/// Holds a batch, and additional data that only the store needs.
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    pub batch: Batch,
    /// If true, items are still being claimed for the batch.
    pub packing: bool,
    /// Decision about how the batch ends. It is made only once.
    pub ending: Option<Ending>,
    /// Epoch of the leader that wrote the record last.
    pub epoch: u64,
}

pub fn key(id: &str) -> Key {
    Key::new(format!("batch#{id}"), "record")
}

/// Returns the key under which a batch is found by its id at the provider.
pub fn provider_key(provider_id: &str) -> Key {
    Key::new(format!("provider#{provider_id}"), "batch")
}

impl Record {
    /// Returns the attributes of a new record.
    pub fn attributes(&self) -> Attributes {
        let b = &self.batch;
        let mut a = key(&b.id).attributes();
        let model = serde_json::to_string(&b.model).unwrap_or_default();
        let texts = [
            ("id", b.id.clone()),
            ("space", b.space.name()),
            ("status", b.status.name().to_owned()),
            ("model", model),
            ("endpoint", b.endpoint.clone()),
            ("entry", b.entry.as_str().to_owned()),
            ("created_at", b.created_at.clone()),
            (AT, format!("{}#{}", b.created_at, b.id)),
            (WORK, OPEN.to_owned()),
            (LIST, BATCHES.to_owned()),
        ];
        a.extend(texts.map(|(name, value)| (name.to_owned(), string(value))));
        for (name, n) in [("items", b.items), ("tokens", b.tokens), ("epoch", self.epoch)] {
            a.insert(name.into(), number(n));
        }
        if self.packing {
            a.insert("packing".into(), AttributeValue::Bool(true));
        }
        a
    }

    /// Parses a record; returns `None` for invalid attributes.
    pub fn read(a: &Attributes) -> Option<Self> {
        let optional = |name: &str| Some(text(a, name).to_owned()).filter(|text| !text.is_empty());
        let yes = |name: &str| a.get(name).and_then(|v| v.as_bool().ok()).copied().unwrap_or(false);
        let batch = Batch {
            id: optional("id")?,
            space: Space::parse(text(a, "space")),
            status: BatchStatus::ALL.into_iter().find(|status| status.name() == text(a, "status"))?,
            model: serde_json::from_str(text(a, "model")).ok()?,
            endpoint: text(a, "endpoint").to_owned(),
            items: unsigned(a, "items"),
            tokens: unsigned(a, "tokens"),
            entry: EntryId::new(text(a, "entry")),
            created_at: text(a, "created_at").to_owned(),
            input_file_id: optional("input_file_id"),
            asked_at: optional("asked_at"),
            provider_id: optional("provider_id"),
            submitted_at: optional("submitted_at"),
            checked_at: optional("checked_at"),
            output_file_id: optional("output_file_id"),
            error_file_id: optional("error_file_id"),
            expires_at: optional("expires_at"),
            done: unsigned(a, "done"),
            cancel: yes("cancel"),
            warned: yes("warned"),
            unconfirmed: yes("unconfirmed"),
            twins: serde_json::from_str(text(a, "twins")).unwrap_or_default(),
            stored: unsigned(a, "stored"),
            failed: unsigned(a, "failed"),
            stale: unsigned(a, "stale"),
            returned: unsigned(a, "returned"),
            charged_tokens: a.contains_key("charged_tokens").then(|| unsigned(a, "charged_tokens")),
            error: optional("error"),
            error_lines: serde_json::from_str(text(a, "error_lines")).unwrap_or_default(),
            ended_at: optional("ended_at"),
        };
        let ending = optional("ending").and_then(|text| serde_json::from_str(&text).ok());
        Some(Self { batch, packing: yes("packing"), ending, epoch: item::unsigned(a, "epoch") })
    }
}
