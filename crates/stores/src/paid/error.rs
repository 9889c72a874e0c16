//! Why what is paid for could not be read or written.

use docweir_core::error::{ErrorClass, StageError};

use crate::sqlite::Failure;

#[derive(Clone, Debug, thiserror::Error)]
pub enum PaidError {
    /// Others are writing, or the service is asked for too much: it may be tried again.
    #[error("{0}")]
    Busy(String),
    /// A full disk, a damaged file, a table that is missing: nothing that passes by itself.
    #[error("{0}")]
    Storage(String),
    /// Somebody else looks after batches now: nothing was written.
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

/// No document's fault.
impl From<PaidError> for StageError {
    fn from(error: PaidError) -> Self {
        // Who was taken over from is told so by its lease, too, and ends what it does.
        let class = match error {
            PaidError::Busy(_) | PaidError::Fenced(_) => ErrorClass::Transient,
            PaidError::Storage(_) => ErrorClass::System,
        };
        StageError::new(class, "database", error.to_string())
    }
}
