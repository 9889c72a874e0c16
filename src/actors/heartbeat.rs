//! Renews the claims that this process holds. A separate task does this, because a busy actor could renew the claims
//! too late.
//!
//! If the store refuses a renewal, another process owns the document now. The store then also refuses the next write
//! of this process for that document. If no renewal succeeds for almost the length of a lease, this process can no
//! longer rely on any of its claims, and ends. The documents are then taken over by other processes, or resumed by
//! the next run.

use std::sync::Arc;
use std::time::Duration;

use docweir_core::error::StageError;
use tokio::time::Instant;

use crate::actors::outcomes::{StageContext, control};

/// Renews the claims of a process at a fixed interval.
pub struct Heartbeat {
    pub context: Arc<StageContext>,
    pub lease: Duration,
    pub interval: Duration,
}

impl Heartbeat {
    pub async fn run(&self) -> Result<(), StageError> {
        let mut valid_from = Instant::now();
        loop {
            tokio::time::sleep(self.interval).await;
            let keys = self.context.claims.keys();
            let begun = Instant::now();
            match self.context.control.renew(&keys, self.lease).await {
                Ok(lost) => {
                    valid_from = begun;
                    for key in lost {
                        let span = self.context.claims.span(&key);
                        span.in_scope(|| tracing::warn!(epoch = key.epoch, "claim taken over by another process"));
                    }
                }
                Err(error) => {
                    let error = control(error);
                    tracing::warn!(%error, "claims not renewed; retrying");
                    if expired(begun - valid_from, self.lease, self.interval) {
                        return Err(error);
                    }
                }
            }
        }
    }
}

/// Returns whether the leases may expire before the next renewal. `since_valid` is the time that has passed since the
/// last successful renewal was started.
fn expired(since_valid: Duration, lease: Duration, interval: Duration) -> bool {
    since_valid + interval >= lease
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn gives_up_before_the_lease_can_end() {
        let seconds = Duration::from_secs;
        for (since, gone) in [(60, false), (180, false), (239, false), (240, true), (400, true)] {
            assert_eq!(expired(seconds(since), seconds(300), seconds(60)), gone, "{since}");
        }
    }
}
