//! Tests the compactor actor with a store in memory.

use std::sync::Arc;

use docweir_core::clock::ManualClock;
use docweir_index::compaction::CompactionOptions;
use docweir_index::testing::{document, model, store};
use docweir_objects::lease::LeaseRegister;
use docweir_objects::memory::MemoryObjects;

use super::*;
use crate::actors::lock::Lock;
use crate::supervisors::service::start_service;
use crate::supervisors::{RestartOptions, RootHandle};

/// Creates a store with `deltas` commits, its lock and its compactor.
async fn compactor(
    deltas: u64,
    options: CompactionOptions,
) -> (Arc<MemoryObjects>, LeaseRegister, CompactorActor, RootHandle) {
    let clock = Arc::new(ManualClock::at(1_700_000_000_000_000));
    let objects = Arc::new(MemoryObjects::new(clock.clone()));
    let vectors = store(&objects);
    let mut writer = vectors.writer();
    for n in 0..deltas {
        writer.commit(vec![document(&format!("doc_{n}"), 1, &["x"])], &model(3)).await.unwrap();
    }
    let register = || LeaseRegister::new(objects.clone(), "vectors/chunks/LEASE".into(), clock.clone());
    let root = RootHandle::start(RestartOptions::default());
    let lock = Rc::new(Lock { register: Arc::new(register()), holder: "this".into(), options: options.clone() });
    let (lock, running) = start_service("lock", 1, RestartOptions::default(), &root, move |inbox| {
        let lock = lock.clone();
        async move {
            lock.run(&inbox).await;
            Ok(())
        }
    });
    // Keep the service running until the test ends.
    std::mem::forget(running);
    let register = register();
    (objects, register, CompactorActor { compactor: Compactor::new(vectors, options), lock }, root)
}

async fn locally<T>(work: impl Future<Output = T>) -> T {
    tokio::task::LocalSet::new().run_until(work).await
}

#[tokio::test]
async fn merges_until_nothing_is_due_and_gives_the_lease_back() {
    locally(async {
        let options = CompactionOptions { deltas: 4, ..CompactionOptions::default() };
        let (_objects, register, mut actor, root) = compactor(5, options).await;
        let done = actor.compact(Mode::Due).await.unwrap();
        assert_eq!((done.merges.len(), done.busy, done.superseded), (1, false, 0));
        assert_eq!((done.merges[0].input_files, done.merges[0].output_rows), (5, 5));
        assert!(done.merges[0].peak_memory_bytes > 0);
        // The lease must be released before the request is answered, because the process may end as soon as it has
        // the answer.
        assert_eq!(register.read().await.unwrap().unwrap().holder, "", "the lease was released");
        assert_eq!(actor.compact(Mode::Due).await.unwrap(), Compacted::default());
        root.stop();
    })
    .await;
}

#[tokio::test]
async fn leaves_the_work_to_who_has_the_lease() {
    locally(async {
        let (_objects, register, mut actor, root) = compactor(3, CompactionOptions::default()).await;
        let held = register.acquire("somebody else", Duration::from_secs(300), 0).await.unwrap().unwrap();
        let busy = actor.compact(Mode::All).await.unwrap();
        assert_eq!((busy.busy, busy.merges.len()), (true, 0));
        register.release(&held).await.unwrap();
        let done = actor.compact(Mode::All).await.unwrap();
        assert_eq!(done.merges.len(), 1);
        root.stop();
    })
    .await;
}

/// Tests that a merge request does not count as failed while it must wait for the lease of another process. Guards
/// against defect R 9 of the former system, in which throttling moved messages to the dead-letter queue.
#[tokio::test]
async fn r09_being_kept_waiting_is_no_failure() {
    locally(async {
        let (_objects, register, mut actor, root) = compactor(3, CompactionOptions::default()).await;
        let _held = register.acquire("somebody else", Duration::from_secs(300), 0).await.unwrap().unwrap();
        for _ in 0..100 {
            assert!(actor.compact(Mode::All).await.is_ok());
        }
        root.stop();
    })
    .await;
}
