//! Decides whether failed calls are the fault of the endpoint or of a text.
//!
//! A call that fails, or whose answer cannot be read, normally shows an outage, which is no text's fault. But a text may also make the server fail each time.
//! After several failures in a row, a request is therefore sent only after the endpoint has answered a call with another
//! text. If the request fails then, it is charged with the failure.

use std::collections::HashMap;
use std::sync::{Mutex, MutexGuard, PoisonError};

use docweir_core::documents::Sha256Hex;

/// Number of consecutive failures after which a request is suspicious.
const SUSPICIOUS: u32 = 4;
/// Maximum number of requests that are remembered.
const MOST: usize = 10_000;

/// Counts the consecutive failures of each request. A request is identified by its first text.
#[derive(Default)]
pub struct Blame(Mutex<HashMap<Sha256Hex, u32>>);

impl Blame {
    /// Returns whether the request with this first text has failed so often that the endpoint should be tried with another
    /// text first.
    pub fn is_suspicious(&self, text: &str) -> bool {
        let failures = self.lock();
        !failures.is_empty() && failures.get(&Sha256Hex::of(text.as_bytes())).is_some_and(|n| *n >= SUSPICIOUS)
    }

    /// Records a failed request.
    pub fn failed(&self, text: &str) {
        let mut failures = self.lock();
        let key = Sha256Hex::of(text.as_bytes());
        if failures.len() >= MOST && !failures.contains_key(&key) {
            failures.clear();
        }
        let failures = failures.entry(key).or_default();
        *failures = failures.saturating_add(1);
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
        let after = |failures| {
            (0..failures).for_each(|_| blame.failed("a"));
            blame.is_suspicious("a")
        };
        assert!(!after(3));
        blame.answered("a");
        assert!(!after(3) && after(1) && after(1) && !blame.is_suspicious("b"));
        blame.accuse("c");
        assert!(blame.is_suspicious("c"));
        for n in 0..MOST {
            blame.failed(&n.to_string());
        }
        assert!(blame.lock().len() <= MOST);
    }
}
