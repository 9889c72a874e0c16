//! Elects one process as the leader for batches. The leader holds a lease and renews it.
//!
//! The other processes enqueue items and read results. When the lease expires, one of these other processes becomes
//! the leader. A process that loses the lease stops the batch services immediately. If the process still attempts
//! writes, the lease's epoch fences them. If the process still creates a batch at the provider, the new leader finds
//! this batch by Docweir's id (`super::submitter`).

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use docweir_core::error::{ErrorClass, StageError};
use docweir_objects::lease::{Lease, LeaseError, LeaseRegister};
use docweir_stores::batches::BatchLifecycle;
use tokio::time::Instant;

use super::batch_progress::{BatchProgress, Left};
use super::context::BatchContext;
use super::lease_deadline::LeaseDeadline;
use super::{RecorderConfig, start_batches, start_recorder};
use crate::supervisors::{RestartOptions, RootHandle};

/// Minimum pause before the next attempt to acquire a lease that another process holds.
const LEAST_PAUSE: Duration = Duration::from_millis(100);
/// Maximum pause before the next attempt to acquire a lease that another process holds.
const LONGEST_PAUSE: Duration = Duration::from_secs(5);

/// Runs the batch services while this process holds the lease on batches.
pub struct BatchLeader {
    pub register: LeaseRegister,
    pub holder: String,
    pub lease: Duration,
    pub batches: Arc<dyn BatchLifecycle>,
    pub batch_progress: Arc<BatchProgress>,
    pub lease_deadline: Rc<LeaseDeadline>,
    /// Context of the batch services; `None` if this run sends no batches.
    pub context: Option<Rc<BatchContext>>,
    pub recording: RecorderConfig,
    pub restart: RestartOptions,
    pub root: RootHandle,
}

impl BatchLeader {
    /// Runs until the run stops.
    pub async fn run(&self) -> Result<(), StageError> {
        let pause = (self.lease / 6).clamp(LEAST_PAUSE, LONGEST_PAUSE);
        while !self.batch_progress.is_stopping() {
            let asked = Instant::now();
            match self.register.acquire(&self.holder, self.lease, 0).await {
                Ok(Some(lease)) => self.hold(lease, asked + self.lease).await?,
                Ok(None) => match self.leave_to_others().await {
                    Err(error) if error.class == ErrorClass::System => return Err(error),
                    Err(error) => tracing::warn!(%error, "batches could not be read; retrying"),
                    Ok(()) => {}
                },
                Err(error) => tracing::warn!(%error, "request for the lease on batches failed; retrying"),
            }
            if self.batch_progress.is_stopping() {
                break;
            }
            tokio::select! {
                () = self.batch_progress.record.notified() => {}
                () = tokio::time::sleep(pause) => {}
            }
        }
        Ok(())
    }

    /// Acts as the leader for batches until the run stops or the lease is lost.
    async fn hold(&self, lease: Lease, end: Instant) -> Result<(), StageError> {
        let epoch = lease.record.epoch;
        self.lease_deadline.until(Some(end));
        self.batch_progress.anew();
        tracing::info!(epoch, "became leader for batches");
        let held = tokio::sync::Mutex::new(lease);
        let done = tokio::select! {
            done = self.work(epoch) => done,
            () = self.renewing(&held, end) => {
                tracing::warn!(epoch, "lease on batches lost; another process may become leader");
                Ok(())
            }
        };
        self.lease_deadline.until(None);
        self.batches.take_over(0).await?;
        self.batch_progress.anew();
        // The release fails if the lease has expired or another process holds it.
        if let Err(error) = self.register.release(&held.into_inner()).await {
            tracing::debug!(%error, "lease on batches not released");
        }
        match done {
            Err(error) if error.class != ErrorClass::System => {
                tracing::warn!(%error, "batch services failed; retrying");
                Ok(())
            }
            done => done,
        }
    }

    async fn work(&self, epoch: u64) -> Result<(), StageError> {
        self.batches.take_over(epoch).await?;
        let services = self.context.as_ref().map(|context| start_batches(context.clone(), &self.restart, &self.root));
        let mut recorder = start_recorder(self.recording.clone(), &self.restart, &self.root);
        // The recorder ends when the run stops. Before that, it stores the results of every paid call.
        recorder.ended().await;
        drop(services);
        Ok(())
    }

    /// Renews the lease. Returns when the lease is lost or may expire before the next renewal.
    async fn renewing(&self, held: &tokio::sync::Mutex<Lease>, mut end: Instant) {
        let beat = self.lease / 3;
        loop {
            tokio::time::sleep(beat).await;
            let begun = Instant::now();
            let mut lease = held.lock().await;
            match self.register.renew(&lease, self.lease).await {
                Ok(renewed) => {
                    *lease = renewed;
                    end = begun + self.lease;
                    self.lease_deadline.until(Some(end));
                }
                Err(LeaseError::Lost(_)) => return,
                Err(error) => tracing::warn!(%error, "lease on batches not renewed; retrying"),
            }
            if Instant::now() + beat >= end {
                return;
            }
        }
    }

    /// Reports to the run that another process is the leader. If this run waits for its batches to end, the report
    /// also says whether any batch is open and whether any item waits.
    async fn leave_to_others(&self) -> Result<(), StageError> {
        let (asks, quiet) = (self.batch_progress.asks(), self.batch_progress.is_quiet());
        let left = match &self.context {
            Some(context) if self.batch_progress.waits() => {
                Left { batches: !context.open().await?.is_empty(), items: !context.waiting().await?.is_empty() }
            }
            _ => Left::default(),
        };
        self.batch_progress.led_elsewhere(asks, quiet, left);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_tenure_has_the_time_that_is_left_of_it() {
        let lease_deadline = LeaseDeadline::default();
        assert!(!lease_deadline.has(Duration::ZERO));
        lease_deadline.until(Some(Instant::now() + Duration::from_secs(10)));
        assert!(lease_deadline.has(Duration::from_secs(9)) && !lease_deadline.has(Duration::from_secs(10)));
        tokio::time::advance(Duration::from_secs(5)).await;
        assert!(!lease_deadline.has(Duration::from_secs(6)));
    }
}
