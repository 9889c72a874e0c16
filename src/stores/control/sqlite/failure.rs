//! What SQLite's errors mean to whoever called the store.

use rusqlite::{Error, ErrorCode};

use crate::stores::control::ControlError;

/// Why an operation did not go through.
#[derive(Debug)]
pub enum OpError {
    /// Decided by the rules: this operation only.
    Refused(ControlError),
    Database(Error),
    /// A row holds what no docweir wrote there; says which and what.
    Unreadable(String),
}

pub type OpResult<T> = Result<T, OpError>;

impl From<ControlError> for OpError {
    fn from(e: ControlError) -> Self {
        OpError::Refused(e)
    }
}

impl From<Error> for OpError {
    fn from(e: Error) -> Self {
        OpError::Database(e)
    }
}

/// A failure of the database, cloned for every caller whose operation was in the commit.
#[derive(Clone, Debug)]
pub struct Failure {
    location: String,
    reason: String,
    hint: &'static str,
    busy: bool,
    /// The connection or the disk is at fault: the whole commit is given up, not one operation.
    pub fatal: bool,
}

impl Failure {
    pub fn new(location: &str, reason: impl Into<String>, hint: &'static str) -> Self {
        Self { location: location.to_owned(), reason: reason.into(), hint, busy: false, fatal: true }
    }

    pub fn of(location: &str, error: &Error) -> Self {
        use ErrorCode::*;
        let code = error.sqlite_error_code();
        let hint = match code {
            Some(DiskFull) => "free some space, or point the state folder at another disk",
            Some(ReadOnly | PermissionDenied | CannotOpen) => {
                "make the folder writable for this user, or point the state folder elsewhere"
            }
            Some(DatabaseCorrupt | NotADatabase) => {
                "restore it from a copy, or move it away and ingest again: the documents are read anew"
            }
            Some(SystemIoFailure) => "check the disk, its free space and the system's log",
            _ => "try again; if it stays so, report it with this message",
        };
        let fatal = !matches!(code, Some(ConstraintViolation | TypeMismatch | TooBig)) && code.is_some();
        let busy = matches!(code, Some(DatabaseBusy | DatabaseLocked));
        Self { location: location.to_owned(), reason: error.to_string(), hint, busy, fatal }
    }

    pub fn of_op(location: &str, error: OpError) -> Result<Self, ControlError> {
        match error {
            OpError::Refused(refusal) => Err(refusal),
            OpError::Database(e) => Ok(Self::of(location, &e)),
            OpError::Unreadable(what) => {
                let hint = "correct the row with any SQLite tool, or ingest the file anew";
                Ok(Self { fatal: false, ..Self::new(location, what, hint) })
            }
        }
    }

    pub fn is_busy(&self) -> bool {
        self.busy
    }
}

impl From<Failure> for ControlError {
    fn from(f: Failure) -> Self {
        if f.busy {
            return ControlError::Busy(format!(
                "another process has been writing to {} for too long; try again or end it",
                f.location
            ));
        }
        ControlError::Storage { location: f.location, reason: f.reason, hint: f.hint }
    }
}
