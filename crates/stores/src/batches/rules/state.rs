//! Defines the state of an item, and the step that a rule returns.

use sha2::{Digest, Sha256};

use crate::batches::RecordOutcome;

/// SHA-256 of an item's input.
pub type Hash = [u8; 32];

/// Returns the hash of an input.
pub fn hash_of(input: &str) -> Hash {
    Sha256::digest(input.as_bytes()).into()
}

/// Prefix of the names of live calls. No id of a batch begins with this prefix.
pub const LIVE: &str = "live:";

/// Returns whether `name` is the name of a live call, and not the id of a batch.
pub fn is_live(name: &str) -> bool {
    name.starts_with(LIVE)
}

/// Lists the states of an item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemStatus {
    None,
    Pending,
    Success,
    Failed,
    Noise,
}

impl ItemStatus {
    pub const ALL: [Self; 5] = [Self::None, Self::Pending, Self::Success, Self::Failed, Self::Noise];

    /// Returns the name that is stored and displayed.
    pub fn name(self) -> &'static str {
        match self {
            Self::None => "NONE",
            Self::Pending => "PENDING",
            Self::Success => "SUCCESS",
            Self::Failed => "FAILED",
            Self::Noise => "NOISE",
        }
    }

    /// Finds a status by its name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|status| status.name() == name)
    }

    /// Returns the outcome of a record with this status, or `None` while the record is open.
    pub fn outcome(self) -> Option<RecordOutcome> {
        match self {
            Self::None | Self::Pending => None,
            Self::Success => Some(RecordOutcome::Success),
            Self::Failed => Some(RecordOutcome::Failed),
            Self::Noise => Some(RecordOutcome::Noise),
        }
    }
}

/// Holds the part of an item that the rules read and change. This is everything except the item's texts and vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemState {
    /// Version of the item, which grows with each change.
    pub version: u64,
    pub status: ItemStatus,
    pub deleted: bool,
    /// True if the item is a text that no document waits for any more.
    pub unwanted: bool,
    /// True if the display data have changed but the text has not, so that the stored vector is still valid.
    pub reuse: bool,
    pub hash: Hash,
    /// Hash of the input that was sent.
    pub sent: Option<Hash>,
    /// Batch or live call that the item is in. For a failed item, the batch in which the item failed.
    pub batch: Option<String>,
    /// Number of batches and live calls that the item was in.
    pub attempts: u64,
    pub error: Option<String>,
    /// Version of the item's row in the vector store; `None` if there is no row.
    pub stored: Option<u64>,
    /// True if the item came from a table.
    pub from_table: bool,
    /// Number of times that the user's table requested the embedding of the item.
    pub asks: u64,
    /// Outcome that was last written back to the user's table, in the form that [`ItemState::mark`] returns.
    pub told: Option<String>,
}

impl ItemState {
    /// Returns the state of a new item.
    pub fn new(hash: Hash) -> Self {
        Self {
            version: 1,
            status: ItemStatus::None,
            deleted: false,
            unwanted: false,
            reuse: false,
            hash,
            sent: None,
            batch: None,
            attempts: 0,
            error: None,
            stored: None,
            from_table: false,
            asks: 0,
            told: None,
        }
    }

    /// Returns whether the item waits to be sent.
    pub fn is_waiting(&self) -> bool {
        self.status == ItemStatus::None && !self.deleted && !self.reuse
    }

    /// Returns whether the item is still to be processed. This is so if the item is not deleted and has the status
    /// [`None`](ItemStatus::None) or [`Pending`](ItemStatus::Pending).
    pub fn is_open(&self) -> bool {
        !self.deleted && matches!(self.status, ItemStatus::None | ItemStatus::Pending)
    }

    /// Returns whether the item is in this batch or live call.
    pub fn is_in(&self, batch: &str) -> bool {
        self.status == ItemStatus::Pending && self.batch.as_deref() == Some(batch)
    }

    /// Returns whether a result from this batch or live call is still needed. A result is stale if the item has left
    /// the batch, is deleted or unwanted, or has had a change of its input since it was sent.
    pub fn is_fresh_in(&self, batch: &str) -> bool {
        self.is_in(batch) && !self.deleted && !self.unwanted && self.sent == Some(self.hash)
    }

    /// Returns whether the item's row must be removed from the vector store.
    pub fn leaves(&self) -> bool {
        self.stored.is_some() && (self.deleted || self.status == ItemStatus::Noise)
    }

    /// Returns whether the item's row must be rewritten with the stored vector.
    pub fn refreshes(&self) -> bool {
        self.reuse && !self.deleted
    }

    /// Returns a text that identifies the outcome to write back to the user's table. Returns `None` if the item is
    /// still open or did not come from a table.
    pub fn mark(&self) -> Option<String> {
        let over = !self.deleted && self.status.outcome().is_some();
        (over && self.from_table).then(|| format!("{} {} {}", self.asks, self.version, self.status.name()))
    }

    /// Returns whether the item has an outcome that must still be written back to the user's table.
    pub fn owes(&self) -> bool {
        self.mark().is_some_and(|mark| self.told.as_deref() != Some(&mark))
    }

    /// Returns a copy of the item's state in which the item belongs to no batch.
    pub(super) fn free(&self) -> Self {
        Self { batch: None, sent: None, ..self.clone() }
    }
}

/// Describes a rule's decision about an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The item stays as it is.
    Keep,
    Write {
        state: Box<ItemState>,
        content: ItemContent,
        /// Outcome of the item in its batch; `None` if the rule does not decide the outcome.
        fate: Option<ItemOutcome>,
    },
    Delete,
}

impl Step {
    pub(super) fn state(state: ItemState) -> Self {
        Self::write(state, ItemContent::Same)
    }

    pub(super) fn write(state: ItemState, content: ItemContent) -> Self {
        Step::Write { state: Box::new(state), content, fate: None }
    }

    pub(super) fn fate(state: ItemState, content: ItemContent, fate: ItemOutcome) -> Self {
        Step::Write { state: Box::new(state), content, fate: Some(fate) }
    }

    /// Returns whether the step changes anything.
    pub fn is_change(&self) -> bool {
        *self != Step::Keep
    }
}

/// Lists the data that are written in addition to the state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemContent {
    /// Only the state is written.
    Same,
    /// The new input, tokens and display data are written. For a record from a table, its location in the table is
    /// written too.
    Put,
    /// Only the state and the record's location in its table are written.
    Origin,
    /// The vector of a text is written.
    Vector,
    /// The input is cleared.
    NoInput,
    /// The input, display data, vector and location in the table are cleared.
    Nothing,
}

/// Lists the outcomes of an item in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemOutcome {
    Stored,
    Failed,
    Returned,
}
