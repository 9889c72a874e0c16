//! Defines the errors of writes that a target refuses.

use docweir_core::error::StageError;

use crate::Limit;

/// Describes a refused write. Names the document or the limit, and never contains text of a document.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WriteError {
    /// The document cannot be stored, even alone in a call, because its content is invalid or exceeds a limit.
    #[error("cannot store document `{document}`: {reason}")]
    Rejected { document: String, reason: String },
    /// The call exceeds a limit of the target. The caller can split the call.
    #[error("{found} {what} exceed the target's limit of {limit}; write less per call")]
    TooLarge { what: &'static str, limited: Limit, found: u64, limit: u64 },
    #[error("write contains no documents")]
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
