//! Provides functions for code that changes the manifest. The functions create unique names, wait between attempts,
//! and detect transient failures.

use std::time::Duration;

use docweir_core::backoff::Backoff;
use docweir_objects::ObjectError;
use ulid::Ulid;

use super::VectorStore;

pub(super) fn passing(error: &ObjectError) -> bool {
    matches!(error, ObjectError::Transient { .. } | ObjectError::Unknown { .. } | ObjectError::Conflict(_))
}

/// Creates a ULID from the time of the store's clock and the caller's random generator. A run with the same seed
/// therefore creates the same names.
pub(super) fn ulid(store: &VectorStore, random: &mut fastrand::Rng) -> String {
    let ms = u64::try_from(store.clock.now().div_euclid(1000)).unwrap_or_default();
    Ulid::from_parts(ms, random.u128(..)).to_string()
}

/// Runs `work` on a thread that may block. Without a runtime (as in a simulation), runs `work` on the calling thread.
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => match runtime.spawn_blocking(work).await {
            Ok(done) => done,
            Err(e) => std::panic::resume_unwind(e.into_panic()),
        },
        Err(_) => work(),
    }
}

/// Counts the retries of one change and waits before each retry. Each wait is random, between zero and an upper limit
/// ("full jitter"). Two writers that have collided therefore hardly ever collide again.
pub(super) struct Retries {
    backoff: Backoff,
    waits: u32,
    left: u32,
}

impl Retries {
    pub fn new(store: &VectorStore) -> Self {
        let initial = Duration::from_millis(store.options.backoff_initial_milliseconds);
        let cap = Duration::from_millis(store.options.backoff_max_milliseconds);
        Self {
            backoff: Backoff::doubling(initial, cap).with_jitter(0.0, 1.0),
            waits: 0,
            left: store.options.commit_attempts,
        }
    }

    /// Returns whether a failed read or write may be retried, and counts the retry. Each change may retry reads and
    /// writes `commit_attempts` times, in addition to its attempts to swap the manifest.
    pub fn may_retry(&mut self) -> bool {
        let may = self.left > 0;
        self.left = self.left.saturating_sub(1);
        may
    }

    pub async fn wait(&mut self, store: &VectorStore, random: &mut fastrand::Rng) {
        store.clock.sleep(self.backoff.wait(self.waits, random.f64())).await;
        self.waits = self.waits.saturating_add(1);
    }
}
