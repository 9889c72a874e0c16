//! Stores items to embed, the batches in which items are sent, and the documents that wait for vectors.
//!
//! ```text
//!   NONE ──pack──▶ PENDING ──result──▶ SUCCESS          NOISE: never sent
//!    ▲  ▲             │  └──refused──▶ FAILED
//!    │  └──no answer──┘
//!    └── text or metadata changed: a new version
//! ```
//! An item belongs to a *space*, which is a collection of records, or the set of all document texts that one model
//! embeds. The version of an item grows with each change and is also the version of the item's row in the vector
//! store. When an item is sent, the hash of its text is stored. If the item has changed or was deleted by the time its
//! result arrives, the result matches no item and is stale.
//!
//! # Layout
//! | trait | purpose | used by |
//! | --- | --- | --- |
//! | [`Records`] | puts, deletes and counts records | intake, command line |
//! | [`RecordOutbox`] | lists vector rows and table outcomes still to be written | recorder, write-back, rollback |
//! | [`DocumentTexts`] | lets documents wait for vectors of their texts | embedder |
//! | [`BatchLifecycle`] | records a batch from its packing to its creation at the provider | submitter, poller |
//! | [`BatchResults`] | records the results and the end of a batch | harvester |
//! | [`LiveCalls`] | embeds records at once, without a batch | recorder |
//!
//! [`Batches`] combines all these traits. [`rules`] holds the decisions that all stores share, and `conformance` holds
//! the tests that every store must pass. `sqlite` stores everything in the same file as the ledger, so one transaction
//! can change a batch, its items and its money. The store in DynamoDB (`docweir-aws-backend`) serves any number of
//! processes, one of which is the leader for batches.

#[cfg(any(test, feature = "testing"))]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "used only in tests")]
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
