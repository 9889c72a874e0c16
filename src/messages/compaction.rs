//! Defines the messages between the lock, the compactor, and the callers that request a merge.

use std::time::Duration;

use docweir_core::cancel::Cancel;
use docweir_core::error::StageError;
use docweir_index::compaction::{Mode, Report};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Requests the lease from the lock. The answer is `None` while another process holds the lease.
pub struct Acquire {
    /// Lower bound for the lease's epoch: the epoch in the manifest. The granted epoch is higher.
    pub above: u64,
    pub answer: oneshot::Sender<Result<Option<LeaseGuard>, StageError>>,
}

/// Longest wait for a lease to be released.
const GIVE_BACK: Duration = Duration::from_secs(5);

/// Holds the lease until it is released or dropped. A separate task renews the lease meanwhile.
pub struct LeaseGuard {
    pub epoch: u64,
    /// Cancelled when the lease is lost.
    pub cancelled: Cancel,
    /// Closed when the guard is dropped; the task then releases the lease.
    pub held: oneshot::Sender<()>,
    /// Closed by the task after it has released the lease.
    pub given_back: oneshot::Receiver<()>,
}

impl LeaseGuard {
    /// Releases the lease and waits until the release is done. If the guard is only dropped and the process ends, the
    /// lease may remain. No process can then merge until the lease expires.
    pub async fn give_back(self) {
        drop(self.held);
        let _ = timeout(GIVE_BACK, self.given_back).await;
    }
}

/// Requests an immediate merge.
pub struct Compact {
    pub mode: Mode,
    pub answer: oneshot::Sender<Result<Compacted, StageError>>,
}

/// Describes the result of a merge request.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Compacted {
    /// Reports of the installed merges, in order.
    pub merges: Vec<Report>,
    /// True if another process holds the lease.
    pub busy: bool,
    /// Number of merges that a concurrent merge made superfluous.
    pub superseded: u64,
}
