//! Converts SQLite's errors into failures that a store can report.

use rusqlite::{Error, ErrorCode};

use docweir_core::error::{ErrorClass, StageError};

use super::reader::is_denied;

/// Describes a failure of the database. The failure is cloned for every caller whose operation was part of the failed
/// commit.
#[derive(Clone, Debug)]
pub struct Failure {
    pub location: String,
    pub reason: String,
    pub hint: &'static str,
    /// True if another process has locked the database.
    pub busy: bool,
    /// True if the file is damaged or no database.
    pub damaged: bool,
    /// True if the connection or the disk failed. In this case, the whole commit must be abandoned, and not just one
    /// operation.
    pub fatal: bool,
    /// True if this process may not write, or the disk is read-only.
    pub denied: bool,
}

impl Failure {
    pub fn new(location: &str, reason: impl Into<String>, hint: &'static str) -> Self {
        Self {
            location: location.to_owned(),
            reason: reason.into(),
            hint,
            busy: false,
            damaged: false,
            fatal: true,
            denied: false,
        }
    }

    /// Describes a write to a database that was opened for reading.
    pub fn read_only(location: &str) -> Self {
        let hint = "make the state folder writable for this user, or run the command as the user who owns it";
        Self { denied: true, ..Self::new(location, "it was opened for reading, because it cannot be written", hint) }
    }

    pub fn of(location: &str, error: &Error) -> Self {
        use ErrorCode::*;
        let code = error.sqlite_error_code();
        let hint = match code {
            Some(DiskFull) => "free some space, or point the state folder at another disk",
            _ if is_denied(error) => "make the folder writable for this user, or point the state folder elsewhere",
            Some(DatabaseCorrupt | NotADatabase) => {
                "restore it from a copy, or move it away and ingest the documents again"
            }
            Some(SystemIoFailure) => "check the disk, its free space and the system's log",
            _ => "try again; if the error persists, report this message",
        };
        let fatal = !matches!(code, Some(ConstraintViolation | TypeMismatch | TooBig)) && code.is_some();
        let busy = matches!(code, Some(DatabaseBusy | DatabaseLocked));
        let damaged = matches!(code, Some(DatabaseCorrupt | NotADatabase));
        let denied = is_denied(error);
        Self { location: location.to_owned(), reason: error.to_string(), hint, busy, damaged, fatal, denied }
    }
}

impl std::fmt::Display for Failure {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        if self.busy {
            let location = &self.location;
            return write!(f, "another process has locked {location} for too long; try again, or stop that process");
        }
        write!(f, "the database at {} failed: {}; {}", self.location, self.reason, self.hint)
    }
}

impl std::error::Error for Failure {}

/// Converts a failure so that a full disk or a damaged file is never reported as the document's fault.
impl From<Failure> for StageError {
    fn from(failure: Failure) -> Self {
        let class = if failure.busy { ErrorClass::Unavailable } else { ErrorClass::System };
        StageError::new(class, "database", failure.to_string())
    }
}
