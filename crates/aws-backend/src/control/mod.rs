//! The control store in DynamoDB: the tables of the system that this one replaces, for any number of replicas.
//!
//! The rules decide, this keeps, as in SQLite: every operation reads the record, applies a rule, and writes the record with
//! its audit entries, here on condition that nobody has written it meanwhile.
//!
//! # Layout
//! - [`store`] the operations; `writer` the one task that writes, many documents in a transaction; `decide` what is asked
//!   of one, without I/O
//! - `items` records as items; [`tables`] keys and indexes; `daily` the metrics, which are written by the way
//!
//! # What costs what
//! Claiming looks at the head of the line in an index, which is a moment behind: the record itself is asked again before it
//! is claimed. Lists and counts page through indexes. Nothing scans a table.

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

/// Returns a new name of a write or of a transaction.
fn new_token() -> String {
    ulid::Ulid(fastrand::u128(..)).to_string()
}
