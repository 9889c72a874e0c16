//! Gives signs of life for the claims that this process holds, in a task of its own: a busy actor would forget to.
//!
//! A renewal that the store refuses means that somebody else owns the document now; its work here is fenced at its
//! next write. When no renewal succeeds for almost the length of a lease, nothing here may count on its claims any
//! more, and the process ends: others take over, or its own next run does.

use std::sync::Arc;
use std::time::Duration;

use docweir_core::error::StageError;
use tokio::time::Instant;

use crate::actors::outcomes::{StageContext, control};

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
                        span.in_scope(|| tracing::warn!(epoch = key.epoch, "a claim was taken over"));
                    }
                }
                Err(error) => {
                    let error = control(error);
                    tracing::warn!(%error, "can't renew the claims");
                    if expired(begun - valid_from, self.lease, self.interval) {
                        return Err(error);
                    }
                }
            }
        }
    }
}

/// Whether the leases may end before the next renewal: measured from the start of the last one that succeeded.
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
