use std::path::Path;
use std::sync::Arc;

use bytes::Bytes;
use docweir_core::clock::{ManualClock, SharedClock, SystemClock};
use docweir_objects::conformance::{Candidate, bytes, check, upload};
use docweir_objects::local::{LocalObjectOptions, LocalObjectStore};
use docweir_objects::memory::MemoryObjects;
use docweir_objects::{Durability, ObjectError, ObjectStore, Precondition};
use docweir_testkit::processes::{SmallDisk, child, folder_of_child};
use proptest::prelude::*;

use super::PackedObjects;

const MOST: usize = 10_000;

fn open(folder: &Path) -> PackedObjects {
    let clock: SharedClock = Arc::new(SystemClock);
    let files = LocalObjectStore::open(&folder.join("objects"), LocalObjectOptions::default(), &clock).unwrap();
    PackedObjects::new(&folder.join("objects.db"), Arc::new(files), MOST, clock)
}

async fn put(store: &PackedObjects, key: &str, body: impl Into<Bytes>) -> Result<(), ObjectError> {
    store.put_all(vec![(key.into(), body.into())], Durability::Rebuildable).await
}

async fn get(store: &PackedObjects, key: &str) -> Result<Bytes, ObjectError> {
    store.get(key).await.map(|(body, _)| body)
}

/// Returns the number of files in a tree, without the locks of the object store.
fn files(folder: &Path) -> usize {
    let entries = std::fs::read_dir(folder).unwrap().map(Result::unwrap).filter(|e| e.file_name() != ".locks");
    entries.map(|e| if e.path().is_dir() { files(&e.path()) } else { 1 }).sum()
}

#[tokio::test]
async fn the_contract_is_kept() {
    // All of the suite's small objects are rows, or none of them is.
    for most in [0, MOST] {
        let dir = tempfile::tempdir().unwrap();
        let mut store = open(dir.path());
        store.most_bytes = most;
        check(&Candidate { objects: Arc::new(store), in_byte_order: true, checks_keys: true, large: 1 << 20 }).await;
    }
}

#[tokio::test]
async fn small_objects_that_can_be_rebuilt_share_one_file() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path()).without_files();
    for document in 0..200 {
        put(&store, &format!("chunks/{document:03}.json"), "some text ".repeat(40)).await.unwrap();
    }
    assert_eq!(files(&dir.path().join("objects")), 0);
    drop(store);
    let one = std::fs::metadata(dir.path().join("objects.db")).unwrap().len();
    assert!(one < 100_000, "200 objects of 400 bytes take {one} bytes");
    let store = open(dir.path());
    assert_eq!(get(&store, "chunks/123.json").await.unwrap(), "some text ".repeat(40));
}

#[tokio::test]
async fn an_object_is_a_row_or_a_file_and_never_both() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let (key, folder) = ("chunks/a.json", dir.path().join("objects"));
    let (small, large) = (bytes(MOST, 1), bytes(MOST + 1, 2));
    let rows = async || store.rows.read("list", "", |rows| rows.list("", None, 9)).await.unwrap().len();
    // In turn: a row, a file because it is large, a row, a file because it must be durable, a row, an upload, a row.
    for round in 0..7 {
        match round {
            0 | 2 | 4 | 6 => put(&store, key, small.clone()).await.unwrap(),
            1 => put(&store, key, large.clone()).await.unwrap(),
            3 => drop(store.put(key, large.clone(), Precondition::None, Durability::Durable).await.unwrap()),
            _ => {
                let objects: Arc<dyn ObjectStore> = Arc::new(store.clone());
                upload(&objects, key, large.clone(), true).await.unwrap();
            }
        }
        let row = round % 2 == 0;
        assert_eq!(get(&store, key).await.unwrap(), if row { &small } else { &large }, "{round}");
        assert_eq!((rows().await, files(&folder)), (usize::from(row), usize::from(!row)), "{round}");
        assert_eq!(store.list("", None, 9).await.unwrap().len(), 1, "{round}");
    }
    store.delete(key).await.unwrap();
    assert!(matches!(get(&store, key).await, Err(ObjectError::NotFound(_))));
}

#[tokio::test]
async fn a_state_without_a_file_can_be_read_and_gets_none_by_reading() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    store.files.put("chunks/old.json", "old".into(), Precondition::None, Durability::Rebuildable).await.unwrap();
    assert_eq!(get(&store, "chunks/old.json").await.unwrap(), "old");
    assert_eq!(store.list("chunks/", None, 9).await.unwrap().len(), 1);
    store.delete("chunks/old.json").await.unwrap();
    assert!(store.list("", None, 9).await.unwrap().is_empty());
    assert!(!dir.path().join("objects.db").exists());
}

#[tokio::test]
async fn a_damaged_file_is_moved_aside_and_replaced() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("objects.db");
    let fill = async |store: &PackedObjects| {
        for i in 0..50 {
            // The write that finds the damage fails; its caller tries again.
            if put(store, &format!("chunks/{i:02}"), bytes(MOST, i)).await.is_err() {
                put(store, &format!("chunks/{i:02}"), bytes(MOST, i)).await.unwrap();
            }
        }
    };
    fill(&open(dir.path())).await;
    let whole = std::fs::read(&path).unwrap();
    let mut middle = whole.clone();
    middle[8192..].fill(0xa5);
    for damaged in [middle, whole[..whole.len() / 2].to_vec(), b"not a database, but long enough ".repeat(99)] {
        std::fs::write(&path, damaged).unwrap();
        let store = open(dir.path());
        let mut lost = 0;
        for i in 0..50 {
            match get(&store, &format!("chunks/{i:02}")).await {
                Ok(body) => assert_eq!(body, bytes(MOST, i)),
                Err(ObjectError::NotFound(_) | ObjectError::Transient { .. }) => lost += 1,
                Err(error) => panic!("{error}"),
            }
        }
        assert!(lost > 0);
        fill(&store).await;
        assert!(dir.path().join("objects.db.damaged").exists());
        assert_eq!(get(&store, "chunks/07").await.unwrap(), bytes(MOST, 7));
        drop(store);
    }
}

/// A process that still has the damaged file open must not move the new file of another process aside.
#[tokio::test]
async fn of_two_processes_that_find_damage_one_replaces_the_file() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("objects.db");
    let (one, other) = (open(dir.path()), open(dir.path()));
    for i in 0..50 {
        put(&one, &format!("chunks/{i:02}"), bytes(MOST, i)).await.unwrap();
    }
    assert_eq!(get(&other, "chunks/07").await.unwrap(), bytes(MOST, 7));
    // What another process does when it finds damage.
    std::fs::rename(&path, dir.path().join("objects.db.damaged")).unwrap();
    for suffix in ["-wal", "-shm"] {
        let _ = std::fs::remove_file(dir.path().join(format!("objects.db{suffix}")));
    }
    put(&one, "chunks/new", "new").await.unwrap();
    for store in [&one, &other] {
        assert_eq!(get(store, "chunks/new").await.unwrap(), "new");
        assert!(matches!(get(store, "chunks/07").await, Err(ObjectError::NotFound(_))));
    }
    drop((one, other));
    assert_eq!(get(&open(dir.path()), "chunks/new").await.unwrap(), "new");
}

#[tokio::test]
async fn a_row_with_damaged_bytes_is_an_error_and_can_be_written_again() {
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    put(&store, "a", "some text ".repeat(40)).await.unwrap();
    put(&store, "b", "b").await.unwrap();
    store
        .rows
        .change("damage", "a", |rows| rows.0.execute("UPDATE objects SET body = x'00ff' WHERE key = 'a'", []).map(drop))
        .await
        .unwrap();
    let error = get(&store, "a").await.unwrap_err();
    assert!(matches!(&error, ObjectError::Transient { .. }) && error.to_string().contains("damaged"), "{error}");
    assert_eq!(get(&store, "b").await.unwrap(), "b");
    put(&store, "a", "new").await.unwrap();
    assert_eq!(get(&store, "a").await.unwrap(), "new");
}

#[tokio::test]
async fn a_database_of_another_program_stays_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("objects.db");
    let other = rusqlite::Connection::open(&path).unwrap();
    other.execute_batch("CREATE TABLE theirs (x); INSERT INTO theirs VALUES (1)").unwrap();
    drop(other);
    let before = std::fs::read(&path).unwrap();
    let error = put(&open(dir.path()), "a", "a").await.unwrap_err().to_string();
    assert!(error.contains("another program") && error.contains("move it away"), "{error}");
    assert_eq!(std::fs::read(&path).unwrap(), before);
}

#[tokio::test]
async fn the_bytes_of_a_deleted_object_are_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let secret = bytes(3_000, 5);
    let found = |secret: &[u8]| {
        let file = std::fs::read(dir.path().join("objects.db")).unwrap();
        file.windows(64).any(|window| window == &secret[1_000..1_064])
    };
    let store = open(dir.path());
    put(&store, "a", secret.clone()).await.unwrap();
    drop(store);
    assert!(found(&secret));
    let store = open(dir.path());
    store.delete("a").await.unwrap();
    drop(store);
    assert!(!found(&secret));
}

/// A process that goes on, such as a service, must not keep deleted texts in its log.
#[tokio::test]
async fn the_log_of_a_running_process_forgets_deleted_objects() {
    let dir = tempfile::tempdir().unwrap();
    let secret = bytes(3_000, 5);
    let held = || {
        let holds = |name: &str| {
            let file = std::fs::read(dir.path().join(name)).unwrap_or_default();
            file.windows(64).any(|window| window == &secret[1_000..1_064])
        };
        ["objects.db", "objects.db-wal"].map(holds)
    };
    let store = open(dir.path());
    put(&store, "a", secret.clone()).await.unwrap();
    store.delete("a").await.unwrap();
    assert_eq!(held(), [false, true], "the log still holds the object, or this test tests nothing");
    tokio::time::pause();
    // The clock goes on only while nothing is to do, so the log is emptied in the meantime.
    for _ in 0..100 {
        if held() == [false, false] {
            break;
        }
        tokio::time::sleep(super::file::FORGET_AFTER).await;
    }
    assert_eq!(held(), [false, false]);
    put(&store, "b", "b").await.unwrap();
    assert_eq!(get(&store, "b").await.unwrap(), "b");
}

/// `erase` must not say that a text is gone while the log of another process, or a damaged file, still holds it.
#[tokio::test]
async fn what_remains_of_deleted_objects_is_removed_or_named() {
    let dir = tempfile::tempdir().unwrap();
    let log = || std::fs::metadata(dir.path().join("objects.db-wal")).map_or(0, |log| log.len());
    let (service, command) = (open(dir.path()), open(dir.path()));
    put(&service, "a", "a secret").await.unwrap();
    service.delete("a").await.unwrap();
    std::fs::write(dir.path().join("objects.db.damaged"), "a secret").unwrap();
    assert!(log() > 0);
    put(&service, "b", "b").await.unwrap();
    command.forget_deleted().await.unwrap();
    assert_eq!(log(), 0);
    assert!(!dir.path().join("objects.db.damaged").exists());
    assert_eq!(get(&service, "b").await.unwrap(), "b");
}

#[tokio::test]
async fn a_read_only_disk_is_read_and_refuses_to_write() {
    let Some(disk) = SmallDisk::new(4 << 20) else { return };
    let store = open(disk.path());
    put(&store, "chunks/a", "a").await.unwrap();
    drop(store);
    let store = open(disk.path());
    disk.make_read_only();
    assert_eq!(get(&store, "chunks/a").await.unwrap(), "a");
    assert_eq!(store.list("", None, 9).await.unwrap().len(), 1);
    let refused = put(&store, "chunks/a", "b").await.unwrap_err();
    assert!(matches!(refused, ObjectError::Storage { .. }) && refused.to_string().contains("writ"), "{refused}");
    assert_eq!(get(&store, "chunks/a").await.unwrap(), "a");
}

#[tokio::test]
async fn a_full_disk_is_told_and_what_was_there_stays() {
    let Some(disk) = SmallDisk::new(512 * 1024) else { return };
    let store = open(disk.path());
    put(&store, "chunks/first", "first").await.unwrap();
    let mut told = None;
    for i in 0..200 {
        if let Err(error) = put(&store, &format!("chunks/{i:03}"), bytes(MOST, i)).await {
            told = Some(error);
            break;
        }
    }
    let told = told.expect("the disk is full");
    assert!(matches!(told, ObjectError::Storage { .. }) && told.to_string().contains("free some space"), "{told}");
    assert_eq!(get(&store, "chunks/first").await.unwrap(), "first");
    for i in 0..200 {
        store.delete(&format!("chunks/{i:03}")).await.ok();
    }
    put(&store, "chunks/after", "after").await.unwrap();
    assert_eq!(get(&store, "chunks/after").await.unwrap(), "after");
}

#[test]
fn what_was_written_survives_the_kill_of_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let mut writer = child(module_path!(), "writer_until_killed", dir.path());
    let marker = dir.path().join("written");
    while std::fs::read_to_string(&marker).ok().and_then(|n| n.parse::<u64>().ok()).is_none_or(|n| n < 300) {
        assert!(writer.try_wait().unwrap().is_none(), "the writer has ended");
        std::thread::yield_now();
    }
    writer.kill().unwrap();
    writer.wait().unwrap();
    let written: u64 = std::fs::read_to_string(&marker).unwrap().parse().unwrap();
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = open(dir.path());
        for i in 0..written {
            assert_eq!(get(&store, &format!("chunks/{i}")).await.unwrap(), bytes(500, i), "{i} of {written}");
        }
    });
}

/// Writes objects and notes their number after each, until the process is killed.
#[tokio::test]
async fn writer_until_killed() {
    let Some(folder) = folder_of_child() else { return };
    let store = open(&folder);
    for i in 0.. {
        put(&store, &format!("chunks/{i}"), bytes(500, i)).await.unwrap();
        std::fs::write(folder.join("new"), (i + 1).to_string()).unwrap();
        std::fs::rename(folder.join("new"), folder.join("written")).unwrap();
    }
}

/// Describes one step of the comparison with the store in memory.
#[derive(Clone, Debug)]
enum Step {
    Put { key: usize, length: usize, durable: bool },
    Create { key: usize },
    Replace { key: usize, length: usize, current: bool },
    Delete { key: usize },
    List { prefix: usize, after: Option<usize>, limit: usize },
    Reopen,
}

const KEYS: [&str; 7] = ["a", "b-c", "b/c", "b/c-d", "b/d/e", "b0", "c/z.json"];

fn step() -> impl Strategy<Value = Step> {
    let key = 0..KEYS.len();
    let length = prop_oneof![0..40_usize, MOST - 1..MOST + 2];
    prop_oneof![
        4 => (key.clone(), length.clone(), any::<bool>())
            .prop_map(|(key, length, durable)| Step::Put { key, length, durable }),
        1 => key.clone().prop_map(|key| Step::Create { key }),
        2 => (key.clone(), length, any::<bool>())
            .prop_map(|(key, length, current)| Step::Replace { key, length, current }),
        2 => key.clone().prop_map(|key| Step::Delete { key }),
        2 => (0..KEYS.len(), proptest::option::of(key), 0..9_usize)
            .prop_map(|(prefix, after, limit)| Step::List { prefix, after, limit }),
        1 => Just(Step::Reopen),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn a_packed_store_behaves_like_any_other(steps in proptest::collection::vec(step(), 1..40)) {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        runtime.block_on(async {
            let dir = tempfile::tempdir().unwrap();
            let model = MemoryObjects::new(Arc::new(ManualClock::at(1)));
            let mut store = open(dir.path()).without_files();
            for (number, step) in steps.iter().enumerate() {
                let both: [&dyn ObjectStore; 2] = [&model, &store];
                let mut results = Vec::new();
                for objects in both {
                    results.push(apply(objects, step, number as u64).await);
                }
                assert_eq!(results[0], results[1], "step {number}: {step:?}");
                for key in KEYS {
                    let read = async |objects: &dyn ObjectStore| objects.get(key).await.map(|(body, _)| body).ok();
                    assert_eq!(read(&model).await, read(&store).await, "{key} after step {number}: {step:?}");
                }
                if matches!(step, Step::Reopen) {
                    store = open(dir.path());
                }
            }
        });
    }
}

/// Applies a step. Returns what a caller learns, without tags and times.
async fn apply(objects: &dyn ObjectStore, step: &Step, seed: u64) -> Result<Vec<(String, u64)>, String> {
    let kind = |error: ObjectError| match error {
        ObjectError::Conflict(key) => format!("conflict at {key}"),
        other => panic!("{other}"),
    };
    let done = |result: Result<_, _>| result.map(|_| Vec::new()).map_err(kind);
    match *step {
        Step::Put { key, length, durable } => {
            let durability = if durable { Durability::Durable } else { Durability::Rebuildable };
            done(objects.put(KEYS[key], bytes(length, seed), Precondition::None, durability).await)
        }
        Step::Create { key } => {
            done(objects.put(KEYS[key], bytes(9, seed), Precondition::Absent, Durability::Rebuildable).await)
        }
        Step::Replace { key, length, current } => {
            let Ok((_, mut tag)) = objects.get(KEYS[key]).await else { return Ok(Vec::new()) };
            if !current {
                tag.0.push('x');
            }
            let when = Precondition::Matches(tag);
            done(objects.put(KEYS[key], bytes(length, seed), when, Durability::Rebuildable).await)
        }
        Step::Delete { key } => {
            objects.delete(KEYS[key]).await.unwrap();
            Ok(Vec::new())
        }
        Step::List { prefix, after, limit } => {
            let prefix = &KEYS[prefix][..1];
            let listed = objects.list(prefix, after.map(|key| KEYS[key]), limit).await.unwrap();
            Ok(listed.into_iter().map(|meta| (meta.key, meta.bytes)).collect())
        }
        Step::Reopen => Ok(Vec::new()),
    }
}
