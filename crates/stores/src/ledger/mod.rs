//! Records all money before and after it is spent.
//!
//! Money is reserved before a call and settled after it; each step is durable before the next begins. The provider's
//! charges lie between the settled sum and the sum of settled and open amounts. Open amounts are *reserved* by a
//! running call, or *in doubt*: the answer of the call was lost, so its charge is unknown. A run that dies leaves its
//! reservations behind; the next run marks them as in doubt.
//!
//! # Layout
//! - [`Ledger`] – the trait; [`rules`] – its decisions, without I/O; `conformance`: the tests that every ledger must
//!   pass
//! - `sqlite`: the ledger of one machine, in a file; `docweir-aws-backend` has a ledger for any number of processes

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

/// Describes an expense before it is made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Spend {
    /// Run of the process that is responsible for the entry.
    pub run: String,
    pub mode: Mode,
    /// Stage that spends: `embedding` or `search`.
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

/// Limits the spending, including open amounts. `None` means no limit.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Budget {
    pub run: Option<Nanodollars>,
    /// Limit per day, in UTC.
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

/// Identifies an entry of the ledger. Each store defines the form of the name.
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
    /// Amount spent and open in the run, including this reservation.
    pub run: Nanodollars,
    /// Amount spent and open on the day, including this reservation.
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
    /// Documents and batches. Their entries are deleted after a time, so older ones are missing.
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
    /// Amount reserved by running calls and batches.
    pub reserved: Amount,
    pub in_doubt: Amount,
}

#[async_trait]
pub trait Ledger: Send + Sync + 'static {
    /// Reserves money. The reservation is durable when this returns.
    async fn reserve(&self, spend: Spend, budget: Budget) -> Result<ReservationOutcome, PaidError>;

    /// Records the actual charge of an open entry, also of one in doubt.
    async fn settle(&self, reservation: &EntryId, tokens: u64, cost: Nanodollars) -> Result<(), PaidError>;

    /// Settles an entry as several, one per subject. Without shares nothing was charged.
    async fn settle_in_parts(&self, reservation: &EntryId, shares: &[Share]) -> Result<(), PaidError>;

    /// Releases a reservation: nothing was charged.
    async fn release(&self, reservation: &EntryId) -> Result<(), PaidError>;

    /// Marks a reservation as in doubt: its charge is unknown.
    async fn doubt(&self, reservation: &EntryId) -> Result<(), PaidError>;

    /// Marks reservations of live calls as in doubt if their process is dead. A ledger that cannot detect dead
    /// processes treats every other run as dead: call it there only if that is known. Returns the number of entries.
    async fn doubt_others(&self, run: &str) -> Result<u64, PaidError>;

    /// Returns sums since a day (`YYYY-MM-DD`), in order of their names. If there are more than `limit`, only the
    /// most expensive are returned.
    async fn report(&self, by: GroupBy, since: &str, limit: usize) -> Result<Vec<CostLine>, PaidError>;

    /// Deletes settled entries of days before `day`, unless the store expires them itself. Their sums are kept.
    /// Returns the number of deleted entries.
    async fn forget_before(&self, day: &str) -> Result<u64, PaidError>;
}
