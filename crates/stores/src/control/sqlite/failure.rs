//! Converts the errors of an operation into errors of the control store.

use rusqlite::Error;

use crate::control::ControlError;
use crate::sqlite::Failure;

/// Lists the reasons why an operation failed.
#[derive(Debug)]
pub enum OpError {
    /// The rules refused this operation; other operations are not affected.
    Refused(ControlError),
    Database(Error),
    /// A row holds a value that docweir never writes. The text names the column and the value.
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

/// Separates failures of the storage from refusals. Returns `Ok` with the failure if the database failed or a row is
/// unreadable. Returns `Err` if the rules refused the operation.
pub fn told(location: &str, error: OpError) -> Result<Failure, ControlError> {
    match error {
        OpError::Refused(refusal) => Err(refusal),
        OpError::Database(e) => Ok(Failure::of(location, &e)),
        OpError::Unreadable(what) => {
            let hint = "correct the row with any SQLite tool, or ingest the file again";
            Ok(Failure { fatal: false, ..Failure::new(location, what, hint) })
        }
    }
}

impl From<Failure> for ControlError {
    fn from(f: Failure) -> Self {
        if f.busy {
            return ControlError::Busy(format!(
                "another process has locked {} for too long; try again, or stop that process",
                f.location
            ));
        }
        ControlError::Storage { location: f.location, reason: f.reason, hint: f.hint }
    }
}
