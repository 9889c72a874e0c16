//! Tracks the claims that this process holds.

use dashmap::DashMap;
use docweir_core::documents::{DocumentId, Stage};
use docweir_stores::control::{Claim, ClaimKey};
use tokio::sync::watch;
use tracing::Span;

use crate::telemetry::trace;

/// Tracks the claims of this process. The heartbeat renews these claims. A run ends when no claim is left.
pub struct Claims {
    held: DashMap<DocumentId, HeldClaim>,
    count: watch::Sender<usize>,
}

/// Holds a claim, together with the current stage and attempt of the claimed document.
struct HeldClaim {
    key: ClaimKey,
    stage: Stage,
    attempt: u32,
    /// True if the document had children when it was claimed, or if children may have been registered under this
    /// claim.
    children: bool,
}

impl Default for Claims {
    fn default() -> Self {
        Self { held: DashMap::new(), count: watch::Sender::new(0) }
    }
}

impl Claims {
    /// Adds a new claim.
    pub fn begin(&self, claim: &Claim) {
        let (key, children) = (claim.key.clone(), !claim.children.is_empty());
        let held = HeldClaim { key, stage: claim.stage, attempt: claim.attempts + 1, children };
        self.held.insert(claim.key.id.clone(), held);
        self.count.send_replace(self.held.len());
    }

    /// Records that an attempt at a stage begins.
    pub(super) fn comes_to(&self, key: &ClaimKey, stage: Stage, attempt: u32) {
        if let Some(mut held) = self.held.get_mut(&key.id).filter(|held| held.key.epoch == key.epoch) {
            (held.stage, held.attempt) = (stage, attempt);
        }
    }

    /// Records that children of the document may have been registered under this claim.
    pub(super) fn found_children(&self, key: &ClaimKey) {
        if let Some(mut held) = self.held.get_mut(&key.id).filter(|held| held.key.epoch == key.epoch) {
            held.children = true;
        }
    }

    /// Returns whether the control store may list children of the document. Returns `true` if this process does not
    /// hold the claim, because the children are then unknown.
    pub(super) fn may_have_children(&self, key: &ClaimKey) -> bool {
        self.held.get(&key.id).is_none_or(|held| held.key.epoch != key.epoch || held.children)
    }

    /// Returns the span for log lines about a claim.
    pub fn span(&self, key: &ClaimKey) -> Span {
        match self.held.get(&key.id) {
            Some(held) => trace::span(&key.id, key.version, held.stage, held.attempt),
            // The claim has ended, so only the document's version is known.
            None => trace::span_of_version(&key.id, key.version),
        }
    }

    /// Removes a claim that has ended. A newer claim on the same document is not removed.
    pub fn end(&self, key: &ClaimKey) {
        self.held.remove_if(&key.id, |_, held| held.key.epoch == key.epoch);
        self.count.send_replace(self.held.len());
    }

    /// Returns a channel that receives the number of held claims whenever it changes.
    pub fn watch(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    /// Returns the keys of all held claims.
    pub fn keys(&self) -> Vec<ClaimKey> {
        self.held.iter().map(|entry| entry.value().key.clone()).collect()
    }

    /// Returns whether this is the newest claim of this process on the document.
    pub fn is_current(&self, key: &ClaimKey) -> bool {
        self.held.get(&key.id).is_some_and(|held| held.key.epoch == key.epoch)
    }

    /// Returns the number of held claims.
    pub fn len(&self) -> usize {
        self.held.len()
    }

    /// Returns whether this process holds a claim on the document.
    pub fn holds(&self, id: &DocumentId) -> bool {
        self.held.contains_key(id)
    }

    /// Returns whether this process holds no claim.
    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}
