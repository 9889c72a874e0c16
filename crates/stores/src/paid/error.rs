//! Defines the errors of the ledger and of the store for batches.

use docweir_core::error::{ErrorClass, StageError};

use crate::sqlite::Failure;

#[derive(Clone, Debug, thiserror::Error)]
pub enum PaidError {
    /// Other processes are writing, or the service is throttling or denies the call. A retry can succeed.
    #[error("{0}")]
    Busy(String),
    /// The disk is full, the file is damaged, or a table is missing. A retry cannot succeed.
    #[error("{0}")]
    Storage(String),
    /// Another process is the leader for batches now. Nothing was written.
    #[error("{0}")]
    Fenced(String),
}

impl PaidError {
    pub fn is_busy(&self) -> bool {
        matches!(self, PaidError::Busy(_))
    }
}

impl From<Failure> for PaidError {
    fn from(failure: Failure) -> Self {
        let text = failure.to_string();
        if failure.busy { PaidError::Busy(text) } else { PaidError::Storage(text) }
    }
}

/// Maps each error to an error class that does not blame the document.
impl From<PaidError> for StageError {
    fn from(error: PaidError) -> Self {
        // A process that lost its leadership also learns it from its lease and stops.
        let class = match error {
            PaidError::Busy(_) => ErrorClass::Unavailable,
            PaidError::Fenced(_) => ErrorClass::Transient,
            PaidError::Storage(_) => ErrorClass::System,
        };
        StageError::new(class, "database", error.to_string())
    }
}
