//! The state of an item, and what a rule makes of it.

use sha2::{Digest, Sha256};

use crate::batches::RecordOutcome;

/// SHA-256 of an item's input.
pub type Hash = [u8; 32];

/// Returns the hash of an input.
pub fn hash_of(input: &str) -> Hash {
    Sha256::digest(input.as_bytes()).into()
}

/// How the names of live calls begin. No batch's id does.
pub const LIVE: &str = "live:";

/// Returns whether a name is that of a live call.
pub fn is_live(name: &str) -> bool {
    name.starts_with(LIVE)
}

/// BatchStatus of an item.
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

    /// Returns the name that is stored, and that people see.
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

    /// Returns how a record with this status has come to its end; `None` while it has not.
    pub fn outcome(self) -> Option<RecordOutcome> {
        match self {
            Self::None | Self::Pending => None,
            Self::Success => Some(RecordOutcome::Success),
            Self::Failed => Some(RecordOutcome::Failed),
            Self::Noise => Some(RecordOutcome::Noise),
        }
    }
}

/// What rules see of an item, and change: all but its texts and its vector.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ItemState {
    /// Grows with each change.
    pub version: u64,
    pub status: ItemStatus,
    pub deleted: bool,
    /// Text that no document waits for any more.
    pub unwanted: bool,
    /// What is found of it has changed and its text has not: the vector that is stored is its vector.
    pub reuse: bool,
    pub hash: Hash,
    /// Hash of what was sent.
    pub sent: Option<Hash>,
    /// Batch or live call that has it; of a failed item, the batch that it failed in.
    pub batch: Option<String>,
    /// Batches and live calls that it was in.
    pub attempts: u64,
    pub error: Option<String>,
    /// Version that the vector store holds.
    pub stored: Option<u64>,
    /// Whether it came from a table.
    pub from_table: bool,
    /// How often that table was found to ask for it.
    pub asks: u64,
    /// Mark of what that table was told last.
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

    /// Returns whether it waits to be sent.
    pub fn is_waiting(&self) -> bool {
        self.status == ItemStatus::None && !self.deleted && !self.reuse
    }

    /// Returns whether it has neither a vector nor failed.
    pub fn is_open(&self) -> bool {
        !self.deleted && matches!(self.status, ItemStatus::None | ItemStatus::Pending)
    }

    /// Returns whether it is on its way in a batch or a live call.
    pub fn is_in(&self, batch: &str) -> bool {
        self.status == ItemStatus::Pending && self.batch.as_deref() == Some(batch)
    }

    /// Returns whether a result for what was sent is still wanted; otherwise it is stale.
    pub fn is_fresh_in(&self, batch: &str) -> bool {
        self.is_in(batch) && !self.deleted && !self.unwanted && self.sent == Some(self.hash)
    }

    /// Returns whether its row has to leave the vector store.
    pub fn leaves(&self) -> bool {
        self.stored.is_some() && (self.deleted || self.status == ItemStatus::Noise)
    }

    /// Returns whether its row is to be written anew with the vector that there is.
    pub fn refreshes(&self) -> bool {
        self.reuse && !self.deleted
    }

    /// Returns the mark of what its table is to be told; `None` while it has come to no end, or came from none.
    pub fn mark(&self) -> Option<String> {
        let over = !self.deleted && self.status.outcome().is_some();
        (over && self.from_table).then(|| format!("{} {} {}", self.asks, self.version, self.status.name()))
    }

    /// Returns whether its table has not been told yet.
    pub fn owes(&self) -> bool {
        self.mark().is_some_and(|mark| self.told.as_deref() != Some(&mark))
    }

    /// Returns it in no batch.
    pub(super) fn free(&self) -> Self {
        Self { batch: None, sent: None, ..self.clone() }
    }
}

/// What a rule makes of an item.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// It stays as it is.
    Keep,
    Write {
        state: Box<ItemState>,
        content: ItemContent,
        /// What became of it in its batch, where it has come to an end there.
        fate: Option<Fate>,
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

    pub(super) fn fate(state: ItemState, content: ItemContent, fate: Fate) -> Self {
        Step::Write { state: Box::new(state), content, fate: Some(fate) }
    }

    /// Returns whether anything changes.
    pub fn is_change(&self) -> bool {
        *self != Step::Keep
    }
}

/// What is written of an item beside its state.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ItemContent {
    /// Nothing.
    Same,
    /// Input, tokens and what is found, as they were put; and the place in its table, if it was put from one.
    Put,
    /// The place in its table alone, as it was put.
    Origin,
    /// The vector of a text.
    Vector,
    /// Input is cleared.
    NoInput,
    /// Input, what is found, vector and place are cleared.
    Nothing,
}

/// What became of an item in a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fate {
    Stored,
    Failed,
    Returned,
}
