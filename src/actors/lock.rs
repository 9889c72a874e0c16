//! Holds the lease on the compaction of a collection.
//!
//! The lease only prevents duplicate work. The data is safe without it, because the manifest's rules protect the
//! data. The lock can therefore be simple. A caller requests the lease, is notified when the lease is lost, and
//! releases the lease by dropping the guard. The lease is renewed by a separate task, and never by the task that does
//! the work.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use docweir_core::cancel::Cancel;
use docweir_core::error::StageError;
use docweir_index::compaction::CompactionOptions;
use docweir_objects::lease::{Lease, LeaseError, LeaseRegister};
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::messages::compaction::{Acquire, LeaseGuard};
use crate::supervisors::service::Inbox;

/// Grants the lease to one caller at a time.
pub struct Lock {
    pub register: Arc<LeaseRegister>,
    pub holder: String,
    pub options: CompactionOptions,
}

impl Lock {
    /// Answers requests for the lease until every sender is dropped.
    pub async fn run(&self, inbox: &Rc<Inbox<Acquire>>) {
        while let Some(Acquire { above, answer }) = inbox.receive().await {
            let ttl = Duration::from_secs(self.options.lease_seconds);
            let taken = self.register.acquire(&self.holder, ttl, above).await;
            let taken = taken.map(|lease| lease.map(|lease| self.guard(lease))).map_err(|e| failed(&e));
            // If the caller no longer waits, the guard is dropped, which releases the lease.
            let _ = answer.send(taken);
        }
    }

    fn guard(&self, lease: Lease) -> LeaseGuard {
        let (held, dropped) = oneshot::channel();
        let (done, given_back) = oneshot::channel();
        let cancelled = Cancel::default();
        let guard = LeaseGuard { epoch: lease.record.epoch, cancelled: cancelled.clone(), held, given_back };
        let keep = keep(self.register.clone(), lease, self.options.clone(), cancelled, dropped);
        tokio::task::spawn_local(async move {
            keep.await;
            drop(done);
        });
        guard
    }
}

/// Renews the lease until its guard is dropped, and then releases the lease. If the lease is lost, cancels the
/// guard's token.
async fn keep(
    register: Arc<LeaseRegister>,
    mut lease: Lease,
    options: CompactionOptions,
    cancelled: Cancel,
    mut dropped: oneshot::Receiver<()>,
) {
    let (ttl, beat) = (Duration::from_secs(options.lease_seconds), Duration::from_secs(options.heartbeat_seconds));
    let mut valid_from = Instant::now();
    let mut failures = 0;
    loop {
        tokio::select! {
            _ = &mut dropped => {
                // If the release fails, the lease expires after some time.
                let _ = register.release(&lease).await;
                return;
            }
            () = tokio::time::sleep(beat) => {}
        }
        let begun = Instant::now();
        match register.renew(&lease, ttl).await {
            Ok(renewed) => (lease, valid_from, failures) = (renewed, begun, 0),
            Err(error) => {
                failures += 1;
                let lost = matches!(error, LeaseError::Lost(_));
                // The next renewal might come too late. The time counts from the start of the last successful
                // renewal.
                let over = begun - valid_from + beat >= ttl;
                tracing::warn!(%error, epoch = lease.record.epoch, failures, "compaction lease not renewed");
                if lost || over || failures >= options.heartbeat_failures {
                    cancelled.cancel();
                    return;
                }
            }
        }
    }
}

fn failed(error: &LeaseError) -> StageError {
    StageError::transient("lease", error.to_string())
}

#[cfg(test)]
#[path = "lock_tests.rs"]
mod tests;
