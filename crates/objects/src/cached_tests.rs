use std::io::Read;
use std::sync::atomic::{AtomicUsize, Ordering};

use docweir_core::clock::ManualClock;

use super::*;
use crate::conformance::{Candidate, check};
use crate::memory::{Faults, MemoryObjects};

/// Mocks a remote store that counts fetches and can return truncated objects.
struct Far {
    objects: MemoryObjects,
    fetched: AtomicUsize,
    cut: AtomicUsize,
}

#[async_trait]
impl ObjectStore for Far {
    fn location(&self) -> String {
        "far".into()
    }
    async fn put(&self, key: &str, body: Bytes, when: Precondition, d: Durability) -> Result<Tag, ObjectError> {
        self.objects.put(key, body, when, d).await
    }
    async fn create(&self, key: &str) -> Result<Box<dyn Upload>, ObjectError> {
        self.objects.create(key).await
    }
    async fn get(&self, key: &str) -> Result<(Bytes, Tag), ObjectError> {
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
    fn local_path(&self, _: &str) -> Option<PathBuf> {
        None
    }
    async fn read_into(&self, key: &str, mut file: File) -> Result<(), ObjectError> {
        self.fetched.fetch_add(1, Ordering::SeqCst);
        tokio::task::yield_now().await;
        let (body, _) = self.objects.get(key).await?;
        let cut = body.len().saturating_sub(self.cut.load(Ordering::SeqCst));
        io::Write::write_all(&mut file, &body[..cut]).unwrap();
        Ok(())
    }
}

struct Room {
    folder: tempfile::TempDir,
    far: Arc<Far>,
    clock: Arc<ManualClock>,
}

impl Room {
    fn new() -> Self {
        let clock = Arc::new(ManualClock::at(1_700_000_000_000_000));
        let objects = MemoryObjects::with_faults(clock.clone(), 1, Faults::default());
        let far = Arc::new(Far { objects, fetched: AtomicUsize::new(0), cut: AtomicUsize::new(0) });
        Self { folder: tempfile::tempdir().unwrap(), far, clock }
    }

    fn cache(&self, max_bytes: u64) -> Arc<CachedObjects> {
        let options = CopyOptions { max_bytes };
        let cache = CachedObjects::open(self.far.clone(), self.folder.path(), options, self.clock.clone());
        Arc::new(cache.unwrap())
    }

    async fn put(&self, key: &str, bytes: usize) {
        let body = Bytes::from(vec![key.as_bytes()[0]; bytes]);
        self.far.put(key, body, Precondition::None, Durability::Durable).await.unwrap();
    }

    fn fetched(&self) -> usize {
        self.far.fetched.load(Ordering::SeqCst)
    }

    /// Returns the sizes of the complete copies and the number of unfinished copies.
    fn kept(&self) -> (Vec<u64>, usize) {
        let files = std::fs::read_dir(self.folder.path()).unwrap().map(|e| e.unwrap().metadata().unwrap());
        let mut sizes: Vec<_> = files.filter(|m| m.is_file()).map(|m| m.len()).collect();
        sizes.sort();
        (sizes, std::fs::read_dir(self.folder.path().join(TMP)).unwrap().count())
    }
}

async fn read(cache: &CachedObjects, key: &str) -> Vec<u8> {
    let mut body = Vec::new();
    cache.local_copy(key).await.unwrap().unwrap().read_to_end(&mut body).unwrap();
    body
}

#[tokio::test]
async fn it_is_the_store_that_it_wraps() {
    let room = Room::new();
    let candidate = Candidate { objects: room.cache(1 << 30), in_byte_order: true, checks_keys: false, large: 1 << 20 };
    check(&candidate).await;
}

#[tokio::test]
async fn an_object_is_fetched_once_however_many_ask_and_outlasts_the_process() {
    let room = Room::new();
    room.put("a", 1000).await;
    let cache = room.cache(1 << 20);
    let askers: Vec<_> = (0..8)
        .map(|_| {
            let cache = cache.clone();
            tokio::spawn(async move { read(&cache, "a").await })
        })
        .collect();
    for asker in askers {
        assert_eq!(asker.await.unwrap(), vec![b'a'; 1000]);
    }
    assert_eq!(room.fetched(), 1);
    drop(cache);
    let (one, other) = (room.cache(1 << 20), room.cache(1 << 20));
    assert_eq!(read(&one, "a").await.len() + read(&other, "a").await.len(), 2000);
    assert_eq!((room.fetched(), room.kept()), (1, (vec![1000], 0)));
    assert!(matches!(one.local_copy("none").await, Err(ObjectError::NotFound(k)) if k == "none"));
    // Two processes may fetch the same object; both get it whole.
    room.put("b", 500).await;
    let (first, second) = tokio::join!(read(&one, "b"), read(&other, "b"));
    assert_eq!((first.len(), second.len(), room.kept()), (500, 500, (vec![500, 1000], 0)));
}

#[tokio::test]
async fn the_copy_goes_that_was_not_used_for_longest() {
    let room = Room::new();
    let cache = room.cache(2_500);
    for key in ["a", "b"] {
        room.put(key, 1000).await;
        read(&cache, key).await;
        room.clock.advance(Duration::from_secs(1));
    }
    let open = cache.local_copy("b").await.unwrap().unwrap();
    room.clock.advance(Duration::from_secs(1));
    read(&cache, "a").await;
    room.clock.advance(Duration::from_secs(1));
    room.put("c", 1001).await;
    read(&cache, "c").await;
    assert_eq!((room.kept(), room.fetched()), ((vec![1000, 1001], 0), 3));
    read(&cache, "a").await;
    assert_eq!(room.fetched(), 3, "a was used later than b");
    let mut still = Vec::new();
    (&open).read_to_end(&mut still).unwrap();
    assert_eq!(still, vec![b'b'; 1000], "an open file stays readable");
    cache.delete("a").await.unwrap();
    assert_eq!(room.kept().0, [1001], "the copy of a deleted object is deleted");

    room.put("d", 2_501).await;
    let error = cache.local_copy("d").await.unwrap_err().to_string();
    assert!(error.contains("more than the 2500") && error.contains("raise `max_bytes`"), "{error}");
    assert_eq!(room.kept(), (vec![1001], 0));
}

#[tokio::test]
async fn a_copy_is_whole_or_not_there() {
    let room = Room::new();
    room.put("a", 1000).await;
    let cache = room.cache(1 << 20);
    room.far.cut.store(1, Ordering::SeqCst);
    let error = cache.local_copy("a").await.unwrap_err().to_string();
    assert!(error.contains("received 999 bytes instead of 1000"), "{error}");
    assert_eq!(room.kept(), (vec![], 0));
    // The only waiting caller is dropped.
    let mut going = Box::pin(cache.local_copy("a"));
    assert!(futures_util::poll!(&mut going).is_pending());
    drop(going);
    tokio::task::yield_now().await;
    assert_eq!(room.kept(), (vec![], 0));
    room.far.cut.store(0, Ordering::SeqCst);
    assert_eq!(read(&cache, "a").await.len(), 1000);
    assert_eq!(*cache.promised.lock().unwrap(), 0);
}

#[tokio::test]
async fn a_copy_of_an_object_that_another_process_deleted_can_be_forgotten() {
    let room = Room::new();
    let cache = room.cache(1_000);
    room.put("a", 10).await;
    assert_eq!(read(&cache, "a").await.len(), 10);
    room.far.delete("a").await.unwrap();
    assert_eq!(room.kept().0, [10], "the copy is still there, or this test tests nothing");
    cache.forget_deleted().await.unwrap();
    assert_eq!(room.kept().0, [0_u64; 0]);
    room.put("a", 20).await;
    assert_eq!(read(&cache, "a").await.len(), 20);
}

#[test]
fn the_defaults_are_in_range() {
    assert_eq!(CopyOptions::default().problems(), []);
    assert_eq!(CopyOptions { max_bytes: 0 }.problems()[0].0, "max_bytes");
}
