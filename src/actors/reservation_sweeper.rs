//! Marks the reservations of dead processes as in doubt, at regular intervals.

use std::sync::Arc;
use std::time::Duration;

use docweir_stores::ledger::Ledger;

/// Sweeps a ledger that several processes share.
pub struct ReservationSweeper {
    pub ledger: Arc<dyn Ledger>,
    pub run: String,
    pub interval: Duration,
}

impl ReservationSweeper {
    /// Runs until the future is dropped. A failed sweep is retried at the next interval, because no other work
    /// depends on it.
    pub async fn run(&self) {
        loop {
            tokio::time::sleep(self.interval).await;
            match self.ledger.doubt_others(&self.run).await {
                Ok(0) => {}
                Ok(calls) => tracing::warn!(calls, "another process died during paid calls; the charges are in doubt"),
                Err(error) => tracing::warn!(%error, "reservations not swept; retrying at the next interval"),
            }
        }
    }
}
