//! What every change of the manifest needs: names, waits, and which failures pass by themselves.

use std::time::Duration;

use docweir_objects::ObjectError;
use ulid::Ulid;

use super::VectorStore;

pub(super) fn passing(error: &ObjectError) -> bool {
    matches!(error, ObjectError::Transient { .. } | ObjectError::Unknown { .. } | ObjectError::Conflict(_))
}

/// From the store's clock and the caller's own random numbers, so that a seeded run mints the same names.
pub(super) fn ulid(store: &VectorStore, random: &mut fastrand::Rng) -> String {
    let ms = u64::try_from(store.clock.now().div_euclid(1000)).unwrap_or_default();
    Ulid::from_parts(ms, random.u128(..)).to_string()
}

/// Runs `work` on a thread that may block; on this one where no runtime has such threads (a simulation).
pub(super) async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> T {
    match tokio::runtime::Handle::try_current() {
        Ok(runtime) => match runtime.spawn_blocking(work).await {
            Ok(done) => done,
            Err(e) => std::panic::resume_unwind(e.into_panic()),
        },
        Err(_) => work(),
    }
}

/// Waits that double, each a random part of its limit ("full jitter"): writers that collide once don't collide again.
pub(super) struct Backoff {
    limit: Duration,
    most: Duration,
    retries_left: u32,
}

impl Backoff {
    pub fn new(store: &VectorStore) -> Self {
        Self {
            limit: Duration::from_millis(store.options.backoff_initial_milliseconds),
            most: Duration::from_millis(store.options.backoff_max_milliseconds),
            retries_left: store.options.commit_attempts,
        }
    }

    /// Spends one of the retries of plain reads and writes, which a change has as many of as tries at the manifest.
    pub fn may_retry(&mut self) -> bool {
        let may = self.retries_left > 0;
        self.retries_left = self.retries_left.saturating_sub(1);
        may
    }

    pub async fn wait(&mut self, store: &VectorStore, random: &mut fastrand::Rng) {
        store.clock.sleep(self.limit.min(self.most).mul_f64(random.f64())).await;
        self.limit = (self.limit * 2).min(self.most);
    }
}
