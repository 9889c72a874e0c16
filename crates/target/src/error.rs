//! Why a write can't be stored as it is.

use docweir_core::error::StageError;

use crate::Limit;

/// Names the document or the limit. Never holds text of a document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// A document that can never be stored as it is.
    #[error("document `{document}`: {reason}")]
    Rejected { document: String, reason: String },
    /// More in one call than the target takes. The caller writes less at once.
    #[error("a write of {found} {what} is over the target's limit of {limit}: write less at once")]
    TooLarge { what: &'static str, limited: Limit, found: u64, limit: u64 },
    #[error("a write of no documents was asked for")]
    Empty,
}

impl From<WriteError> for StageError {
    fn from(error: WriteError) -> Self {
        let code = match error {
            WriteError::Rejected { .. } => "rejected_rows",
            WriteError::TooLarge { .. } => "write_too_large",
            WriteError::Empty => "empty_write",
        };
        StageError::permanent(code, error.to_string())
    }
}
