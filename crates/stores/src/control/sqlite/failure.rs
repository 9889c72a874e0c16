//! What the errors of an operation mean to whoever called the store.

use rusqlite::Error;

use crate::control::ControlError;
use crate::sqlite::Failure;

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

/// A failure of the database, or what the rules said.
pub fn told(location: &str, error: OpError) -> Result<Failure, ControlError> {
    match error {
        OpError::Refused(refusal) => Err(refusal),
        OpError::Database(e) => Ok(Failure::of(location, &e)),
        OpError::Unreadable(what) => {
            let hint = "correct the row with any SQLite tool, or ingest the file anew";
            Ok(Failure { fatal: false, ..Failure::new(location, what, hint) })
        }
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
