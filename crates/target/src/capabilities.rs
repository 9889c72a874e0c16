//! What a target can take.

use crate::WriteError;

/// Limits and properties of a target. The default has no limit and writes each call as a whole.
#[derive(Clone, Debug, PartialEq)]
pub struct Capabilities {
    /// Documents in one call at most, deleted ones included.
    pub max_documents: u64,
    /// Rows in one call at most.
    pub max_rows: u64,
    /// Bytes of rows in one call at most, as they lie in memory.
    pub max_bytes: u64,
    /// Whether all writes of a call become visible in one step. Otherwise each document version does.
    pub atomic: bool,
}

/// What a limit counts.
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
    /// Returns how much of `what` one call may hold.
    pub fn limit(&self, what: Limit) -> u64 {
        match what {
            Limit::Documents => self.max_documents,
            Limit::Rows => self.max_rows,
            Limit::Bytes => self.max_bytes,
        }
    }

    /// Checks an amount against a limit; `what` names it in the error.
    pub(crate) fn admit(&self, what: &'static str, limited: Limit, found: u64) -> Result<(), WriteError> {
        let limit = self.limit(limited);
        if found > limit { Err(WriteError::TooLarge { what, limited, found, limit }) } else { Ok(()) }
    }
}
