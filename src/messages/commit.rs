//! Defines the request to the committer to make documents visible.

use tokio::sync::oneshot;

use docweir_core::error::StageError;
use docweir_stores::control::ClaimKey;
use docweir_target::Write;

/// Carries the write of one document (rows or a tombstone) to the committer. The next commit makes the whole write
/// visible. The committer answers only after this commit has replaced the manifest.
pub struct Commit {
    pub write: Write,
    /// Claim that permits the write. The committer checks the claim again before the commit.
    pub claim: ClaimKey,
    /// Memory of the write, in bytes. The write counts with this size towards the commit's byte limit.
    pub bytes: usize,
    pub answer: oneshot::Sender<Result<Committed, StageError>>,
}

/// Confirms a commit to the worker that requested it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Committed {
    /// First version of the target that shows the write; for the index, the version of the manifest. `None` if the
    /// target does not number its versions.
    pub manifest_version: Option<u64>,
}
