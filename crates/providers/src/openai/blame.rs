//! Decides whether failed calls are the fault of the endpoint or of the texts.
//!
//! A failed call normally shows an outage, which is no document's fault. But a text may also make the server fail each
//! time. A document whose calls have failed several times in a row, while the endpoint answers other calls, is therefore
//! charged with the failure.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Number of consecutive failures of one document, from which on the endpoint is tried with another text.
const SUSPICIOUS: u32 = 8;
/// Maximum number of documents that are remembered.
const MOST: usize = 10_000;

/// Counts the consecutive failures of each document.
#[derive(Default)]
pub struct Blame(Mutex<HashMap<String, u32>>);

impl Blame {
    /// Records a failed call. Returns whether the document has failed so often that the endpoint should be tried with
    /// another text.
    pub fn failed(&self, document: &str) -> bool {
        let mut failures = self.lock();
        if failures.len() >= MOST && !failures.contains_key(document) {
            failures.clear();
        }
        let failures = failures.entry(document.to_owned()).or_default();
        *failures = failures.saturating_add(1);
        *failures >= SUSPICIOUS
    }

    /// Records a call that was answered.
    pub fn answered(&self, document: &str) {
        self.lock().remove(document);
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_failures_in_a_row_make_a_document_suspicious() {
        let blame = Blame::default();
        let failed = |times| (0..times).map(|_| blame.failed("a")).collect::<Vec<_>>();
        assert!(!failed(7).contains(&true));
        blame.answered("a");
        assert!(!failed(7).contains(&true));
        assert!(!blame.failed("b"));
        assert_eq!(failed(2), [true, true]);
        for n in 0..MOST {
            blame.failed(&n.to_string());
        }
        assert!(blame.lock().len() <= MOST);
    }
}
