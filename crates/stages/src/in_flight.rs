//! Texts that somebody is being paid for at this moment, so that two documents with the same text at the same time pay for
//! it once. Within one process; what was made before is in a cache.

use std::sync::Arc;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use tokio::sync::watch;

use docweir_core::cancel::Cancel;
use docweir_core::documents::Sha256Hex;
use docweir_core::error::StageError;

/// Shared by all workers of a model. What is made of a text is a `T`.
#[derive(Debug)]
pub struct InFlight<T>(Arc<DashMap<Sha256Hex, watch::Receiver<Option<T>>>>);

/// Whose a text is.
pub enum Claimed<T> {
    /// The caller's, until this is dropped.
    Mine(Mine<T>),
    ByAnother(PendingResult<T>),
}

/// The right to have a text done. Dropped with its holder, whatever becomes of it.
pub struct Mine<T> {
    texts: InFlight<T>,
    key: Sha256Hex,
    made: watch::Sender<Option<T>>,
}

/// Somebody else has it done.
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
                Claimed::Mine(Mine { texts: self.clone(), key: key.clone(), made })
            }
        }
    }
}

impl<T> Mine<T> {
    /// Hands it to whoever waits for it, and ends the claim.
    pub fn made(self, it: T) {
        self.made.send_replace(Some(it));
    }
}

impl<T> Drop for Mine<T> {
    fn drop(&mut self) {
        // Before those who wait are woken, which is when the sender drops: they look for the text again.
        self.texts.0.remove(&self.key);
    }
}

impl<T: Clone> PendingResult<T> {
    /// Returns when the other has ended: with what it made, or without if it failed.
    pub async fn wait(mut self, cancel: &Cancel) -> Result<Option<T>, StageError> {
        // The sender sends at most once, and drops.
        let ended = async { while self.0.changed().await.is_ok() {} };
        tokio::select! {
            biased;
            () = ended => Ok(self.0.borrow().clone()),
            error = cancel.cancelled() => Err(error),
        }
    }
}
