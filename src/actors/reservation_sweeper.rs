//! Looks for money that others have set aside and will not settle, from time to time.

use std::sync::Arc;
use std::time::Duration;

use docweir_stores::ledger::Ledger;

pub struct ReservationSweeper {
    pub ledger: Arc<dyn Ledger>,
    pub run: String,
    pub interval: Duration,
}

impl ReservationSweeper {
    /// Goes on for ever. What fails is tried again at the next round: nothing waits for it.
    pub async fn run(&self) {
        loop {
            tokio::time::sleep(self.interval).await;
            match self.ledger.doubt_others(&self.run).await {
                Ok(0) => {}
                Ok(calls) => tracing::warn!(
                    calls,
                    "a process ended while calls were under way: nobody knows whether they were charged"
                ),
                Err(error) => tracing::warn!(%error, "can't look for what others left in the ledger"),
            }
        }
    }
}
