use docweir_core::clock::SystemClock;
use docweir_testkit::processes::SmallDisk;

use super::super::failure::OpResult;
use super::*;

async fn try_open(path: &Path) -> Result<SqliteControlStore, ControlError> {
    let options = SqliteControlOptions { busy_timeout_milliseconds: 50, ..Default::default() };
    SqliteControlStore::open(path, options, Arc::new(SystemClock)).await
}

#[tokio::test]
async fn a_newer_foreign_or_damaged_database_is_refused_and_left_as_it_is() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.db");
    drop(try_open(&path).await.unwrap());
    let shell = rusqlite::Connection::open(&path).unwrap();
    let next = schema::SCHEMA.version + 1;
    shell.pragma_update(None, "user_version", next).unwrap();
    let newer = try_open(&path).await.err().unwrap().to_string();
    assert!(
        newer.contains(&format!("schema version {next} of a newer docweir")) && newer.contains("update docweir"),
        "{newer}"
    );
    drop(shell);

    let other = dir.path().join("other.db");
    rusqlite::Connection::open(&other).unwrap().execute_batch("CREATE TABLE photos (x)").unwrap();
    let before = std::fs::read(&other).unwrap();
    let foreign = try_open(&other).await.err().unwrap().to_string();
    assert!(foreign.contains("of another program"), "{foreign}");
    assert_eq!(std::fs::read(&other).unwrap(), before);

    std::fs::write(&other, "no database at all ".repeat(1000)).unwrap();
    let damaged = try_open(&other).await.err().unwrap().to_string();
    assert!(damaged.contains("restore it from a copy"), "{damaged}");
    let missing = try_open(&dir.path().join("none/control.db")).await.err().unwrap();
    assert!(matches!(missing, ControlError::Storage { .. }), "{missing}");
}

#[tokio::test]
async fn damage_while_it_runs_is_an_error_and_no_panic() {
    let f = Fixture::new().await;
    f.store.register((0..500).map(|i| document(&i.to_string(), "x")).collect()).await.unwrap();
    let Fixture { dir, clock, store } = f;
    drop(store);
    let path = dir.path().join("control.db");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[100 * 1024..].fill(0x5a);
    std::fs::write(&path, bytes).unwrap();
    let store = open(&path, &clock).await;
    let error = store.claim("o", LEASE, 500, None).await.unwrap_err();
    assert!(matches!(&error, ControlError::Storage { hint, .. } if hint.contains("restore it")), "{error}");
}

#[tokio::test]
async fn whoever_holds_the_database_too_long_makes_it_busy_and_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.db");
    let store = try_open(&path).await.unwrap();
    let mut shell = rusqlite::Connection::open(&path).unwrap();
    let held = shell.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    let busy = store.register(vec![document("a", "x")]).await;
    assert!(matches!(busy, Err(ControlError::Busy(_))), "{busy:?}");
    assert_eq!(store.counts().await.unwrap(), StatusCounts::new(), "reads continue");
    held.rollback().unwrap();
    store.register(vec![document("a", "x")]).await.unwrap();
}

#[tokio::test]
async fn a_store_on_a_read_only_disk_is_read_and_refuses_to_write() {
    let Some(disk) = SmallDisk::new(4 << 20) else { return };
    let path = disk.path().join("control.db");
    let store = try_open(&path).await.unwrap();
    store.register(vec![document("a", "x")]).await.unwrap();
    let expected = store.list(&RecordFilter::default(), None, 10).await.unwrap();
    drop(store);
    disk.make_read_only();
    let denied = try_open(&path).await.err().unwrap().to_string();
    assert!(denied.contains("make the folder writable"), "{denied}");

    let options = SqliteControlOptions::default();
    let store = SqliteControlStore::open_to_read(&path, options, Arc::new(SystemClock)).await.unwrap();
    assert_eq!(store.list(&RecordFilter::default(), None, 10).await.unwrap(), expected);
    assert_eq!(store.counts().await.unwrap().values().sum::<u64>(), 1);
    let refused = store.register(vec![document("b", "x")]).await.unwrap_err().to_string();
    assert!(refused.contains("opened for reading"), "{refused}");
}

#[tokio::test]
async fn a_panicking_operation_takes_nobody_with_it() {
    let f = Fixture::new().await;
    let panics = f.store.writer().unwrap().write(CommitDurability::Process, |unit| -> OpResult<()> {
        register(unit, document("half", "x"))?;
        panic!("a test panics here")
    });
    let fine = f.store.register(vec![document("a", "x")]);
    let (panicked, fine) = futures_util::future::join(panics, fine).await;
    assert!(panicked.unwrap_err().to_string().contains("panicked"));
    assert_eq!(fine.unwrap().len(), 1);
    assert_eq!(f.store.by_source("file:///half").await.unwrap(), None, "rolled back");
    f.register_one("b").await;
}

#[tokio::test]
async fn an_operation_whose_caller_has_gone_is_left_out() {
    let f = Fixture::new().await;
    f.register_one("a").await;
    let (open_gate, gate) = std::sync::mpsc::channel::<()>();
    let holds = f.store.writer().unwrap().write(CommitDurability::Process, move |_| Ok(gate.recv().is_ok()));
    let gone = f.store.claim("gone", LEASE, 1, None);
    let mut holds = Box::pin(holds);
    assert!(futures_util::poll!(&mut holds).is_pending());
    {
        let mut gone = Box::pin(gone);
        assert!(futures_util::poll!(&mut gone).is_pending(), "queued");
    }
    open_gate.send(()).unwrap();
    assert!(holds.await.unwrap());
    assert_eq!(f.claim_one().await.key.epoch, 1, "the claim whose caller is gone took nothing");
}

#[tokio::test]
async fn a_full_disk_loses_nothing_and_recovers() {
    let Some(disk) = SmallDisk::new(1 << 20) else { return };
    let path = disk.path().join("control.db");
    let store = try_open(&path).await.unwrap();
    store.register(vec![document("first", "x")]).await.unwrap();
    let _ = std::fs::write(disk.path().join("filler"), vec![0; 700 << 10]);
    let mut registered = 1;
    let error = loop {
        let batch = (0..50).map(|i| document(&format!("{registered}-{i}"), "x")).collect();
        match store.register(batch).await {
            Ok(answers) => registered += answers.len() as u64,
            Err(error) => break error,
        }
    };
    assert!(matches!(&error, ControlError::Storage { hint, .. } if hint.contains("free some space")), "{error}");
    assert_eq!(store.counts().await.unwrap()["PENDING"], registered, "all or nothing");
    std::fs::remove_file(disk.path().join("filler")).unwrap();
    store.register(vec![document("last", "x")]).await.unwrap();
    assert_eq!(store.counts().await.unwrap()["PENDING"], registered + 1);
}

#[tokio::test]
async fn a_read_only_disk_says_what_to_do() {
    let Some(disk) = SmallDisk::new(1 << 20) else { return };
    let path = disk.path().join("control.db");
    drop(try_open(&path).await.unwrap());
    disk.make_read_only();
    let error = try_open(&path).await.err().unwrap();
    assert!(matches!(&error, ControlError::Storage { hint, .. } if hint.contains("writable")), "{error}");
}

#[tokio::test]
async fn a_store_that_is_dropped_has_written_what_was_queued() {
    let f = Fixture::new().await;
    let queued = f.store.register((0..200).map(|i| document(&i.to_string(), "x")).collect());
    {
        let mut queued = Box::pin(queued);
        assert!(futures_util::poll!(&mut queued).is_pending());
        // The future is kept alive, so that the operation does not count as one whose caller is gone.
        std::mem::forget(queued);
    }
    let Fixture { dir, clock, store } = f;
    drop(store);
    let store = open(&dir.path().join("control.db"), &clock).await;
    assert_eq!(store.counts().await.unwrap()["PENDING"], 200);
}
