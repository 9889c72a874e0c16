//! Tracks texts whose paid results are being computed, so that two documents with the same text pay for one result
//! only.
//!
//! The tracking is limited to one process. Results that were computed earlier are in a cache.

use std::sync::Arc;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use tokio::sync::watch;

use docweir_core::cancel::Cancel;
use docweir_core::documents::Sha256Hex;
use docweir_core::error::StageError;

/// Tracks the texts whose result `T` is being computed. All workers of a model share one instance.
#[derive(Debug)]
pub struct InFlight<T>(Arc<DashMap<Sha256Hex, watch::Receiver<Option<T>>>>);

/// Outcome of claiming a text.
pub enum Claimed<T> {
    /// The caller has claimed the text and must compute the result. Dropping the claim releases the text.
    Own(OwnClaim<T>),
    ByAnother(PendingResult<T>),
}

/// Grants the right to compute the result of one text. Dropping the claim releases the text, whether the result was
/// computed or not.
pub struct OwnClaim<T> {
    texts: InFlight<T>,
    key: Sha256Hex,
    made: watch::Sender<Option<T>>,
}

/// Waits for the result of a text that another caller has claimed.
pub struct PendingResult<T>(watch::Receiver<Option<T>>);

impl<T> Clone for InFlight<T> {
    fn clone(&self) -> Self {
        Self(self.0.clone())
    }
}

impl<T> Default for InFlight<T> {
    fn default() -> Self {
        Self(Arc::default())
    }
}

impl<T: Clone> InFlight<T> {
    pub fn claim(&self, key: &Sha256Hex) -> Claimed<T> {
        match self.0.entry(key.clone()) {
            Entry::Occupied(entry) => Claimed::ByAnother(PendingResult(entry.get().clone())),
            Entry::Vacant(entry) => {
                let (made, waiting) = watch::channel(None);
                entry.insert(waiting);
                Claimed::Own(OwnClaim { texts: self.clone(), key: key.clone(), made })
            }
        }
    }
}

impl<T> OwnClaim<T> {
    /// Passes the result to every waiting caller, and ends the claim.
    pub fn made(self, it: T) {
        self.made.send_replace(Some(it));
    }
}

impl<T> Drop for OwnClaim<T> {
    fn drop(&mut self) {
        // Remove the key before the sender drops and wakes the waiting callers, because they claim the text again.
        self.texts.0.remove(&self.key);
    }
}

impl<T: Clone> PendingResult<T> {
    /// Waits until the other caller's claim has ended. Returns the result, or `None` if the other caller failed.
    pub async fn wait(mut self, cancel: &Cancel) -> Result<Option<T>, StageError> {
        // The sender sends at most one value before it drops.
        let ended = async { while self.0.changed().await.is_ok() {} };
        tokio::select! {
            biased;
            () = ended => Ok(self.0.borrow().clone()),
            error = cancel.cancelled() => Err(error),
        }
    }
}
