//! Describes the limits and properties of a target.

use crate::WriteError;

/// Describes the limits and properties of a target. By default, nothing is limited, and all writes of a call become
/// visible together.
#[derive(Clone, Debug, PartialEq)]
pub struct Capabilities {
    /// Maximum number of documents in one call, including deletions.
    pub max_documents: u64,
    /// Maximum number of rows in one call.
    pub max_rows: u64,
    /// Maximum size of the rows in one call, in bytes of memory.
    pub max_bytes: u64,
    /// If true, all writes of a call become visible in one step. If false, each document version becomes visible
    /// separately.
    pub atomic: bool,
}

/// Identifies the quantity that a limit applies to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    Documents,
    Rows,
    Bytes,
}

impl Default for Capabilities {
    fn default() -> Self {
        Self { max_documents: u64::MAX, max_rows: u64::MAX, max_bytes: u64::MAX, atomic: true }
    }
}

impl Capabilities {
    /// Returns the maximum number of documents, rows or bytes in one call. `what` selects documents, rows or bytes.
    pub fn limit(&self, what: Limit) -> u64 {
        match what {
            Limit::Documents => self.max_documents,
            Limit::Rows => self.max_rows,
            Limit::Bytes => self.max_bytes,
        }
    }

    /// Returns an error if the quantity `found` exceeds a limit. `limited` selects the limit on documents, rows or
    /// bytes. `what` names the unit of `found` in the error message.
    pub(crate) fn admit(&self, what: &'static str, limited: Limit, found: u64) -> Result<(), WriteError> {
        let limit = self.limit(limited);
        if found > limit { Err(WriteError::TooLarge { what, limited, found, limit }) } else { Ok(()) }
    }
}
