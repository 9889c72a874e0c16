use std::sync::Mutex;
use std::sync::atomic::{AtomicUsize, Ordering};

use async_trait::async_trait;
use docweir_core::clock::{ManualClock, SharedClock};
use docweir_objects::memory::{Faults, MemoryObjects};
use docweir_objects::{ObjectMeta, Tag, Upload};
use docweir_stores::control::conformance::document;
use docweir_stores::control::sqlite::SqliteControlStore;
use docweir_stores::control::{Claim, NewDocument};

use super::*;

const LEASE: Duration = Duration::from_secs(60);
const KEYS: [&str; 3] = ["a", "b", "last"];

/// Counts the calls to an object store. Runs an action immediately before the call with a given number.
struct Paused {
    objects: MemoryObjects,
    calls: AtomicUsize,
    at: Mutex<Option<(usize, Then)>>,
}

type Then = Box<dyn FnOnce() -> futures_util::future::BoxFuture<'static, ()> + Send>;

impl Paused {
    async fn call(&self) {
        let call = self.calls.fetch_add(1, Ordering::Relaxed);
        let then = self.at.lock().unwrap().take_if(|(at, _)| *at == call);
        if let Some((_, then)) = then {
            then().await;
        }
    }
}

#[async_trait]
impl ObjectStore for Paused {
    fn location(&self) -> String {
        self.objects.location()
    }

    async fn put(&self, key: &str, body: Bytes, when: Precondition, d: Durability) -> Result<Tag, ObjectError> {
        self.call().await;
        self.objects.put(key, body, when, d).await
    }

    async fn create(&self, key: &str) -> Result<Box<dyn Upload>, ObjectError> {
        self.objects.create(key).await
    }

    async fn get(&self, key: &str) -> Result<(Bytes, Tag), ObjectError> {
        self.call().await;
        self.objects.get(key).await
    }

    async fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Bytes, ObjectError> {
        self.objects.get_range(key, offset, length).await
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta, ObjectError> {
        self.objects.head(key).await
    }

    async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        self.objects.delete(key).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ObjectMeta>, ObjectError> {
        self.objects.list(prefix, after, limit).await
    }

    fn local_path(&self, key: &str) -> Option<std::path::PathBuf> {
        self.objects.local_path(key)
    }
}

struct Fixture {
    _dir: tempfile::TempDir,
    clock: Arc<ManualClock>,
    control: Arc<SqliteControlStore>,
    objects: MemoryObjects,
}

impl Fixture {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(1_763_718_000_000_000));
        let shared: SharedClock = clock.clone();
        let control =
            SqliteControlStore::open(&dir.path().join("control.db"), Default::default(), shared).await.unwrap();
        let new = NewDocument { source: "s3://bucket/a.pdf".into(), ..document("", "content") };
        control.register(vec![new]).await.unwrap();
        let objects = MemoryObjects::new(clock.clone());
        Self { _dir: dir, clock, control: Arc::new(control), objects }
    }

    async fn claim(&self, owner: &str) -> Claim {
        self.control.claim(owner, LEASE, 1, None).await.unwrap().remove(0)
    }

    /// Returns two claims: that of a process whose lease has expired, and that of the successor of this process.
    async fn taken_over(&self) -> [Claim; 2] {
        let stalled = self.claim("stalled").await;
        self.clock.advance(2 * LEASE);
        [stalled, self.claim("successor").await]
    }

    fn fence(&self, objects: Arc<dyn ObjectStore>) -> Fence {
        Fence { objects, control: self.control.clone(), is_conditional: true, parallel_puts: 1, attempts: 5 }
    }

    async fn put(&self, claim: &Claim) -> Result<(), StageError> {
        self.fence(Arc::new(self.objects.clone())).put_all(&claim.key, objects(claim)).await
    }

    async fn assert_of(&self, claim: &Claim, when: &str) {
        for (key, body) in objects(claim) {
            assert_eq!(self.objects.get(&key).await.unwrap().0, body, "{key}, {when}");
        }
    }
}

/// Returns the objects to put under a claim. The bodies differ from claim to claim.
fn objects(claim: &Claim) -> Vec<(String, Bytes)> {
    let body = Bytes::from(format!("of epoch {}", claim.key.epoch));
    KEYS.iter().map(|key| ((*key).to_owned(), body.clone())).collect()
}

#[tokio::test]
async fn a_first_version_costs_no_call_more_and_a_later_one_is_put_over_it() {
    let f = Fixture::new().await;
    let claim = f.claim("first").await;
    let counted = Arc::new(Paused { objects: f.objects.clone(), calls: AtomicUsize::new(0), at: Mutex::default() });
    f.fence(counted.clone()).put_all(&claim.key, objects(&claim)).await.unwrap();
    assert_eq!(counted.calls.load(Ordering::Relaxed), KEYS.len());
    f.assert_of(&claim, "put").await;
    f.clock.advance(2 * LEASE);
    let later = f.claim("later").await;
    f.put(&later).await.unwrap();
    f.assert_of(&later, "put over it").await;
}

#[tokio::test]
async fn who_lost_the_document_writes_over_nothing_of_its_successor() {
    let f = Fixture::new().await;
    let [stalled, successor] = f.taken_over().await;
    f.put(&successor).await.unwrap();
    assert_eq!(f.put(&stalled).await.unwrap_err().code, "claim_lost");
    f.assert_of(&successor, "after the late put").await;
}

/// Tests a takeover at every possible moment, both with unused keys and with existing objects. In each round, a
/// process is stopped before a different call, and its successor puts its own objects meanwhile.
#[tokio::test]
async fn whenever_a_process_is_stopped_what_its_successor_has_put_stays() {
    for had_before in [false, true] {
        let mut at = 0;
        loop {
            let f = Arc::new(Fixture::new().await);
            if had_before {
                let before = f.claim("before").await;
                f.put(&before).await.unwrap();
                f.clock.advance(2 * LEASE);
            }
            let stalled = f.claim("stalled").await;
            let successor = Arc::new(Mutex::new(None));
            let (there, took) = (f.clone(), successor.clone());
            let then: Then = Box::new(move || {
                Box::pin(async move {
                    there.clock.advance(2 * LEASE);
                    let claim = there.claim("successor").await;
                    there.put(&claim).await.unwrap();
                    *took.lock().unwrap() = Some(claim);
                })
            });
            let objects = f.objects.clone();
            let paused = Arc::new(Paused { objects, calls: AtomicUsize::new(0), at: Mutex::new(Some((at, then))) });
            let put = f.fence(paused.clone()).put_all(&stalled.key, self::objects(&stalled)).await;
            let Some(successor) = successor.lock().unwrap().take() else {
                assert!(put.is_ok() && at >= KEYS.len(), "{put:?} after {at} calls");
                break;
            };
            assert_eq!(put.unwrap_err().code, "claim_lost", "stopped before call {at}");
            f.assert_of(&successor, &format!("stopped before call {at}")).await;
            at += 1;
        }
    }
}

#[tokio::test(start_paused = true)]
async fn a_lost_answer_is_looked_into() {
    let mut put = 0;
    for seed in 0..50 {
        let f = Fixture::new().await;
        let claim = f.claim("one").await;
        let faults =
            Faults { fail_before: 0.1, lost_request: 0.2, lost_reply: 0.2, false_conflict: 0.1, ..Faults::default() };
        let lossy = MemoryObjects::with_faults(f.clock.clone(), seed, faults);
        match f.fence(Arc::new(lossy.clone())).put_all(&claim.key, objects(&claim)).await {
            Ok(()) => {
                put += 1;
                lossy.set_faults(Faults::default());
                for (key, body) in objects(&claim) {
                    assert_eq!(lossy.get(&key).await.unwrap().0, body, "seed {seed}");
                }
            }
            Err(error) => assert_eq!(error.code, "object_store", "seed {seed}: {error}"),
        }
    }
    assert!(put > 40, "{put} of 50");
}

#[tokio::test]
async fn where_no_condition_is_enforced_the_claim_is_looked_at() {
    let f = Fixture::new().await;
    let [stalled, successor] = f.taken_over().await;
    let plain = Fence { is_conditional: false, ..f.fence(Arc::new(f.objects.clone())) };
    plain.put_all(&successor.key, objects(&successor)).await.unwrap();
    assert_eq!(plain.put_all(&stalled.key, objects(&stalled)).await.unwrap_err().code, "claim_lost");
    f.assert_of(&successor, "unconditional").await;
}
