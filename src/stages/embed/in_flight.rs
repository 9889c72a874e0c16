//! Texts that are being embedded at this moment, so that two documents with the same text at the same time pay for it
//! once. Within one process; what was embedded before is in the cache.

use std::sync::Arc;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use tokio::sync::watch;

use crate::documents::Sha256Hex;

/// Shared by all workers of a model.
#[derive(Clone, Debug, Default)]
pub struct InFlight(Arc<DashMap<Sha256Hex, watch::Receiver<()>>>);

/// Whose a text is.
pub enum Claimed {
    /// The caller's, until this is dropped.
    Mine(Mine),
    Elsewhere(Ended),
}

/// The right to embed a text. Dropped with its holder, whatever becomes of it.
pub struct Mine {
    texts: InFlight,
    key: Sha256Hex,
    _told: watch::Sender<()>,
}

/// Somebody else is embedding the text.
pub struct Ended(watch::Receiver<()>);

impl InFlight {
    pub fn claim(&self, key: &Sha256Hex) -> Claimed {
        match self.0.entry(key.clone()) {
            Entry::Occupied(entry) => Claimed::Elsewhere(Ended(entry.get().clone())),
            Entry::Vacant(entry) => {
                let (told, waiting) = watch::channel(());
                entry.insert(waiting);
                Claimed::Mine(Mine { texts: self.clone(), key: key.clone(), _told: told })
            }
        }
    }
}

impl Drop for Mine {
    fn drop(&mut self) {
        // Before those who wait are woken, which is when the sender drops: they look for the text again.
        self.texts.0.remove(&self.key);
    }
}

impl Ended {
    /// Returns when the other has ended, with a vector in the cache or without.
    pub async fn wait(mut self) {
        while self.0.changed().await.is_ok() {}
    }
}
