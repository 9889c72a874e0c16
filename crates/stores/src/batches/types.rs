//! Items, batches, and what is asked and told of them.

use std::path::Path;
use std::sync::Arc;

use docweir_core::model::ModelIdentity;
use docweir_core::money::Nanodollars;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Origin;
use crate::ledger::{Budget, EntryId, Period, Reservation, Spend};

/// How people are told of texts of documents.
pub const DOCUMENTS: &str = "documents";

/// What an item is for.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Space {
    /// Texts of documents, by model.
    Texts(String),
    /// Records of a collection.
    Records(String),
}

impl Space {
    pub fn texts(model: &ModelIdentity) -> Self {
        Space::Texts(format!("{}/{}", model.id, model.dimension))
    }

    /// As it stands in the file. No collection's name has a `/`.
    pub fn name(&self) -> String {
        match self {
            Space::Texts(model) => format!("texts/{model}"),
            Space::Records(collection) => collection.clone(),
        }
    }

    pub fn parse(name: &str) -> Self {
        match name.strip_prefix("texts/") {
            Some(model) => Space::Texts(model.to_owned()),
            None => Space::Records(name.to_owned()),
        }
    }

    /// For people.
    pub fn shown(&self) -> &str {
        match self {
            Space::Texts(_) => DOCUMENTS,
            Space::Records(collection) => collection,
        }
    }
}

/// BatchStatus of a batch, as the system that this one replaces has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum BatchStatus {
    /// Recorded; the provider may not know of it yet.
    Pending,
    Validating,
    InProgress,
    Finalizing,
    Completed,
    Failed,
    Expired,
    Canceling,
    Cancelled,
}

impl BatchStatus {
    pub const ALL: [Self; 9] = [
        Self::Pending,
        Self::Validating,
        Self::InProgress,
        Self::Finalizing,
        Self::Completed,
        Self::Failed,
        Self::Expired,
        Self::Canceling,
        Self::Cancelled,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::Pending => "PENDING",
            Self::Validating => "VALIDATING",
            Self::InProgress => "IN_PROGRESS",
            Self::Finalizing => "FINALIZING",
            Self::Completed => "COMPLETED",
            Self::Failed => "FAILED",
            Self::Expired => "EXPIRED",
            Self::Canceling => "CANCELING",
            Self::Cancelled => "CANCELLED",
        }
    }

    /// The provider will do nothing more.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Expired | Self::Cancelled)
    }
}

/// A batch's record.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    pub id: String,
    pub space: Space,
    pub status: BatchStatus,
    /// Of its vectors.
    pub model: ModelIdentity,
    /// The endpoint that has it.
    pub endpoint: String,
    pub items: u64,
    pub tokens: u64,
    /// The ledger's entry.
    pub entry: EntryId,
    pub created_at: String,
    pub input_file_id: Option<String>,
    /// When the provider was asked to take it: from then on it may know of it.
    pub asked_at: Option<String>,
    pub provider_id: Option<String>,
    pub submitted_at: Option<String>,
    pub checked_at: Option<String>,
    pub output_file_id: Option<String>,
    pub error_file_id: Option<String>,
    pub expires_at: Option<String>,
    /// Requests that the provider says it has done.
    pub done: u64,
    pub cancel: bool,
    pub warned: bool,
    /// What became of its items: stored, refused for good, changed or deleted meanwhile, to be sent again.
    pub stored: u64,
    pub failed: u64,
    pub stale: u64,
    pub returned: u64,
    pub charged_tokens: Option<u64>,
    pub error: Option<String>,
    /// Lines of its file that the provider names as wrong, from 1.
    pub error_lines: Vec<u64>,
    pub ended_at: Option<String>,
}

/// The name of an item. What it is made of is the store's own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct ItemId(String);

impl ItemId {
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

/// What is found of a record: the row that its vector comes into.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Shown {
    pub text: String,
    pub kind: String,
    /// URI of the file that it came from.
    pub source: String,
    pub metadata: Map<String, Value>,
}

/// A text to embed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    pub text: String,
    pub tokens: u64,
}

/// What a document that asks for texts is told.
#[derive(Clone, Debug, PartialEq)]
pub enum TextLookup {
    /// A vector for each text, in their order; `tokens` are those that are in this document's ledger.
    Ready { vectors: Vec<Vec<f32>>, tokens: u64 },
    /// They were put down, or are on their way already; so many are open.
    Waits(u64),
    /// Those without a vector are not worth a batch: embed them now. `tokens` are those of the others that are in this
    /// document's ledger.
    Live { vectors: Vec<Option<Vec<f32>>>, tokens: u64 },
    /// One was refused.
    Failed(String),
}

/// An item that was sent and still is what it was.
#[derive(Clone, Debug, PartialEq)]
pub struct Sent {
    pub item: ItemId,
    pub key: String,
    pub version: u64,
    /// `None` for texts.
    pub shown: Option<Shown>,
    /// Of its input, as they were counted.
    pub tokens: u64,
    /// Size of what is found of it, in bytes.
    pub bytes: usize,
    /// Where a table has it, of a record that came from one.
    pub origin: Option<Origin>,
}

/// A vector that is kept: of a record, by the vector store; of a text, here.
#[derive(Clone, Debug, PartialEq)]
pub struct Made {
    pub item: ItemId,
    pub version: u64,
    pub tokens: u64,
    /// Texts only.
    pub vector: Option<Vec<f32>>,
}

/// An item that the provider refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub key: String,
    /// A status or a code; no text.
    pub error: String,
    /// May be sent again.
    pub again: bool,
}

/// How a batch ends.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ending {
    pub status: BatchStatus,
    /// What the provider charged; `None` where nobody knows.
    pub charged_tokens: Option<u64>,
    pub usd_per_million_tokens: f64,
    /// Sendings after which an item that had no answer has failed.
    pub most_attempts: u32,
    /// The provider did nothing with it: its items' attempt does not count.
    pub undone: bool,
    pub error: Option<String>,
}

/// A record as its file has it now.
#[derive(Clone, Debug, PartialEq)]
pub struct NewItem {
    /// Unique in its space.
    pub key: String,
    /// The text that is embedded.
    pub input: String,
    /// Of the input, as the model counts.
    pub tokens: u64,
    /// Kept, and not embedded.
    pub noise: bool,
    pub shown: Shown,
    /// Where a table has it, of one that came from a table.
    pub origin: Option<Origin>,
}

/// What became of records that were put.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Put {
    pub new: u64,
    pub changed: u64,
    pub unchanged: u64,
    /// Of all of them.
    pub noise: u64,
    /// Of the unchanged ones: those that failed.
    pub failed: u64,
}

impl std::ops::AddAssign for Put {
    fn add_assign(&mut self, more: Self) {
        self.new += more.new;
        self.changed += more.changed;
        self.unchanged += more.unchanged;
        self.noise += more.noise;
        self.failed += more.failed;
    }
}

/// A row that the vector store holds and should not.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    pub item: ItemId,
    pub key: String,
    /// Of the tombstone.
    pub version: u64,
}

/// Items that wait to be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    pub items: u64,
    pub tokens: u64,
}

/// Items of a space by status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// `documents`, or a collection.
    pub space: String,
    pub none: u64,
    pub pending: u64,
    pub success: u64,
    pub failed: u64,
    pub noise: u64,
}

/// Of a key and an input.
pub type LineBytes = Arc<dyn Fn(&str, &str) -> u64 + Send + Sync>;

/// What a batch may hold, and who pays for it.
#[derive(Clone)]
pub struct Order {
    pub id: String,
    pub space: Space,
    /// Of its vectors, and the endpoint that is to have it.
    pub model: ModelIdentity,
    pub endpoint: String,
    pub most_requests: usize,
    /// Bytes of its file.
    pub most_bytes: u64,
    /// Tokens that the provider still takes: its limit less those of open batches.
    pub most_tokens: u64,
    /// Bytes of a request's line, of its key and its input.
    pub line_bytes: LineBytes,
    /// Its subject, tokens and cost are filled in.
    pub spend: Spend,
    pub usd_per_million_tokens: f64,
    pub budget: Budget,
}

/// What packing came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Packed {
    /// Nothing waits.
    Nothing,
    /// The provider takes no more at a time.
    Full,
    /// The budget is used up.
    Refused { period: Period, spent: Nanodollars, limit: Nanodollars },
    /// Recorded, with its money set aside.
    Batch(Box<Batch>, Reservation),
}

/// One line of a batch's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Where the next ones begin.
    pub at: u64,
    /// The `custom_id`.
    pub key: String,
    pub input: String,
}

/// What the provider said of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    pub status: BatchStatus,
    pub done: u64,
    /// What it has charged so far, if it says.
    pub charged_tokens: Option<u64>,
    pub output_file_id: Option<String>,
    pub error_file_id: Option<String>,
    pub expires_at: Option<String>,
    pub error: Option<String>,
    /// Lines of its file that it names as wrong.
    pub error_lines: Vec<u64>,
}

/// The version of a record's row that the vector store holds, by its key.
pub type HeldVersion = Arc<dyn Fn(&str) -> Option<u64> + Send + Sync>;

/// Where a batch's results lie in a folder of their own: its output and its errors.
pub fn result_files(folder: &Path, batch: &str) -> [std::path::PathBuf; 2] {
    ["output", "errors"].map(|what| folder.join(format!("{batch}.{what}.jsonl")))
}
