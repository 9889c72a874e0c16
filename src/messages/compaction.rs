//! What passes between the lock, the compactor and whoever wants files merged.

use tokio::sync::oneshot;

use docweir_core::cancel::Cancel;
use docweir_core::error::StageError;
use docweir_index::compaction::{Mode, Report};

/// Asks the lock for the lease. The answer is `None` while somebody else has it.
pub struct Acquire {
    /// The epoch has to be above this one: the manifest's.
    pub above: u64,
    pub answer: oneshot::Sender<Result<Option<LeaseGuard>, StageError>>,
}

/// The lease, held until this is dropped. Signs of life are given meanwhile by a task of its own.
pub struct LeaseGuard {
    pub epoch: u64,
    /// Cancelled when the lease is lost.
    pub cancelled: Cancel,
    /// Closed by the drop: the task gives the lease back.
    pub held: oneshot::Sender<()>,
}

/// Asks for files to be merged now.
pub struct Compact {
    pub mode: Mode,
    pub answer: oneshot::Sender<Result<Compacted, StageError>>,
}

/// What became of a request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Compacted {
    /// One for each merge that was installed.
    pub merges: Vec<Report>,
    /// Somebody else is at it.
    pub busy: bool,
    /// Merges that somebody else made superfluous.
    pub superseded: u64,
}
