//! Tests concurrent use: several stores on one file, and processes that are killed.

use std::collections::{HashMap, HashSet};

use docweir_core::clock::SystemClock;
use docweir_testkit::processes::{child, folder_of_child};

use super::*;

async fn open_real(path: &Path) -> SqliteControlStore {
    SqliteControlStore::open(path, SqliteControlOptions::default(), Arc::new(SystemClock)).await.unwrap()
}

#[test]
fn two_stores_on_one_file_never_claim_one_document_in_one_epoch() {
    const DOCUMENTS: usize = 300;
    let runtime = || tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.db");
    runtime().block_on(async {
        let store = open_real(&path).await;
        store.register((0..DOCUMENTS).map(|i| document(&i.to_string(), "x")).collect()).await.unwrap();
    });
    let threads: Vec<_> = (0..2)
        .map(|n| {
            let path = path.clone();
            std::thread::spawn(move || {
                runtime().block_on(async {
                    let store = open_real(&path).await;
                    let owner = format!("owner-{n}");
                    let mut claimed = Vec::new();
                    loop {
                        let claims = store.claim(&owner, LEASE, 3, None).await.unwrap();
                        if claims.is_empty() {
                            return claimed;
                        }
                        for claim in claims {
                            store.apply(&claim.key, started(Stage::Extraction)).await.unwrap();
                            claimed.push(claim.key);
                        }
                    }
                })
            })
        })
        .collect();
    let claimed: Vec<_> = threads.into_iter().flat_map(|t| t.join().unwrap()).collect();
    assert_eq!(claimed.len(), DOCUMENTS);
    assert_eq!(claimed.iter().map(|c| &c.id).collect::<HashSet<_>>().len(), DOCUMENTS);
}

#[test]
fn many_stores_may_be_the_first_to_open() {
    let dir = tempfile::tempdir().unwrap();
    let threads: Vec<_> = (0..8)
        .map(|n| {
            let path = dir.path().join("control.db");
            std::thread::spawn(move || {
                let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
                runtime.block_on(async {
                    let store = open_real(&path).await;
                    store.register(vec![document(&n.to_string(), "x")]).await.unwrap();
                })
            })
        })
        .collect();
    for thread in threads {
        thread.join().unwrap();
    }
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = open_real(&dir.path().join("control.db")).await;
        assert_eq!(store.counts().await.unwrap()["PENDING"], 8);
    });
}

#[test]
fn works_until_killed() {
    let Some(folder) = folder_of_child() else { return };
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let store = open_real(&folder.join("control.db")).await;
        let owner = format!("owner-{}", std::process::id());
        store.expire_leases_of_others(&owner).await.unwrap();
        for round in 0.. {
            let name = |i: u32| format!("{}-{round}-{i}", std::process::id());
            store.register((0..8).map(|i| document(&name(i), "x")).collect()).await.unwrap();
            let claims = store.claim(&owner, LEASE, 16, None).await.unwrap();
            futures_util::future::join_all(claims.iter().map(|c| finish(&store, c))).await;
        }
    });
}

#[tokio::test]
async fn what_was_acknowledged_is_there_after_a_kill_at_any_moment() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("control.db");
    for round in 0..5 {
        let mut worker = child(module_path!(), "works_until_killed", dir.path());
        let before = std::fs::metadata(&path).map_or(0, |m| m.len());
        // Wait until the worker has written something, then kill it at a random moment.
        for _ in 0..500 {
            let now = std::fs::metadata(dir.path().join("control.db-wal")).map_or(0, |m| m.len());
            if now > 200_000 || std::fs::metadata(&path).map_or(0, |m| m.len()) > before + 100_000 {
                break;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        tokio::time::sleep(Duration::from_millis(fastrand::u64(0..100))).await;
        worker.kill().unwrap();
        worker.wait().unwrap();
        let db = rusqlite::Connection::open(&path).unwrap();
        let sound: String = db.query_row("PRAGMA integrity_check", [], |r| r.get(0)).unwrap();
        assert_eq!(sound, "ok", "round {round}");
    }
    let store = open_real(&path).await;
    assert!(store.counts().await.unwrap()["COMPLETED"] > 0, "the workers did nothing");
    store.expire_leases_of_others("me").await.unwrap();
    loop {
        let claims = store.claim("me", LEASE, 100, None).await.unwrap();
        if claims.is_empty() {
            break;
        }
        for claim in &claims {
            finish(&store, claim).await.unwrap();
        }
    }
    let all = store.list(&RecordFilter::default(), None, 1_000_000).await.unwrap();
    assert!(all.iter().all(|r| r.status == DocumentStatus::Completed && r.version == 1 && r.loaded_version == Some(1)));
    let processed: f64 = rusqlite::Connection::open(&path)
        .unwrap()
        .query_row("SELECT sum(value) FROM pipeline_metrics_daily WHERE metric_type = 'DocumentsProcessed'", [], |r| {
            r.get(0)
        })
        .unwrap();
    assert_eq!(processed, all.len() as f64, "each is counted once");
    for record in &all {
        let audit_log = store.audit(&record.document_id, None, 1000).await.unwrap();
        let mut count: HashMap<&str, u32> = HashMap::new();
        let mut epoch = 0;
        for event in &audit_log {
            *count.entry(&event.event_type).or_default() += 1;
            let this = event.metadata["epoch"].as_u64().unwrap();
            assert!(this >= epoch, "{audit_log:#?}");
            epoch = this;
        }
        assert_eq!((count["DOCUMENT_RECEIVED"], count["DOCUMENT_COMPLETED"]), (1, 1), "{audit_log:#?}");
        assert_eq!((count["STAGE_COMPLETED"], u64::from(count["STATUS_CHANGE"])), (5, epoch), "{audit_log:#?}");
    }
}

#[tokio::test]
async fn concurrent_callers_share_commits_and_each_gets_its_own_answer() {
    let f = Fixture::new().await;
    for i in 0..16 {
        f.register_one(&i.to_string()).await;
    }
    let claims = f.store.claim("o", LEASE, 16, None).await.unwrap();
    let stale = ClaimKey { epoch: 0, ..claims[0].key.clone() };
    let keys: Vec<_> = claims.iter().flat_map(|c| [c.key.clone(), stale.clone()]).collect();
    let answers =
        futures_util::future::join_all(keys.iter().map(|k| f.store.apply(k, started(Stage::Extraction)))).await;
    for (i, answer) in answers.iter().enumerate() {
        assert_eq!(answer.is_ok(), i % 2 == 0, "{i}: {answer:?}");
    }
    for claim in &claims {
        assert_eq!(f.store.record(&claim.key.id).await.unwrap().interruptions, 1);
    }
}
