//! Renews the claims that this process holds. A separate task does this, because a busy actor could renew the claims
//! too late.
//!
//! If the store refuses a renewal, a command or another process has ended the claim. The store then also refuses the
//! next write of this process for that document, and the running attempt is cancelled. If no renewal succeeds for the length of a lease, other processes may take over
//! the documents. The work goes on nevertheless: each write states the epoch of its claim, so the store refuses the
//! writes of a process that has lost a document.

use std::sync::Arc;
use std::time::Duration;

use docweir_core::error::{ErrorClass, StageError};
use docweir_stores::control::ControlError;
use tokio::time::Instant;

use crate::actors::outages::CLAIMS;
use crate::actors::outcomes::{StageContext, control};
use crate::supervisors::{InFlightTable, cancel_job};

/// Renews the claims of a process at a fixed interval. A renewal that failed is repeated soon.
pub struct Heartbeat {
    pub context: Arc<StageContext>,
    pub lease: Duration,
    pub interval: Duration,
    /// Table of the jobs that are in the pools of this process.
    pub in_flight: Arc<InFlightTable>,
}

impl Heartbeat {
    pub async fn run(&self) -> Result<(), StageError> {
        let mut wait = self.interval;
        let mut failing_since: Option<Instant> = None;
        loop {
            tokio::time::sleep(wait).await;
            let (keys, began) = (self.context.claims.keys(), Instant::now());
            let renewing = tokio::time::timeout(self.deadline(), self.context.control.renew(&keys, self.lease));
            match renewing.await.unwrap_or_else(|_| Err(ControlError::Busy("no answer to the renewal".to_owned()))) {
                Ok(lost) => {
                    (wait, failing_since) = (self.interval, None);
                    // Without claims, the store was not called.
                    if !keys.is_empty() {
                        self.context.outages.works(CLAIMS, began);
                    }
                    for key in lost {
                        let span = self.context.claims.span(&key);
                        span.in_scope(|| {
                            tracing::warn!(epoch = key.epoch, "claim ended by a command or another process")
                        });
                        if self.context.claims.is_current(&key) {
                            cancel_job(&self.in_flight, key.id.as_str());
                        }
                    }
                }
                Err(error) => {
                    let error = control(error);
                    tracing::warn!(%error, "claims not renewed; retrying");
                    let since = *failing_since.get_or_insert(began);
                    match error.class {
                        ErrorClass::Unavailable => self.context.outages.report(CLAIMS, &error),
                        // The store is broken. Until the lease ends, it may be repaired.
                        _ if since.elapsed() + self.interval < self.lease => {}
                        _ => return Err(StageError { class: ErrorClass::Unavailable, ..error }),
                    }
                    wait = (self.interval / 10).clamp(Duration::from_millis(100), Duration::from_secs(10));
                }
            }
        }
    }

    /// Returns the time limit of one renewal. A renewal that hangs must not keep the next one from being in time.
    fn deadline(&self) -> Duration {
        self.lease.saturating_sub(self.interval) / 2
    }
}
