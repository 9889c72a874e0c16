//! Texts that are being embedded at this moment, so that two documents with the same text at the same time pay for it
//! once. Within one process; what was embedded before is in the cache.

use std::sync::Arc;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use tokio::sync::watch;

use crate::documents::Sha256Hex;
use crate::error::StageError;
use crate::stages::Cancel;

/// Shared by all workers of a model.
#[derive(Clone, Debug, Default)]
pub struct InFlight(Arc<DashMap<Sha256Hex, watch::Receiver<Option<Vec<f32>>>>>);

/// Whose a text is.
pub enum Claimed {
    /// The caller's, until this is dropped.
    Mine(Mine),
    Elsewhere(Elsewhere),
}

/// The right to embed a text. Dropped with its holder, whatever becomes of it.
pub struct Mine {
    texts: InFlight,
    key: Sha256Hex,
    made: watch::Sender<Option<Vec<f32>>>,
}

/// Somebody else is embedding the text.
pub struct Elsewhere(watch::Receiver<Option<Vec<f32>>>);

impl InFlight {
    pub fn claim(&self, key: &Sha256Hex) -> Claimed {
        match self.0.entry(key.clone()) {
            Entry::Occupied(entry) => Claimed::Elsewhere(Elsewhere(entry.get().clone())),
            Entry::Vacant(entry) => {
                let (made, waiting) = watch::channel(None);
                entry.insert(waiting);
                Claimed::Mine(Mine { texts: self.clone(), key: key.clone(), made })
            }
        }
    }
}

impl Mine {
    /// Hands the vector to whoever waits for it, and ends the claim.
    pub fn made(self, vector: &[f32]) {
        self.made.send_replace(Some(vector.to_vec()));
    }
}

impl Drop for Mine {
    fn drop(&mut self) {
        // Before those who wait are woken, which is when the sender drops: they look for the text again.
        self.texts.0.remove(&self.key);
    }
}

impl Elsewhere {
    /// Returns when the other has ended: with its vector, or without if it failed.
    pub async fn wait(mut self, cancel: &Cancel) -> Result<Option<Vec<f32>>, StageError> {
        // The sender sends at most once, and drops.
        let ended = async { while self.0.changed().await.is_ok() {} };
        tokio::select! {
            biased;
            () = ended => Ok(self.0.borrow().clone()),
            error = cancel.cancelled() => Err(error),
        }
    }
}
