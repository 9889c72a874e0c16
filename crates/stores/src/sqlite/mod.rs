//! What the stores in SQLite files share: how a file is opened, what its errors mean, and one connection for all.

mod database;
mod failure;
mod open;

pub use database::Database;
pub use failure::Failure;
pub use open::{OpenOptions, Schema, open_reader, open_writer};
