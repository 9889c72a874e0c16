//! Provides what the ledger, batches and items share: their file on one machine, and their errors.

mod error;
mod file;

pub use error::PaidError;
pub use file::open;
