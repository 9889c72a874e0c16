//! Items that a vector is wanted for, the batches that they are sent in, and the documents that wait for them.
//!
//! ```text
//!   NONE ──pack──▶ PENDING ──result──▶ SUCCESS          NOISE: never sent
//!    ▲  ▲             │  └──refused──▶ FAILED
//!    │  └──no answer──┘
//!    └── text or metadata changed: a new version
//! ```
//! An item belongs to a *space*: a collection of records, or the texts of documents that wait for one model. Its version
//! grows with each change and is the version of its row in the vector store. What was sent carries the hash of its text;
//! a result for what has changed or was deleted meanwhile finds no item, and is stale.
//!
//! Everything is in one file with the ledger: a batch and its money, its end and its items change in one step.

mod documents;
mod harvest;
mod items;
mod lifecycle;
#[cfg(test)]
mod tests;

use std::path::Path;

use rusqlite::{Error, Row};
use serde::Serialize;
use serde_json::{Map, Value};

pub use documents::{Answer, Text};
pub use harvest::{Ending, Made, Refusal, Sent};
pub use items::{Counts, NewItem, Put, Removal, Waiting};
pub use lifecycle::{Checked, Order, Packed, Request};

use crate::clock::SharedClock;
use crate::stages::model::ModelIdentity;
use crate::stores::ledger::EntryId;
use crate::stores::sqlite::Database;

type Result<T> = std::result::Result<T, Error>;

/// Items and batches. Cheap to clone.
#[derive(Clone)]
pub struct Batches {
    database: Database,
    clock: SharedClock,
}

impl Batches {
    /// In the file of [`crate::stores::paid`].
    pub fn new(database: Database, clock: SharedClock) -> Self {
        Self { database, clock }
    }
}

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

    fn parse(name: &str) -> Self {
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

/// Status of a batch, as the system that this one replaces has it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Status {
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

impl Status {
    const ALL: [Self; 9] = [
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
    pub status: Status,
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

const BATCH: &str = "id, space, status, model, endpoint, items, tokens, entry, created_at, input_file_id, asked_at, provider_id, \
    submitted_at, checked_at, output_file_id, error_file_id, expires_at, done, cancel, warned, stored, failed, stale, \
    returned, charged_tokens, error, error_lines, ended_at";

fn batch(row: &Row<'_>) -> Result<Batch> {
    let status: String = row.get("status")?;
    let number = |name: &str| -> Result<u64> { Ok(unsigned(row.get(name)?)) };
    Ok(Batch {
        id: row.get("id")?,
        space: Space::parse(&row.get::<_, String>("space")?),
        // The table allows no other.
        status: Status::ALL.into_iter().find(|s| s.name() == status).unwrap_or(Status::Pending),
        model: json(row.get_ref("model")?.as_str()?)?,
        endpoint: row.get("endpoint")?,
        items: number("items")?,
        tokens: number("tokens")?,
        entry: EntryId::new(row.get::<_, i64>("entry")?.to_string()),
        created_at: row.get("created_at")?,
        input_file_id: row.get("input_file_id")?,
        asked_at: row.get("asked_at")?,
        provider_id: row.get("provider_id")?,
        submitted_at: row.get("submitted_at")?,
        checked_at: row.get("checked_at")?,
        output_file_id: row.get("output_file_id")?,
        error_file_id: row.get("error_file_id")?,
        expires_at: row.get("expires_at")?,
        done: number("done")?,
        cancel: row.get("cancel")?,
        warned: row.get("warned")?,
        stored: number("stored")?,
        failed: number("failed")?,
        stale: number("stale")?,
        returned: number("returned")?,
        charged_tokens: row.get::<_, Option<i64>>("charged_tokens")?.map(unsigned),
        error: row.get("error")?,
        error_lines: json(row.get_ref("error_lines")?.as_str()?)?,
        ended_at: row.get("ended_at")?,
    })
}

/// What is found of a record: the row that its vector comes into.
#[derive(Clone, Debug, PartialEq, Serialize, serde::Deserialize)]
pub struct Shown {
    pub text: String,
    pub kind: String,
    /// URI of the file that it came from.
    pub source: String,
    pub metadata: Map<String, Value>,
}

/// What stands in a column as JSON.
fn json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|e| Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(e)))
}

fn to_json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::ToSqlConversionFailure(Box::new(e)))
}

fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or_default()
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// Little-endian.
fn blob(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn floats(blob: &[u8]) -> Vec<f32> {
    blob.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}

/// Where a batch's results lie in a folder of their own: its output and its errors.
pub fn result_files(folder: &Path, batch: &str) -> [std::path::PathBuf; 2] {
    ["output", "errors"].map(|what| folder.join(format!("{batch}.{what}.jsonl")))
}
