//! Empties the write-ahead log of a database, and names the files of a database.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use rusqlite::{Connection, Error};

use super::Failure;

/// Moves everything from the write-ahead log to the file and empties the log. Deleted data would otherwise stay in the
/// log until later writes overwrite it. Returns `false` if another process is reading or writing.
pub fn try_to_empty_log(connection: &Connection) -> Result<bool, Error> {
    // SQLite reports a busy log as a value, not as an error.
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |row| row.get::<_, i64>(0)).map(|busy| busy == 0)
}

/// Empties the log like [`try_to_empty_log`]. Fails if another process is reading or writing.
pub fn empty_log(connection: &Connection, location: &str) -> Result<(), Failure> {
    match try_to_empty_log(connection).map_err(|e| Failure::of(location, &e))? {
        true => Ok(()),
        false => Err(Failure { busy: true, ..Failure::new(location, "its log is in use", "try again") }),
    }
}

/// Returns the path of a file that belongs to a database, such as its log (`-wal`).
pub fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}
