//! Decides how items and batches change, without access to a database.
//!
//! A rule is a function that takes the state of an item and returns a [`Step`]. A store reads the state, calls the
//! rule, and writes the state and content of the [`Step`] atomically. All stores therefore make the same decisions,
//! and the decisions can be tested without a disk. If a store changes many items with one statement, a test compares
//! the statement with the rule.
//!
//! # Layout
//! - [`state`](ItemState) – the part of an item that the rules see
//! - [`records`] – records that are put, deleted, refreshed, or compared with the vector store
//! - [`sending`] – items in a batch or a live call, and the outcomes of these items
//! - [`texts`] – requests of documents for the vectors of their texts
//! - [`packing`] – selection of the items of a batch
//! - [`batch`] – changes that events make to the record of a batch

pub mod batch;
pub mod packing;
pub mod records;
pub mod sending;
mod state;
#[cfg(test)]
mod tests;
pub mod texts;

pub use state::{Hash, ItemContent, ItemOutcome, ItemState, ItemStatus, LIVE, Step, hash_of, is_live};
