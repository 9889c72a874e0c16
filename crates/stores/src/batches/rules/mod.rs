//! Decides all changes of items and batches, without a database.
//!
//! A rule is a function from the state of an item to a [`Step`]. A store reads the state, calls the rule, and writes
//! the step's state and content in one atomic step. So all stores decide alike, and the decisions are tested without
//! a disk. If a store changes a whole set in one statement, a test compares that statement with the rule.
//!
//! # Layout
//! - [`state`](ItemState): the part of an item that the rules see
//! - [`records`] – putting, deleting and refreshing records, comparing them with the vector store
//! - [`sending`] – items in a batch or a live call, and their outcomes
//! - [`texts`] – a document's requests for its texts
//! - [`packing`] – selection of the items of a batch
//! - [`batch`] – changes of a batch's record by events

pub mod batch;
pub mod packing;
pub mod records;
pub mod sending;
mod state;
#[cfg(test)]
mod tests;
pub mod texts;

pub use state::{Hash, ItemContent, ItemOutcome, ItemState, ItemStatus, LIVE, Step, hash_of, is_live};
