//! Defines the request to the committer to make documents visible.

use tokio::sync::oneshot;

use docweir_core::error::StageError;
use docweir_stores::control::ClaimKey;
use docweir_target::Write;

/// Carries one document's rows or tombstone, which the next commit makes visible as a whole. The answer is sent after
/// the manifest swap, never before.
pub struct Commit {
    pub write: Write,
    /// Claim that permits the write. The committer checks it again before the commit.
    pub claim: ClaimKey,
    /// Memory of the write, in bytes. Counts towards the commit's byte limit.
    pub bytes: usize,
    pub answer: oneshot::Sender<Result<Committed, StageError>>,
}

/// Confirms a commit to the worker that requested it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Version of the target that first shows the write (for the index, the manifest's version). `None` if the target
    /// does not number its versions.
    pub manifest_version: Option<u64>,
}
