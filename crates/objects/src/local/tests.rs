use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use docweir_core::clock::{ManualClock, SystemClock};
use docweir_testkit::processes::{SmallDisk, child, folder_of_child};

use super::*;
use crate::conformance::{Candidate, check};

fn open(root: &Path) -> LocalObjectStore {
    let clock: SharedClock = Arc::new(SystemClock);
    LocalObjectStore::open(root, LocalObjectOptions::default(), &clock).unwrap()
}

async fn put(store: &LocalObjectStore, key: &str, body: &str, when: Precondition) -> Result<Tag, ObjectError> {
    store.put(key, Bytes::from(body.to_owned()), when, Durability::Rebuildable).await
}

async fn keys(store: &LocalObjectStore, prefix: &str, after: Option<&str>, limit: usize) -> Vec<String> {
    store.list(prefix, after, limit).await.unwrap().into_iter().map(|m| m.key).collect()
}

#[tokio::test]
async fn an_object_is_a_file_and_leaves_no_other() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let tag = store.put("a/b.json", "0123456789".into(), Precondition::None, Durability::Durable).await.unwrap();
    assert_eq!(store.get("a/b.json").await.unwrap(), ("0123456789".into(), tag.clone()));
    let head = store.head("a/b.json").await.unwrap();
    assert_eq!((head.key.as_str(), head.bytes), ("a/b.json", 10));
    assert!(head.modified > 1_700_000_000_000_000);
    assert_eq!(std::fs::read(store.local_path("a/b.json").unwrap()).unwrap(), b"0123456789");

    let other = put(&store, "a/b.json", "other", Precondition::None).await.unwrap();
    assert_ne!(tag, other);
    store.delete("a/b.json").await.unwrap();
    store.delete("a/b.json").await.unwrap();
    assert!(matches!(store.get("a/b.json").await, Err(ObjectError::NotFound(k)) if k == "a/b.json"));
    assert!(!dir.path().join("a").exists(), "an empty folder is left");
    assert!(dir.path().join(TMP).read_dir().unwrap().next().is_none(), "a temporary file is left");
}

#[tokio::test]
async fn it_keeps_the_promises_of_every_store() {
    let dir = tempfile::tempdir().unwrap();
    let objects = Arc::new(open(dir.path()));
    check(&Candidate { objects, in_byte_order: true, checks_keys: true, large: 1 << 20 }).await;
}

#[tokio::test]
async fn changed_and_changed_back_is_the_former_state() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let one = put(&store, "k", "1", Precondition::Absent).await.unwrap();
    let two = put(&store, "k", "2", Precondition::Matches(one.clone())).await.unwrap();
    assert_eq!(put(&store, "k", "1", Precondition::Matches(two)).await.unwrap(), one);
}

#[tokio::test]
async fn bad_keys_go_nowhere() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(&dir.path().join("root"));
    let long = "a/".repeat(600) + "a";
    let long_part = "p".repeat(201);
    let bad = [
        "",
        "/",
        "/etc/passwd",
        "../x",
        "a/../../x",
        "a//b",
        "a/",
        "./a",
        ".tmp/x",
        ".locks/00",
        "a b",
        "a\\b",
        "ä",
        "a\0b",
        "a:b",
        &long,
        &long_part,
    ];
    for key in bad {
        assert!(matches!(put(&store, key, "x", Precondition::None).await, Err(ObjectError::BadKey(_))), "put {key:?}");
        assert!(matches!(store.get(key).await, Err(ObjectError::BadKey(_))), "get {key:?}");
        assert!(matches!(store.delete(key).await, Err(ObjectError::BadKey(_))), "delete {key:?}");
        assert_eq!(store.local_path(key), None, "{key:?}");
    }
    for key in ["a", "input/_quarantine/100%25.pdf", "delta/01J=+-_.d", "a..b/c...d"] {
        put(&store, key, "x", Precondition::None).await.unwrap();
    }
    assert_eq!(std::fs::read_dir(dir.path()).unwrap().count(), 1, "nothing beside the root");
}

#[tokio::test]
async fn a_key_can_not_be_a_folder_and_an_object() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put(&store, "a/b", "x", Precondition::None).await.unwrap();
    for key in ["a", "a/b/c"] {
        let error = put(&store, key, "x", Precondition::None).await.unwrap_err();
        assert!(error.to_string().contains("a key cannot be the folder of another key"), "{error}");
        assert!(matches!(store.get(key).await, Err(ObjectError::NotFound(_))), "{key}");
        store.delete(key).await.unwrap();
    }
    assert_eq!(keys(&store, "", None, 9).await, ["a/b"]);
}

#[tokio::test]
async fn what_no_put_has_written_is_not_listed() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put(&store, "a/b", "x", Precondition::None).await.unwrap();
    std::fs::write(dir.path().join("a/.hidden"), "").unwrap();
    std::fs::write(dir.path().join("a stray"), "").unwrap();
    assert_eq!(keys(&store, "", None, 99).await, ["a/b"]);
}

#[test]
fn swaps_250_times() {
    let Some(folder) = folder_of_child() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let store = open(&folder);
    runtime.block_on(async {
        let mut swapped = 0;
        while swapped < 250 {
            let (body, tag) = store.get("MANIFEST").await.unwrap();
            let version: u64 = std::str::from_utf8(&body).unwrap().parse().unwrap();
            match put(&store, "MANIFEST", &(version + 1).to_string(), Precondition::Matches(tag)).await {
                Ok(_) => swapped += 1,
                Err(ObjectError::Conflict(_)) => {}
                Err(e) => panic!("{e}"),
            }
        }
    });
}

#[tokio::test]
async fn four_processes_swap_1000_times_and_none_is_lost() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put(&store, "MANIFEST", "0", Precondition::Absent).await.unwrap();
    let children: Vec<_> = (0..4).map(|_| child(module_path!(), "swaps_250_times", dir.path())).collect();
    for mut child in children {
        assert!(child.wait().unwrap().success());
    }
    assert_eq!(store.get("MANIFEST").await.unwrap().0, "1000");
}

#[tokio::test]
async fn plain_puts_and_deletes_do_not_slip_into_a_swap() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let created = Arc::new(std::sync::atomic::AtomicU64::new(0));
    // A task that finds the key absent creates it, and only its creator deletes it. So creations must not overlap.
    let alive = Arc::new(AtomicBool::new(false));
    let mut tasks = Vec::new();
    for _ in 0..4 {
        let (store, alive, created) = (open(dir.path()), alive.clone(), created.clone());
        tasks.push(tokio::spawn(async move {
            for _ in 0..50 {
                if put(&store, "lease", "mine", Precondition::Absent).await.is_ok() {
                    assert!(!alive.swap(true, Ordering::SeqCst), "two hold it");
                    created.fetch_add(1, Ordering::SeqCst);
                    tokio::time::sleep(Duration::from_millis(1)).await;
                    alive.store(false, Ordering::SeqCst);
                    store.delete("lease").await.unwrap();
                }
            }
        }));
    }
    for task in tasks {
        task.await.unwrap();
    }
    assert!(created.load(Ordering::SeqCst) > 0);
    assert!(keys(&store, "", None, 9).await.is_empty());
}

#[tokio::test]
async fn readers_never_see_a_half() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let body = |letter: u8| Bytes::from(vec![letter; 300_000]);
    store.put("big", body(b'a'), Precondition::None, Durability::Rebuildable).await.unwrap();
    let done = Arc::new(AtomicBool::new(false));
    let readers: Vec<_> = (0..2)
        .map(|_| {
            let (store, done) = (store.clone(), done.clone());
            tokio::spawn(async move {
                let mut seen = 0;
                while !done.load(Ordering::Relaxed) {
                    let (found, _) = store.get("big").await.unwrap();
                    assert_eq!(found.len(), 300_000);
                    assert!(found.iter().all(|b| *b == found[0]), "a mix of two writes");
                    let listed = store.list("", None, 9).await.unwrap();
                    assert_eq!(listed.len(), 1, "{listed:?}");
                    seen += 1;
                }
                seen
            })
        })
        .collect();
    for i in 0..100u8 {
        store.put("big", body(b'a' + i % 26), Precondition::None, Durability::Rebuildable).await.unwrap();
    }
    done.store(true, Ordering::Relaxed);
    for reader in readers {
        assert!(reader.await.unwrap() > 0);
    }
}

#[tokio::test]
async fn leftovers_go_when_their_writer_is_gone_or_they_are_old() {
    const NOW: u64 = 1_763_718_000;
    let dir = tempfile::tempdir().unwrap();
    open(dir.path());
    let leftover = |name: &str, age: u64| {
        let path = dir.path().join(TMP).join(name);
        let file = File::create(&path).unwrap();
        file.set_modified(UNIX_EPOCH + Duration::from_secs(NOW - age)).unwrap();
        (path, file)
    };
    let (young, _) = leftover("young", 30);
    let (abandoned, _) = leftover("abandoned", 120);
    let (held, held_file) = leftover("held", 120);
    held_file.lock().unwrap();
    let (stuck, stuck_file) = leftover("stuck", 3601);
    stuck_file.lock().unwrap();
    let clock: SharedClock = Arc::new(ManualClock::at(NOW as i64 * 1_000_000));
    LocalObjectStore::open(dir.path(), LocalObjectOptions::default(), &clock).unwrap();
    let left = [&young, &abandoned, &held, &stuck].map(|p| p.exists());
    assert_eq!(left, [true, false, true, false]);
}

#[tokio::test]
async fn a_lock_that_is_never_given_back_ends_the_wait() {
    let dir = tempfile::tempdir().unwrap();
    let clock: SharedClock = Arc::new(SystemClock);
    let options = LocalObjectOptions { lock_wait_seconds: 1, ..Default::default() };
    let store = LocalObjectStore::open(dir.path(), options, &clock).unwrap();
    let _stuck = KeyLock::take(dir.path(), "k", true, &LocalObjectOptions::default()).unwrap();
    let error = put(&store, "k", "x", Precondition::None).await.unwrap_err();
    assert!(matches!(error, ObjectError::Transient { what: "lock", .. }), "{error}");
}

#[tokio::test]
async fn too_large_objects_are_refused() {
    let dir = tempfile::tempdir().unwrap();
    let clock: SharedClock = Arc::new(SystemClock);
    let options = LocalObjectOptions { max_object_bytes: 4, ..Default::default() };
    let store = LocalObjectStore::open(dir.path(), options, &clock).unwrap();
    put(&store, "k", "1234", Precondition::None).await.unwrap();
    let error = put(&store, "k", "12345", Precondition::None).await.unwrap_err().to_string();
    assert!(error.contains("5 bytes, more than the 4 allowed; raise `max_object_bytes`"), "{error}");
}

#[tokio::test]
async fn full_and_read_only_disks_say_what_to_do_and_leave_the_old_object() {
    let Some(disk) = SmallDisk::new(256 * 1024) else { return };
    let store = open(disk.path());
    put(&store, "k", "old", Precondition::None).await.unwrap();
    let big = Bytes::from(vec![7; 1 << 20]);
    let full = store.put("k", big, Precondition::None, Durability::Durable).await.unwrap_err();
    assert!(matches!(full, ObjectError::Storage { .. }) && full.to_string().contains("free some space"), "{full}");
    assert_eq!(store.get("k").await.unwrap().0, "old");
    put(&store, "k2", "the space is free again", Precondition::None).await.unwrap();

    disk.make_read_only();
    let error = put(&store, "k", "new", Precondition::None).await.unwrap_err();
    assert!(error.to_string().contains("mount the disk for writing"), "{error}");
    assert_eq!(store.get("k").await.unwrap().0, "old");
}

#[test]
fn the_defaults_are_in_range() {
    assert_eq!(LocalObjectOptions::default().problems(), []);
}
