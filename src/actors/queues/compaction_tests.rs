//! Tests merge requests with a store in memory.

use docweir_core::clock::ManualClock;
use docweir_index::VectorStore;
use docweir_index::compaction::CompactionOptions;
use docweir_index::retention::RetentionOptions;
use docweir_index::testing::{document, model, store};
use docweir_objects::lease::LeaseRegister;
use docweir_objects::memory::{Faults, MemoryObjects};
use docweir_stores::queues::memory::MemoryQueue;

use super::*;
use crate::supervisors::RestartOptions;

struct World {
    objects: Arc<MemoryObjects>,
    vectors: Arc<VectorStore>,
    lease: LeaseRegister,
    compactions: Compactions,
}

impl World {
    /// Creates a collection with five commits. Four deltas are enough for a merge.
    async fn new() -> Self {
        let clock = Arc::new(ManualClock::at(1_700_000_000_000_000));
        let objects = Arc::new(MemoryObjects::new(clock.clone()));
        let vectors = store(&objects);
        let mut writer = vectors.writer();
        for n in 0..5 {
            writer.commit(vec![document(&format!("doc_{n}"), 1, &["x"])], &model(3)).await.unwrap();
        }
        let root = RootHandle::start(RestartOptions::default());
        let maintenance_config = MaintenanceConfig {
            collection: "chunks".into(),
            compaction: CompactionOptions { deltas: 4, automatic: false, ..CompactionOptions::default() },
            retention: RetentionOptions::default(),
            restart: RestartOptions::default(),
            objects: objects.clone(),
            clock: clock.clone(),
            owner: "this".into(),
        };
        let maintenance = Rc::new(MaintenanceServices::start(&maintenance_config, &vectors, &root));
        let (shared, tick) = (objects.clone(), clock.clone());
        let open: OpenCollection = Arc::new(move |name| {
            VectorStore::new(shared.clone(), name, tick.clone(), Default::default()).map(Arc::new)
        });
        let (wait, own) = (Duration::from_secs(60), ("chunks".to_owned(), maintenance));
        let compactions = Compactions { open, maintenance_config, root, wait, own, others: RefCell::default() };
        let lease = LeaseRegister::new(objects.clone(), "vectors/chunks/LEASE".into(), clock);
        Self { objects, vectors, lease, compactions }
    }

    async fn files(&self) -> usize {
        self.vectors.manifest().await.unwrap().unwrap().live.len()
    }

    async fn ask(&self, body: &str) -> MessageOutcome {
        self.compactions.handle(body).await.unwrap()
    }
}

async fn locally<T>(work: impl Future<Output = T>) -> T {
    tokio::task::LocalSet::new().run_until(work).await
}

#[tokio::test]
async fn a_collection_is_merged_on_request_and_once() {
    locally(async {
        let world = World::new().await;
        assert_eq!(world.ask(r#"{"collection": "chunks"}"#).await, MessageOutcome::Done);
        assert_eq!(world.files().await, 1);
        let long =
            r#"{"collection": "chunks", "delta_key": "delta/x.tar.gz", "vector_count": 7, "batch_id": "b", "z": 1}"#;
        assert_eq!(world.ask(long).await, MessageOutcome::Done);
        assert_eq!(
            world.ask(r#"{"collection": "receipt_lines"}"#).await,
            MessageOutcome::Done,
            "the collection does not exist"
        );
        assert_eq!(world.compactions.others.borrow().len(), 0);
        world.compactions.root.stop();
    })
    .await;
}

#[tokio::test]
async fn a_lease_that_somebody_else_has_gives_the_request_back() {
    locally(async {
        let world = World::new().await;
        let theirs = world.lease.acquire("them", Duration::from_secs(300), 0).await.unwrap().unwrap();
        assert_eq!(world.ask(r#"{"collection": "chunks"}"#).await, MessageOutcome::Later(Duration::from_secs(60)));
        assert_eq!(world.files().await, 5);
        world.lease.release(&theirs).await.unwrap();
        assert_eq!(world.ask(r#"{"collection": "chunks"}"#).await, MessageOutcome::Done);
        assert_eq!(world.files().await, 1);
        world.compactions.root.stop();
    })
    .await;
}

#[tokio::test]
async fn what_makes_no_sense_is_refused_and_a_merge_that_fails_is_not_acknowledged() {
    locally(async {
        let world = World::new().await;
        for body in ["", "{}", r#"{"collection": 7}"#, r#"{"collection": "../hunter2"}"#] {
            assert!(matches!(world.ask(body).await, MessageOutcome::Refused(_)), "{body}");
        }
        world.objects.set_faults(Faults { fail_read: 1.0, ..Faults::default() });
        let failed = world.ask(r#"{"collection": "chunks"}"#).await;
        assert!(matches!(failed, MessageOutcome::Outage(_)), "{failed:?}");
        world.compactions.root.stop();
    })
    .await;
    assert!(matches!(not_merged(&StageError::transient(TOO_LONG, "900 s")), MessageOutcome::Refused(_)));
    assert!(matches!(not_merged(&StageError::permanent("damaged", "x")), MessageOutcome::Refused(_)));
    assert!(matches!(not_merged(&StageError::throttled("less", None)), MessageOutcome::Outage(_)));
}

#[tokio::test]
async fn a_commit_is_told_of_and_nobody_waits_for_that() {
    locally(async {
        let queue = Arc::new(MemoryQueue::new(None));
        let (compaction_notifier, sending) = CompactionNotifier::to(queue.clone());
        for n in 0..BUFFER as u64 + 10 {
            compaction_notifier.added("chunks", &format!("delta/{n}.parquet"), n);
        }
        let sending = tokio::task::spawn_local(sending);
        compaction_notifier.flush().await;
        let left = queue.left();
        assert_eq!(left.len(), BUFFER, "notifications beyond the buffer are dropped");
        let first: Request = serde_json::from_str(&left[0]).unwrap();
        assert_eq!((first.collection.as_str(), first.vector_count), ("chunks", Some(0)));
        assert_eq!(first.delta_key.as_deref(), Some("vectors/chunks/delta/0.parquet"));
        drop(compaction_notifier);
        sending.await.unwrap();
    })
    .await;
}
