//! Decides whether failed calls are the fault of the endpoint or of a text.
//!
//! A failed call normally shows an outage, which is no text's fault. But a text may also make the server fail each time. A
//! request that has failed several times in a row, while the endpoint answers other calls, is therefore charged with the
//! failure.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use docweir_core::documents::Sha256Hex;

/// Number of consecutive failures of one request, from which on the endpoint is tried with another text.
const SUSPICIOUS: u32 = 8;
/// Maximum number of requests that are remembered.
const MOST: usize = 10_000;

/// Counts the consecutive failures of each request. A request is identified by its first text.
#[derive(Default)]
pub struct Blame(Mutex<HashMap<Sha256Hex, u32>>);

impl Blame {
    /// Records a failed request. Returns whether it has failed so often that the endpoint should be tried with another
    /// text.
    pub fn failed(&self, text: &str) -> bool {
        let mut failures = self.lock();
        let key = Sha256Hex::of(text.as_bytes());
        if failures.len() >= MOST && !failures.contains_key(&key) {
            failures.clear();
        }
        let failures = failures.entry(key).or_default();
        *failures = failures.saturating_add(1);
        *failures >= SUSPICIOUS
    }

    /// Records that a text makes the server fail. Its next failure is suspicious at once.
    pub fn accuse(&self, text: &str) {
        self.lock().insert(Sha256Hex::of(text.as_bytes()), SUSPICIOUS);
    }

    /// Records a request that was answered.
    pub fn answered(&self, text: &str) {
        let mut failures = self.lock();
        if !failures.is_empty() {
            failures.remove(&Sha256Hex::of(text.as_bytes()));
        }
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<Sha256Hex, u32>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_failures_in_a_row_make_a_request_suspicious() {
        let blame = Blame::default();
        let failed = |times| (0..times).map(|_| blame.failed("a")).collect::<Vec<_>>();
        assert!(!failed(7).contains(&true));
        blame.answered("a");
        assert!(!failed(7).contains(&true));
        assert!(!blame.failed("b"));
        assert_eq!(failed(2), [true, true]);
        blame.accuse("c");
        assert!(blame.failed("c"));
        for n in 0..MOST {
            blame.failed(&n.to_string());
        }
        assert!(blame.lock().len() <= MOST);
    }
}
