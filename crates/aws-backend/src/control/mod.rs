//! Implements the control store in DynamoDB, in the tables of the system that Docweir replaces, for any number of
//! replicas.
//!
//! The shared rules decide, and this module stores, as the SQLite store does. Every operation reads the record,
//! applies a rule, and writes the record with its audit entries. The write has the condition that no other process
//! has changed the record since.
//!
//! # Layout
//! - [`store`] – the operations of the store
//! - `writer`: the one task that writes, many documents in a transaction
//! - `decide`: decides a command on one document, without I/O
//! - `children`, `fence`: documents within documents, and the check of their parent's claim
//! - `items`: records as DynamoDB items
//! - [`tables`] – keys and indexes
//! - `daily`: daily metrics, which are written separately
//!
//! # Costs
//! A claim reads the head of the queue from an index. The index lags slightly, so the record itself is read again
//! before it is claimed. Lists and counts page through indexes. No operation scans a table.

mod children;
mod daily;
mod decide;
mod failure;
mod fence;
mod items;
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
