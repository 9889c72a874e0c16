//! Describes records that come from a user's table, and the outcomes to write back to the table.

use serde::{Deserialize, Serialize};
use serde_json::Value;

use super::ItemId;

/// Identifies the location of a record in a user's table. The record's outcome is written back to this location.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Origin {
    pub table: String,
    /// Location in the table, in the table's own format.
    pub place: Value,
}

/// Lists the possible outcomes of a record. A record has an outcome as soon as the record needs no further work. If
/// the record changes later, it has no outcome until it has been processed again.
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

/// Describes an outcome that has not been written back to the record's table yet.
#[derive(Clone, Debug, PartialEq)]
pub struct PendingOutcome {
    pub item: ItemId,
    pub key: String,
    pub version: u64,
    pub outcome: RecordOutcome,
    pub origin: Origin,
    /// Text of the record as it was ingested.
    pub text: String,
    /// Kind of the record as it was ingested: `line`, `word` or `record`.
    pub kind: String,
    /// Identifies this outcome. Passing this value to [`RecordOutbox::told`](super::RecordOutbox::told) confirms this
    /// outcome, but no later outcome.
    pub mark: String,
}
