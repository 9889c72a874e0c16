//! Claims the work that users asked for: deletions, retries and replays. It passes the documents that wait in turn.

use std::sync::atomic::Ordering;
use std::time::Duration;

use docweir_core::error::StageError;
use docweir_stores::control::ClaimFilter;
use tokio::sync::watch;

use super::{Claimed, Dispatcher};

/// Interval at which work that a user asked for is looked for, if only this process uses the state.
const COMMANDS: Duration = Duration::from_millis(250);
/// The same interval for shared state, where each look costs money.
const SHARED_COMMANDS: Duration = Duration::from_secs(1);
/// Maximum number of such documents that are claimed at a time.
const COMMANDS_AT_ONCE: usize = 16;

impl Dispatcher {
    /// Claims the documents that a user asked to process, and submits them. The documents that were claimed in turn do not
    /// delay them. Returns after the end of the run, and never drops a claim that is under way.
    pub(super) async fn claim_commands(&self, mut ended: watch::Receiver<bool>) -> Result<(), StageError> {
        let interval = if self.is_shared { SHARED_COMMANDS } else { COMMANDS };
        loop {
            self.dispatch_all(&self.commands).await?;
            tokio::select! {
                () = tokio::time::sleep(interval) => {}
                _ = ended.wait_for(|ended| *ended) => return Ok(()),
            }
            let room = COMMANDS_AT_ONCE.saturating_sub(self.commands.borrow().len());
            if room == 0 || self.stop.load(Ordering::Acquire) {
                continue;
            }
            // Beside a document that may end the process, only deletions are safe.
            let filter = if self.is_alone.get() { ClaimFilter::Deletions } else { ClaimFilter::Commands };
            self.claims_commands.set(true);
            let claims = self.context.control.claim(&self.owner, self.lease, room, Some(filter)).await;
            for claim in claims.iter().flatten() {
                self.begin(claim);
            }
            self.claims_commands.set(false);
            // The other loop waits for the end of this claim if there is nothing else to do.
            if self.is_alone.get() || self.is_over() {
                self.wake.notify_one();
            }
            match claims {
                Ok(claims) => {
                    let claimed = claims.into_iter().map(|claim| Claimed { claim, failing_since: None });
                    self.commands.borrow_mut().extend(claimed);
                }
                // The other claims of this process meet the same failure, and decide on it.
                Err(error) => tracing::debug!(%error, "work that users asked for not claimed; retrying"),
            }
        }
    }
}
