//! Stores items to embed, the batches that carry them, and the documents that wait for them.
//!
//! ```text
//!   NONE ──pack──▶ PENDING ──result──▶ SUCCESS          NOISE: never sent
//!    ▲  ▲             │  └──refused──▶ FAILED
//!    │  └──no answer──┘
//!    └── text or metadata changed: a new version
//! ```
//! An item belongs to a *space*: a collection of records, or the texts of documents for one model. Its version grows
//! with each change and is the version of its row in the vector store. A sent item carries the hash of its text. If
//! the item has changed or was deleted meanwhile, its result matches no item and is stale.
//!
//! # Layout
//! | trait | purpose | used by |
//! | --- | --- | --- |
//! | [`Records`] | puts, deletes and counts records | intake, command line |
//! | [`RecordOutbox`] | lists rows and outcomes that are still to be written | recorder, write-back, compaction's restore |
//! | [`DocumentTexts`] | lets documents wait for vectors of their texts | embedder |
//! | [`BatchLifecycle`] | records a batch from its packing to its creation at the provider | submitter, poller |
//! | [`BatchResults`] | records the results and the end of a batch | harvester |
//! | [`LiveCalls`] | embeds records at once, without a batch | recorder |
//!
//! [`Batches`] combines all of them. [`rules`] holds the decisions that all stores share, and `conformance` the tests
//! that every store must pass. `sqlite` stores everything in one file with the ledger, so a batch changes with its
//! money, and ends with its items, in one transaction. The store in DynamoDB (`docweir-aws-backend`) serves any
//! number of processes, one of which is the leader for batches.

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
pub use origin::{Origin, PendingOutcome, RecordOutcome};
pub use outbox::RecordOutbox;
pub use records::Records;
pub use results::BatchResults;
pub use sqlite::SqliteBatches;
pub use texts::DocumentTexts;
pub use types::*;

use crate::paid::PaidError;

type Result<T> = std::result::Result<T, PaidError>;

/// Combines all traits of the store, for components that need most of them.
pub trait Batches: Records + RecordOutbox + DocumentTexts + BatchLifecycle + BatchResults + LiveCalls {}

impl<T: Records + RecordOutbox + DocumentTexts + BatchLifecycle + BatchResults + LiveCalls> Batches for T {}
