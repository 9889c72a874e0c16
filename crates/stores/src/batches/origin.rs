//! Records that come from a table of the user's, and what that has to be told.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ItemId;

/// Where a record stands in a table of the user's, which is told what became of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    pub table: String,
    /// The table's own.
    pub place: Value,
}

/// How a record has come to its end, for now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RecordOutcome {
    Success,
    Failed,
    Noise,
}

impl RecordOutcome {
    pub const ALL: [Self; 3] = [Self::Success, Self::Failed, Self::Noise];

    pub fn name(self) -> &'static str {
        match self {
            Self::Success => "SUCCESS",
            Self::Failed => "FAILED",
            Self::Noise => "NOISE",
        }
    }
}

/// What the table of a record has not been told yet.
#[derive(Clone, Debug, PartialEq)]
pub struct Owed {
    pub item: ItemId,
    pub key: String,
    pub version: u64,
    pub outcome: RecordOutcome,
    pub origin: Origin,
    /// The text and the kind that were taken in.
    pub text: String,
    pub kind: String,
    /// To be handed back when the table was told: it settles this answer and no later one.
    pub mark: String,
}
