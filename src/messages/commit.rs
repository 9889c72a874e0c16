//! Asking the committer to make documents visible.

use tokio::sync::oneshot;

use docweir_core::error::StageError;
use docweir_stores::control::ClaimKey;
use docweir_target::Write;

/// One document's rows or tombstone, to become visible whole in the next commit. The answer comes after the manifest
/// swap, never before.
pub struct Commit {
    pub write: Write,
    /// By which the document may be written; looked at once more before the commit.
    pub claim: ClaimKey,
    /// Memory that the write holds, for the commit's byte limit.
    pub bytes: usize,
    pub answer: oneshot::Sender<Result<Committed, StageError>>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// State of the target that first shows the write (of the index: the manifest's version), where it counts states.
    pub manifest_version: Option<u64>,
}
