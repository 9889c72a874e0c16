//! Remembers documents that became pending recently, because an index may not contain them yet.

use std::collections::HashMap;
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

use tokio::time::Instant;

use docweir_core::documents::DocumentId;

/// Assumed maximum lag of an index, with a margin. The lag is usually about one second, but DynamoDB guarantees no
/// limit.
const LAG: Duration = Duration::from_secs(30);

/// Holds the documents that became pending recently, each with the time at which the document became pending.
#[derive(Default)]
pub struct Recent(Mutex<HashMap<DocumentId, (Instant, String)>>);

impl Recent {
    pub fn note(&self, id: &DocumentId, pending_since: Option<&str>) {
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        match pending_since {
            Some(since) => drop(recent.insert(id.clone(), (Instant::now(), since.to_owned()))),
            None => drop(recent.remove(id)),
        }
    }

    pub fn list(&self) -> Vec<(String, DocumentId)> {
        let mut recent = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        recent.retain(|_, (at, _)| at.elapsed() < LAG);
        recent.iter().map(|(id, (_, since))| (since.clone(), id.clone())).collect()
    }
}
