//! Provides the code that all SQLite stores share: opening a file, converting errors, one shared connection.

mod database;
mod failure;
mod open;
mod reader;

pub use database::Database;
pub use failure::Failure;
pub use open::{OpenOptions, Schema, open_reader, open_writer};
pub use reader::Reader;
