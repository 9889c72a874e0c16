//! Records all money before and after it is spent.
//!
//! Money is reserved before a call and settled after the call; each step is durable before the next step begins. The
//! provider has charged at least the settled amounts, and at most the settled and open amounts together. An open
//! amount is *reserved* by a running call, or *in doubt* because the answer of its call was lost and the charge is
//! unknown. A run that dies leaves reservations behind; the next run marks these reservations as in doubt.
//!
//! # Layout
//! - [`Ledger`] is the trait, [`rules`] holds the decisions of all ledgers, and `conformance` holds the tests that
//!   every ledger must pass
//! - `sqlite` is the ledger for one machine; `docweir-aws-backend` has a ledger for any number of processes

#[cfg(any(test, feature = "testing"))]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "used only in tests")]
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

/// Describes an expense before it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spend {
    /// Run that spends the money.
    pub run: String,
    pub mode: Mode,
    /// Stage that spends the money, such as `embedding` or `search`.
    pub stage: String,
    pub model: String,
    pub collection: String,
    /// Document or batch that the money is spent on.
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

/// Limits the sum of settled and open amounts. `None` means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    pub run: Option<Nanodollars>,
    /// Limit per UTC day.
    pub day: Option<Nanodollars>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Period {
    Run,
    Day,
}

/// Reports the outcome of a reservation.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ReservationOutcome {
    /// The money is reserved.
    Given(Reservation),
    /// The reservation would exceed the budget.
    Refused { period: Period, spent: Nanodollars, limit: Nanodollars },
}

/// Identifies an entry of the ledger. Each store has its own format of ids.
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
    /// Sum of the run's settled and open amounts, including this reservation.
    pub run: Nanodollars,
    /// Sum of the day's settled and open amounts, including this reservation.
    pub day: Nanodollars,
}

/// Describes one subject's part of the charge for a call or a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Share {
    pub subject: String,
    pub tokens: u64,
    pub cost: Nanodollars,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum GroupBy {
    Day,
    Run,
    Mode,
    Stage,
    Model,
    Collection,
    /// Groups by document or batch. Entries are deleted after a time, so older documents and batches are missing.
    Subject,
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Amount {
    pub calls: u64,
    pub tokens: u64,
    #[serde(rename = "nanodollars")]
    pub cost: Nanodollars,
}

/// Holds one line of a cost report.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct CostLine {
    pub name: String,
    pub settled: Amount,
    /// Amount that is reserved by running calls and batches.
    pub reserved: Amount,
    pub in_doubt: Amount,
}

#[async_trait]
pub trait Ledger: Send + Sync + 'static {
    /// Reserves money. The reservation is durable when this returns.
    async fn reserve(&self, spend: Spend, budget: Budget) -> Result<ReservationOutcome, PaidError>;

    /// Records the actual charge of an open entry. The entry may be reserved or in doubt.
    async fn settle(&self, reservation: &EntryId, tokens: u64, cost: Nanodollars) -> Result<(), PaidError>;

    /// Replaces an open entry by settled entries, one for each share. If `shares` is empty, nothing was charged.
    async fn settle_in_parts(&self, reservation: &EntryId, shares: &[Share]) -> Result<(), PaidError>;

    /// Releases a reservation for which nothing was charged.
    async fn release(&self, reservation: &EntryId) -> Result<(), PaidError>;

    /// Marks a reservation as in doubt, because its charge is unknown.
    async fn doubt(&self, reservation: &EntryId) -> Result<(), PaidError>;

    /// Marks reservations as in doubt if they belong to live calls of processes that have died. `run` is the caller's
    /// own run. A ledger that cannot detect dead processes treats every other run as dead. With such a ledger, call
    /// this only if the other processes are known to be dead. Returns the number of marked entries.
    async fn doubt_others(&self, run: &str) -> Result<u64, PaidError>;

    /// Returns one line of sums per group, in order of the groups' names. The sums begin with the day `since`, in the
    /// form `YYYY-MM-DD`. If there are more than `limit` groups, only the most expensive groups are returned.
    async fn report(&self, by: GroupBy, since: &str, limit: usize) -> Result<Vec<CostLine>, PaidError>;

    /// Deletes settled entries of days before `day`, unless the store expires entries automatically. The sums are
    /// kept. Returns the number of deleted entries.
    async fn forget_before(&self, day: &str) -> Result<u64, PaidError>;
}
