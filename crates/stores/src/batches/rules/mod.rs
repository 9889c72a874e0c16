//! What becomes of items and batches, with no database in sight.
//!
//! A rule is a function from the state of an item to a [`Step`]. A store reads the state, asks the rule, and writes the state
//! and the content that the step names in one atomic step. So every store decides alike, and the decisions have tests that
//! need no disk. Where a store changes a whole set in one statement, a test compares that statement with the rule.
//!
//! # Layout
//! - [`state`](ItemState) what a rule sees of an item
//! - [`records`] a record is put, deleted, refreshed, compared with the vector store
//! - [`sending`] an item is in a batch or a live call, and what comes of that
//! - [`texts`] a document asks for its texts
//! - [`packing`] what fits into a batch
//! - [`batch`] what an event changes in a batch's record

pub mod batch;
pub mod packing;
pub mod records;
pub mod sending;
mod state;
#[cfg(test)]
mod tests;
pub mod texts;

pub use state::{Fate, Hash, ItemContent, ItemState, ItemStatus, LIVE, Step, hash_of, is_live};
