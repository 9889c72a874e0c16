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
//! # Layout
//! | trait | what for | used by |
//! | --- | --- | --- |
//! | [`Records`] | records are put, deleted, counted | intake, command line |
//! | [`RecordOutbox`] | rows and answers that are owed for records | recorder, write-back, compaction's restore |
//! | [`DocumentTexts`] | documents wait for their texts | embedder |
//! | [`BatchLifecycle`] | a batch from its packing to its acceptance | submitter, poller |
//! | [`BatchResults`] | what comes back, and the end | harvester |
//! | [`LiveCalls`] | records that are embedded at once | recorder |
//!
//! [`Batches`] is all of them, [`rules`] what every store decides, and `conformance` what it has to do. `sqlite` is one file with the ledger: a batch
//! and its money, its end and its items change in one step. The store in DynamoDB (`docweir-aws-backend`) is for any number
//! of processes, of which one at a time looks after batches.

#[cfg(any(test, feature = "testing"))]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "it is for tests")]
pub mod conformance;
mod lifecycle;
mod live;
mod origin;
mod outbox;
mod records;
mod results;
pub mod rules;
mod sqlite;
#[cfg(test)]
mod tests;
mod texts;
mod types;

pub use lifecycle::BatchLifecycle;
pub use live::LiveCalls;
pub use origin::{Origin, Owed, RecordOutcome};
pub use outbox::RecordOutbox;
pub use records::Records;
pub use results::BatchResults;
pub use sqlite::SqliteBatches;
pub use texts::DocumentTexts;
pub use types::*;

use crate::paid::PaidError;

type Result<T> = std::result::Result<T, PaidError>;

/// A store of items and batches, for components that need most of it.
pub trait Batches: Records + RecordOutbox + DocumentTexts + BatchLifecycle + BatchResults + LiveCalls {}

impl<T: Records + RecordOutbox + DocumentTexts + BatchLifecycle + BatchResults + LiveCalls> Batches for T {}
