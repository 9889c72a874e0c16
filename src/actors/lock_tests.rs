//! Tests the lock under a paused clock.

use docweir_core::clock::ManualClock;
use docweir_objects::memory::{Faults, MemoryObjects};

use super::*;
use crate::supervisors::service::start_service;
use crate::supervisors::{RestartOptions, RootHandle};

struct Place {
    objects: Arc<MemoryObjects>,
    clock: Arc<ManualClock>,
}

impl Place {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::at(1_000_000_000));
        Self { objects: Arc::new(MemoryObjects::new(clock.clone())), clock }
    }

    fn register(&self) -> Arc<LeaseRegister> {
        Arc::new(LeaseRegister::new(self.objects.clone(), "vectors/chunks/LEASE".into(), self.clock.clone()))
    }

    fn lock(&self, holder: &str) -> Lock {
        Lock { register: self.register(), holder: holder.into(), options: CompactionOptions::default() }
    }

    /// Advances the manual clock and the clock of tokio.
    async fn pass(&self, seconds: u64) {
        for _ in 0..seconds {
            self.clock.advance(Duration::from_secs(1));
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
    }

    async fn take(&self, lock: &Lock) -> Option<LeaseGuard> {
        let ttl = Duration::from_secs(lock.options.lease_seconds);
        lock.register.acquire(&lock.holder, ttl, 0).await.unwrap().map(|lease| lock.guard(lease))
    }
}

async fn locally<T>(work: impl Future<Output = T>) -> T {
    tokio::task::LocalSet::new().run_until(work).await
}

/// Guards against defect R 4 of the former system: its lock had no heartbeat, so the lease expired during a long
/// merge.
#[tokio::test(start_paused = true)]
async fn r04_a_lease_is_kept_for_as_long_as_the_work_takes() {
    locally(async {
        let place = Place::new();
        let (one, two) = (place.lock("one"), place.lock("two"));
        let guard = place.take(&one).await.unwrap();
        place.pass(3_600).await;
        assert!(!guard.cancelled.is_cancelled());
        assert!(place.take(&two).await.is_none(), "the lease is still held after an hour");
        drop(guard);
        place.pass(1).await;
        assert_eq!(place.take(&two).await.unwrap().epoch, 2, "the lease is released when the guard is dropped");
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_was_given_back_is_free_at_that_moment() {
    locally(async {
        let place = Place::new();
        let (one, two) = (place.lock("one"), place.lock("two"));
        place.take(&one).await.unwrap().give_back().await;
        assert_eq!(place.register().acquire("two", Duration::from_secs(1), 0).await.unwrap().unwrap().record.epoch, 2);
        drop(two);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn a_lease_that_is_taken_over_is_given_up() {
    locally(async {
        let place = Place::new();
        let (one, two) = (place.lock("one"), place.lock("two"));
        let guard = place.take(&one).await.unwrap();
        // This process is stopped for longer than its lease lasts, and another process takes over.
        place.clock.advance(Duration::from_secs(301));
        let newer = place.take(&two).await.unwrap();
        place.pass(61).await;
        assert!(guard.cancelled.is_cancelled());
        assert!(!newer.cancelled.is_cancelled() && newer.epoch > guard.epoch);
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn three_failed_signs_of_life_in_a_row_are_the_end() {
    locally(async {
        let place = Place::new();
        let lock = place.lock("one");
        let guard = place.take(&lock).await.unwrap();
        place.objects.set_faults(Faults { fail_before: 1.0, fail_read: 1.0, ..Faults::default() });
        place.pass(130).await;
        assert!(!guard.cancelled.is_cancelled(), "two failed renewals are tolerated");
        place.objects.set_faults(Faults::default());
        place.pass(60).await;
        place.objects.set_faults(Faults { fail_before: 1.0, fail_read: 1.0, ..Faults::default() });
        place.pass(160).await;
        assert!(!guard.cancelled.is_cancelled(), "the count starts again after a successful renewal");
        place.pass(30).await;
        assert!(guard.cancelled.is_cancelled());
    })
    .await;
}

#[tokio::test(start_paused = true)]
async fn who_asks_and_goes_away_leaves_nothing_held() {
    locally(async {
        let place = Place::new();
        let root = RootHandle::start(RestartOptions::default());
        let lock = Rc::new(place.lock("one"));
        let (handle, _running) = start_service("lock", 1, RestartOptions::default(), &root, move |inbox| {
            let lock = lock.clone();
            async move {
                lock.run(&inbox).await;
                Ok(())
            }
        });
        let (answer, taken) = oneshot::channel();
        drop(taken);
        handle.send(Acquire { above: 4, answer }).await.unwrap();
        let (answer, taken) = oneshot::channel();
        place.pass(1).await;
        handle.send(Acquire { above: 4, answer }).await.unwrap();
        let guard = taken.await.unwrap().unwrap().unwrap();
        assert_eq!(guard.epoch, 6, "the epoch is above the manifest's and the abandoned lease's");
        root.stop();
    })
    .await;
}
