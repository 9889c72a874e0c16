//! Tests several real processes that use one collection in one folder. The processes commit, merge and collect
//! concurrently, and the test kills them at random.

use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

use docweir_core::cancel::Cancel;
use docweir_core::clock::SystemClock;
use docweir_objects::lease::LeaseRegister;
use docweir_objects::local::{LocalObjectOptions, LocalObjectStore};
use docweir_testkit::processes::{child, folder_of_child};

use super::compaction::{CompactionOptions, Compactor, Mode};
use super::testing::{delete, document, id, model};
use super::*;

pub(super) fn open(folder: &Path) -> Arc<VectorStore> {
    let clock: SharedClock = Arc::new(SystemClock);
    let objects = LocalObjectStore::open(&folder.join("objects"), LocalObjectOptions::default(), &clock).unwrap();
    Arc::new(VectorStore::new(Arc::new(objects), "chunks", clock, VectorOptions::default()).unwrap())
}

pub(super) fn block_on<F: Future>(future: F) -> F::Output {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(future)
}

/// Returns the writes of process `me` in round `n`. Every round writes one document. Every third round also deletes a
/// document of an earlier round. No other process writes the same documents.
fn writes(me: u32, n: u64) -> Vec<Write> {
    let mine = |n: u64| format!("doc_{me}_{}", n % 40);
    let mut writes = vec![document(&mine(n), 2 * n + 1, &["one", "two", &format!("round {n}")])];
    if n.is_multiple_of(3) {
        writes.push(delete(&mine(n + 20), 2 * n + 1));
    }
    writes
}

/// Runs one process. The process commits round after round until it is killed, and records each acknowledged round in
/// its own file. From time to time, it acquires the lease and merges, or it collects garbage.
#[test]
fn works() {
    let Some(folder) = folder_of_child() else { return };
    let me = std::process::id();
    let log = folder.join(format!("log-{me}"));
    block_on(async {
        let store = open(&folder);
        let mut writer = store.writer();
        let options = CompactionOptions { deltas: 4, tier_factor: 3, smallest_tier_rows: 30, ..Default::default() };
        let mut compactor = Compactor::new(store.clone(), options);
        let register = LeaseRegister::new(store.objects.clone(), "vectors/chunks/LEASE".into(), store.clock.clone());
        let mut random = fastrand::Rng::new();
        for n in 0..u64::MAX {
            // There is no control store and therefore no claim, because no other process writes the same documents.
            while let Err(error) = writer.commit(writes(me, n), &model(3)).await {
                assert!(error.class().is_temporary(), "{error}");
            }
            std::fs::write(&log, (n + 1).to_string()).unwrap();
            if random.u8(..4) == 0 {
                let mode = if random.u8(..8) == 0 { Mode::All } else { Mode::Due };
                if let Some((manifest, inputs, why)) = compactor.due(mode).await.unwrap()
                    && let Ok(Some(lease)) =
                        register.acquire(&me.to_string(), Duration::from_millis(200), manifest.epoch).await
                {
                    // The inputs may be gone if another process was first.
                    if let Ok(staged) = compactor.merge(&manifest, &inputs, why, &Cancel::default()).await {
                        let _ = compactor.install(&staged, lease.record.epoch).await.unwrap();
                    }
                    let _ = register.release(&lease).await;
                }
            }
            if random.u8(..10) == 0 {
                let _ = store
                    .collect(if random.bool() { CollectionScope::Orphans } else { CollectionScope::All })
                    .await
                    .unwrap();
            }
        }
    });
}

/// Returns the expected version of each document after the first `rounds` rounds of process `me`; `None` for a
/// deleted document. `rounds` is the number of rounds that the process has recorded. A process that was killed may have
/// committed one further round, which is not included.
fn expected(me: u32, rounds: u64) -> BTreeMap<String, Option<u64>> {
    let mut expected = BTreeMap::new();
    for n in 0..rounds {
        for write in writes(me, n) {
            let version = matches!(write, Write::Upsert(_)).then(|| write.version());
            expected.insert(write.document_id().to_string(), version);
        }
    }
    expected
}

#[expect(clippy::disallowed_methods, reason = "waits for other processes, in real time")]
/// Runs `processes` processes concurrently, and kills and restarts them at random. Then checks that the collection
/// contains the writes of every acknowledged round.
fn run_and_kill(processes: usize, seconds: u64) {
    let dir = tempfile::tempdir().unwrap();
    let start = || child(module_path!(), "works", dir.path());
    let mut running: Vec<_> = (0..processes).map(|_| start()).collect();
    let mut random = fastrand::Rng::with_seed(processes as u64);
    let until = Instant::now() + Duration::from_secs(seconds);
    let (mut kills, mut looks) = (0, 0);
    let reader = open(dir.path());
    while Instant::now() < until {
        std::thread::sleep(Duration::from_millis(random.u64(50..250)));
        let one = random.usize(..processes);
        assert!(running[one].try_wait().unwrap().is_none(), "a process failed: its error is above");
        if random.bool() {
            running[one].kill().unwrap();
            running[one].wait().unwrap();
            running[one] = start();
            kills += 1;
        }
        // A concurrent reader must always see whole versions.
        let view = block_on(reader.view()).unwrap();
        for entry in view.documents() {
            assert_eq!(view.rows_of(&entry.id).len(), 3, "half a document at version {}", view.version());
        }
        looks += 1;
    }
    for mut process in running {
        process.kill().unwrap();
        process.wait().unwrap();
    }
    let store = open(dir.path());
    let view = block_on(store.view()).unwrap();
    let mut commits = 0;
    for entry in std::fs::read_dir(dir.path()).unwrap().map(|e| e.unwrap()) {
        let name = entry.file_name().into_string().unwrap();
        let Some(me) = name.strip_prefix("log-").map(|n| n.parse().unwrap()) else { continue };
        // If the process was killed while it recorded a round, only the previous round is known.
        let rounds: u64 = std::fs::read_to_string(entry.path()).unwrap().parse().unwrap_or(0);
        commits += rounds;
        let (known, unheard) = (expected(me, rounds), expected(me, rounds + 1));
        for (document, version) in known {
            let held = view.version_of(&id(&document)).map(|(v, _)| v);
            let may = unheard.get(&document).copied().flatten();
            assert!(held == version || held == may, "{document}: {held:?}, not {version:?} or {may:?}");
        }
    }
    let verified = block_on(store.verify()).unwrap();
    assert_eq!(verified.findings, []);
    let manifest = block_on(store.manifest()).unwrap().unwrap();
    println!(
        "{processes} processes, {kills} kills, {commits} commits, {looks} views, version {}, epoch {}",
        manifest.version, manifest.epoch
    );
    assert!(commits > 20 && manifest.epoch > 0, "too little happened: {commits} commits, epoch {}", manifest.epoch);
    // After a collection, no staged files of killed processes remain.
    block_on(store.collect(CollectionScope::All)).unwrap();
    let verified = block_on(store.verify()).unwrap();
    assert_eq!((verified.findings, verified.orphans), (vec![], vec![]));
}

fn seconds() -> u64 {
    std::env::var("DOCWEIR_TEST_SECONDS").ok().map_or(4, |n| n.parse().unwrap())
}

#[test]
fn two_processes_commit_merge_and_collect_at_once() {
    run_and_kill(2, seconds());
}

#[test]
fn four_processes_commit_merge_and_collect_at_once() {
    run_and_kill(4, seconds());
}
