//! What passes between the lock, the compactor and whoever wants files merged.

use std::time::Duration;

use docweir_core::cancel::Cancel;
use docweir_core::error::StageError;
use docweir_index::compaction::{Mode, Report};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Asks the lock for the lease. The answer is `None` while somebody else has it.
pub struct Acquire {
    /// The epoch has to be above this one: the manifest's.
    pub above: u64,
    pub answer: oneshot::Sender<Result<Option<LeaseGuard>, StageError>>,
}

/// Longest wait for a lease to be given back.
const GIVE_BACK: Duration = Duration::from_secs(5);

/// Holds the lease until it is given back or dropped. Signs of life are given meanwhile by a task of its own.
pub struct LeaseGuard {
    pub epoch: u64,
    /// Cancelled when the lease is lost.
    pub cancelled: Cancel,
    /// Closed by the drop: the task gives the lease back.
    pub held: oneshot::Sender<()>,
    /// Closed by the task once it has given the lease back.
    pub given_back: oneshot::Receiver<()>,
}

impl LeaseGuard {
    /// Gives the lease back and waits until that is done. A process that ends after a mere drop may leave its lease
    /// behind, and nobody merges until it runs out.
    pub async fn give_back(self) {
        drop(self.held);
        let _ = timeout(GIVE_BACK, self.given_back).await;
    }
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
