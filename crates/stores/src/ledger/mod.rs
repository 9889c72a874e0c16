//! The ledger: every cent, before and after it is spent.
//!
//! Money is set aside before a call and settled after it, each durable before the next step. So the provider's ledger lie
//! between what is settled here and that plus what is open: *reserved* by a call that still runs, or *in doubt* because
//! nobody knows whether a call whose answer was lost was charged. A run that dies leaves its reservations behind; the
//! next one calls them in doubt.
//!
//! # Layout
//! - [`Ledger`] what every ledger does; [`rules`] what it decides, without I/O; `conformance` what it has to do
//! - `sqlite` in the file of one machine; for any number of processes there is one in `docweir-aws-backend`

#[cfg(any(test, feature = "testing"))]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "it is for tests")]
pub mod conformance;
pub mod rules;
mod sqlite;
#[cfg(test)]
mod tests;

use async_trait::async_trait;
use docweir_core::money::Nanodollars;
use serde::{Deserialize, Serialize};

pub use sqlite::{SqliteLedger, doubt, number, reserve, room, settle_in_parts};

use crate::paid::PaidError;

/// Something that costs money, before it is done.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spend {
    /// The process's run: who answers for the entry.
    pub run: String,
    pub mode: Mode,
    /// `embedding`, `search`.
    pub stage: String,
    pub model: String,
    pub collection: String,
    /// A document or a batch.
    pub subject: String,
    pub tokens: u64,
    pub cost: Nanodollars,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    Live,
    Batch,
}

impl Mode {
    pub fn name(self) -> &'static str {
        match self {
            Mode::Live => "live",
            Mode::Batch => "batch",
        }
    }
}

/// What may be spent, open amounts included. `None` is no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    pub run: Option<Nanodollars>,
    /// A day in UTC.
    pub day: Option<Nanodollars>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    Run,
    Day,
}

/// What asking for money came to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Asked {
    /// It is set aside.
    Given(Reservation),
    /// It would be more than the budget.
    Refused { period: Period, spent: Nanodollars, limit: Nanodollars },
}

/// The name of an entry. What it is made of is the store's own.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct EntryId(String);

impl EntryId {
    pub fn new(name: impl Into<String>) -> Self {
        Self(name.into())
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reservation {
    pub id: EntryId,
    /// Spent and open with this one, in the run and on the day.
    pub run: Nanodollars,
    pub day: Nanodollars,
}

/// A part of what a call or a batch was charged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    pub subject: String,
    pub tokens: u64,
    pub cost: Nanodollars,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum By {
    Day,
    Run,
    Mode,
    Stage,
    Model,
    Collection,
    /// Documents and batches; as long as their entries are kept.
    Subject,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    pub calls: u64,
    pub tokens: u64,
    #[serde(rename = "nanodollars")]
    pub cost: Nanodollars,
}

/// One line of a report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CostLine {
    pub name: String,
    pub settled: Amount,
    /// By calls and batches that are under way.
    pub reserved: Amount,
    pub in_doubt: Amount,
}

#[async_trait]
pub trait Ledger: Send + Sync + 'static {
    /// Sets money aside. Durable when it returns.
    async fn reserve(&self, spend: Spend, budget: Budget) -> Result<Asked, PaidError>;

    /// Writes down what was charged. Also of what was in doubt.
    async fn settle(&self, reservation: &EntryId, tokens: u64, cost: Nanodollars) -> Result<(), PaidError>;

    /// Writes down what was charged as several entries, each of a subject of its own. Without shares nothing was charged.
    async fn settle_in_parts(&self, reservation: &EntryId, shares: &[Share]) -> Result<(), PaidError>;

    /// Nothing was charged.
    async fn release(&self, reservation: &EntryId) -> Result<(), PaidError>;

    /// Nobody knows.
    async fn doubt(&self, reservation: &EntryId) -> Result<(), PaidError>;

    /// What live calls of processes that are gone left reserved is in doubt from now on. Where nobody can see whether a
    /// process lives, those of other runs are gone: only for who knows that they are.
    async fn doubt_others(&self, run: &str) -> Result<u64, PaidError>;

    /// Sums since a day (`YYYY-MM-DD`), in order of their names; at most `limit`, those that cost the most.
    async fn report(&self, by: By, since: &str, limit: usize) -> Result<Vec<CostLine>, PaidError>;

    /// Forgets settled entries of days before this one, where they are not forgotten by themselves; their sums stay.
    async fn forget_before(&self, day: &str) -> Result<u64, PaidError>;
}
