//! Implements the control store in DynamoDB, for any number of replicas. It uses the tables of the system that
//! Docweir replaces.
//!
//! As in the SQLite store, shared rules decide how a record changes, and this module only stores records. Every
//! operation reads the record, applies a rule, and writes the record with its audit entries. The write fails if
//! another process has changed the record since the read.
//!
//! # Layout
//! - [`store`] – the operations of the store
//! - `writer`: the only task that writes; it combines many documents in a transaction
//! - `decide`: decides a command on one document, without I/O
//! - `children`, `fence`: documents within documents (children), and the check that the claim on the parent is valid
//! - `items`: records as DynamoDB items
//! - [`tables`] – keys and indexes
//! - `daily`: daily metrics, which are written separately
//!
//! # Costs
//! A claim reads the head of the queue from an index. The index lags slightly, so a record is read again before it is
//! claimed. Lists and counts page through indexes. No operation scans a table.

mod children;
mod daily;
mod decide;
mod failure;
mod fence;
mod items;
mod pending;
mod recent;
pub mod store;
pub mod tables;
#[cfg(test)]
mod tests;
mod writer;

pub use store::DynamoControlStore;

/// Returns a new random id for a write or a transaction.
fn new_token() -> String {
    ulid::Ulid(fastrand::u128(..)).to_string()
}
