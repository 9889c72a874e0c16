//! What is paid for: the ledger, batches and items. Here, what they share: the file of one machine's stores, and what their
//! failures mean to whoever called them.

mod error;
mod file;

pub use error::PaidError;
pub use file::open;
