//! Defines the messages that the lock, the compactor and the requesters of merges exchange.

use std::time::Duration;

use docweir_core::cancel::Cancel;
use docweir_core::error::StageError;
use docweir_index::compaction::{Mode, Report};
use tokio::sync::oneshot;
use tokio::time::timeout;

/// Asks the lock for the lease on compaction. The answer is `None` while another process holds the lease.
pub struct Acquire {
    /// Epoch that the manifest contains now. The granted lease gets a higher epoch and therefore takes precedence
    /// over earlier leases.
    pub above: u64,
    pub answer: oneshot::Sender<Result<Option<LeaseGuard>, StageError>>,
}

/// Maximum time to wait until a lease is released.
const GIVE_BACK: Duration = Duration::from_secs(5);

/// Represents the lease on compaction while this process holds it. A separate task renews the lease until the guard
/// is dropped.
pub struct LeaseGuard {
    pub epoch: u64,
    /// Cancel token for the work that is done under the lease. The token is cancelled when the lease is lost.
    pub cancelled: Cancel,
    /// Channel that the renewing task watches. When the guard is dropped, the channel closes and the task releases the
    /// lease.
    pub held: oneshot::Sender<()>,
    /// Channel that the renewing task closes after it has released the lease.
    pub given_back: oneshot::Receiver<()>,
}

impl LeaseGuard {
    /// Releases the lease and waits until it is released. Without this wait, the process may end before the lease is
    /// released. No process can then merge until the lease expires.
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
    /// True if nothing was merged because another process holds the lease.
    pub busy: bool,
    /// Number of discarded merges. A merge is discarded if a concurrent merge has already replaced its input files.
    pub superseded: u64,
}
