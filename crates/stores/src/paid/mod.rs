//! Provides the SQLite file and the errors that the ledger, batches and items share.

mod error;
mod file;

pub use error::PaidError;
pub use file::{open, open_to_read};
