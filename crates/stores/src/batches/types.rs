//! Defines items, batches, and the parameters and results of the store.

use std::path::Path;
use std::sync::Arc;

use docweir_core::model::ModelIdentity;
use docweir_core::money::Nanodollars;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::Origin;
use crate::ledger::{Budget, EntryId, Period, Reservation, Spend};

/// Name that messages and reports use for the space of all document texts.
pub const DOCUMENTS: &str = "documents";

/// Identifies a space, which is a set of items with one purpose.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Space {
    /// Space of all document texts that one model embeds. The value contains the model's id and dimension.
    Texts(String),
    /// Space of the records of one collection. The value is the collection's name.
    Records(String),
}

impl Space {
    pub fn texts(model: &ModelIdentity) -> Self {
        Space::Texts(format!("{}/{}", model.id, model.dimension))
    }

    /// Returns the name under which the space is stored. The name of a space of texts begins with `texts/`. Collection
    /// names contain no `/`, so the names of both kinds cannot collide.
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

    /// Returns the name of the space for messages and reports.
    pub fn shown(&self) -> &str {
        match self {
            Space::Texts(_) => DOCUMENTS,
            Space::Records(collection) => collection,
        }
    }
}

/// Lists the states of a batch. The states have the same names as in the system that docweir replaces.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum BatchStatus {
    /// The batch is recorded in the store, but the provider may not know it yet.
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

    /// Returns whether the provider has finished with the batch.
    pub fn is_terminal(self) -> bool {
        matches!(self, Self::Completed | Self::Failed | Self::Expired | Self::Cancelled)
    }
}

/// Holds a batch's record.
#[derive(Clone, Debug, PartialEq)]
pub struct Batch {
    pub id: String,
    pub space: Space,
    pub status: BatchStatus,
    /// Model that computes the batch's vectors.
    pub model: ModelIdentity,
    /// Endpoint that processes the batch.
    pub endpoint: String,
    pub items: u64,
    pub tokens: u64,
    /// Id of the batch's entry in the ledger.
    pub entry: EntryId,
    pub created_at: String,
    pub input_file_id: Option<String>,
    /// Time at which the provider was asked to create the batch. From then on, the batch may exist at the provider.
    pub asked_at: Option<String>,
    pub provider_id: Option<String>,
    pub submitted_at: Option<String>,
    pub checked_at: Option<String>,
    pub output_file_id: Option<String>,
    pub error_file_id: Option<String>,
    pub expires_at: Option<String>,
    /// Number of requests that the provider reports as done.
    pub done: u64,
    pub cancel: bool,
    pub warned: bool,
    /// True if the batch was created again because the provider did not confirm its creation. There may be two batches.
    pub unconfirmed: bool,
    /// The provider's ids of duplicates of this batch whose cost is in the ledger.
    pub twins: Vec<String>,
    /// Number of items whose vectors were stored.
    pub stored: u64,
    /// Number of items that were refused permanently.
    pub failed: u64,
    /// Number of items that changed or were deleted after they were sent.
    pub stale: u64,
    /// Number of items that got no vector and will be sent again.
    pub returned: u64,
    pub charged_tokens: Option<u64>,
    pub error: Option<String>,
    /// Lines of the batch's file that the provider reports as invalid, counted from 1.
    pub error_lines: Vec<u64>,
    pub ended_at: Option<String>,
}

/// Identifies an item. Each store has its own format of ids.
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

/// Holds the data that search shows for a record. The record's row in the vector store consists of this data and the
/// vector.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DisplayData {
    pub text: String,
    pub kind: String,
    /// URI of the file that the record came from.
    pub source: String,
    pub metadata: Map<String, Value>,
}

/// Holds a text to embed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    pub text: String,
    pub tokens: u64,
}

/// Reports the state of the texts that a document requested.
#[derive(Clone, Debug, PartialEq)]
pub enum TextLookup {
    /// All vectors are available, in the order of the texts. `tokens` is the number of tokens that are charged to this
    /// document.
    Ready { vectors: Vec<Vec<f32>>, tokens: u64 },
    /// Some texts have no vector yet; they are enqueued or already sent. The number counts these texts.
    Waits(u64),
    /// Too few texts wait to fill a batch. The document must use live calls to embed the texts that have no vector
    /// yet. `tokens` is the number of tokens that this document is charged for the texts that already have a vector.
    Live { vectors: Vec<Option<Vec<f32>>>, tokens: u64 },
    /// The provider refused a text; the error says why.
    Failed(String),
}

/// Describes an item that was sent and has not changed since.
#[derive(Clone, Debug, PartialEq)]
pub struct Sent {
    pub item: ItemId,
    pub key: String,
    pub version: u64,
    /// Display data; `None` for texts.
    pub shown: Option<DisplayData>,
    /// Number of tokens of the input, as counted before sending.
    pub tokens: u64,
    /// Size of the display data, in bytes.
    pub bytes: usize,
    /// Location in the user's table; `None` if the record does not come from a table.
    pub origin: Option<Origin>,
}

/// Describes a stored vector. Vectors of records are in the vector store; vectors of texts are in this store.
#[derive(Clone, Debug, PartialEq)]
pub struct StoredVector {
    pub item: ItemId,
    pub version: u64,
    pub tokens: u64,
    /// Vector of a text; `None` for records.
    pub vector: Option<Vec<f32>>,
}

/// Describes an item that the provider refused.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Refusal {
    pub key: String,
    /// Status or error code; never contains text of the item.
    pub error: String,
    /// True if the item may be sent again.
    pub again: bool,
}

/// Describes the end of a batch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Ending {
    pub status: BatchStatus,
    /// Tokens that the provider charged; `None` if unknown.
    pub charged_tokens: Option<u64>,
    pub usd_per_million_tokens: f64,
    /// Number of attempts after which an item without an answer has failed.
    pub most_attempts: u32,
    /// True if the provider did not process the batch, so that the batch does not count as an attempt for its items.
    pub undone: bool,
    pub error: Option<String>,
}

/// Describes an item to put: a record as it was read from its file or table.
#[derive(Clone, Debug, PartialEq)]
pub struct NewItem {
    /// Unique key within the space.
    pub key: String,
    /// Text that is embedded.
    pub input: String,
    /// Number of tokens of the input, as the model counts them.
    pub tokens: u64,
    /// True if the record is noise, which is stored but never embedded.
    pub noise: bool,
    pub shown: DisplayData,
    /// Location in the user's table; `None` if the record does not come from a table.
    pub origin: Option<Origin>,
}

/// Counts the records that were put, by outcome.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Put {
    pub new: u64,
    pub changed: u64,
    pub unchanged: u64,
    /// Number of records that were put and are noise. Noise is stored but never embedded.
    pub noise: u64,
    /// Number of failed records among the unchanged records.
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

/// Describes a row that must be removed from the vector store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Removal {
    pub item: ItemId,
    pub key: String,
    /// Version of the tombstone that replaces the row.
    pub version: u64,
}

/// Counts items that wait to be sent.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Waiting {
    pub items: u64,
    pub tokens: u64,
}

/// Counts the items of a space by status.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Counts {
    /// Name of the space: `documents`, or a collection.
    pub space: String,
    pub none: u64,
    pub pending: u64,
    pub success: u64,
    pub failed: u64,
    pub noise: u64,
}

/// Takes the key and the input of an item, and returns the number of bytes that the item's line takes in the batch's
/// file.
pub type LineBytes = Arc<dyn Fn(&str, &str) -> u64 + Send + Sync>;

/// Describes a batch to pack: its limits and its budget.
#[derive(Clone)]
pub struct Order {
    pub id: String,
    pub space: Space,
    /// Model that computes the batch's vectors.
    pub model: ModelIdentity,
    /// Endpoint that will process the batch.
    pub endpoint: String,
    pub most_requests: usize,
    /// Maximum size of the batch's file, in bytes.
    pub most_bytes: u64,
    /// Maximum number of tokens: the provider's limit minus the tokens of open batches.
    pub most_tokens: u64,
    /// Takes the key and the input of an item, and returns the number of bytes that the item's line takes in the
    /// batch's file.
    pub line_bytes: LineBytes,
    /// Template of the reservation in the ledger. Packing sets the subject, the tokens and the cost.
    pub spend: Spend,
    pub usd_per_million_tokens: f64,
    pub budget: Budget,
}

/// Reports the outcome of packing.
#[derive(Clone, Debug, PartialEq)]
pub enum Packed {
    /// The space has no waiting items.
    Nothing,
    /// The provider accepts no more tokens at the moment.
    Full,
    /// The budget is exhausted.
    Refused { period: Period, spent: Nanodollars, limit: Nanodollars },
    /// The batch was recorded, and its money was reserved.
    Batch(Box<Batch>, Reservation),
}

/// Holds one line of a batch's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Position of this request. Pass this value as `after` to list the requests that follow.
    pub at: u64,
    /// Key of the item, which is the `custom_id` of the request.
    pub key: String,
    pub input: String,
}

/// Holds the provider's status of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    pub status: BatchStatus,
    pub done: u64,
    /// Tokens charged so far, if the provider reports them.
    pub charged_tokens: Option<u64>,
    pub output_file_id: Option<String>,
    pub error_file_id: Option<String>,
    pub expires_at: Option<String>,
    pub error: Option<String>,
    /// Lines of the batch's file that the provider reports as invalid, counted from 1.
    pub error_lines: Vec<u64>,
}

/// Takes the key of a record, and returns the version of the record's row in the vector store. Returns `None` if there
/// is no row.
pub type HeldVersion = Arc<dyn Fn(&str) -> Option<u64> + Send + Sync>;

/// Returns the paths of a batch's output file and error file in `folder`.
pub fn result_files(folder: &Path, batch: &str) -> [std::path::PathBuf; 2] {
    ["output", "errors"].map(|what| folder.join(format!("{batch}.{what}.jsonl")))
}
