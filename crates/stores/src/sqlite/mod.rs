//! Provides the code that all SQLite stores share: opening a file, converting errors, emptying the log, one shared
//! connection.

mod database;
mod failure;
mod log;
mod open;
mod reader;

pub use database::Database;
pub use failure::Failure;
pub use log::{beside, empty_log, try_to_empty_log};
pub use open::{OpenOptions, Schema, open_reader, open_writer};
pub use reader::Reader;
