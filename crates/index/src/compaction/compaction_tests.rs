//! Tests merges with the production code, one guarantee per test. Docweir replaces an older receipt system. The known
//! defects of the older system are numbered. A test named `r01_…` covers defect 1 of the older system, and so on.
//! Defects 2, 4 and 9 are covered by the tests of the lease, the lock and the compactor. Defect 11 is covered in
//! `tests/pipeline/store.rs`.

use docweir_objects::memory::Faults;

use super::*;
use crate::manifest::FileKind;
use crate::testing::{delete, document, id, model, objects, run, store};
use crate::{CollectionWriter, Mode as SearchMode, SearchRequest, Write};

fn commit(writer: &mut CollectionWriter, writes: Vec<Write>) {
    run(writer.commit(writes, &model(3))).unwrap();
}

fn compactor(store: &Arc<VectorStore>) -> Compactor {
    Compactor::seeded(store.clone(), CompactionOptions { deltas: 2, ..CompactionOptions::default() }, 7)
}

/// Commits two deltas with one document each.
fn two_deltas(s: &Arc<VectorStore>) -> CollectionWriter {
    let mut writer = s.writer_seeded(1);
    commit(&mut writer, vec![document("doc_a", 1, &["x"])]);
    commit(&mut writer, vec![document("doc_b", 1, &["y"])]);
    writer
}

fn staged(compactor: &mut Compactor, mode: Mode) -> Staged {
    let (manifest, inputs, why) = run(compactor.due(mode)).unwrap().unwrap();
    run(compactor.merge(&manifest, &inputs, why, &Cancel::default())).unwrap()
}

fn texts(store: &VectorStore, document: &str) -> Vec<String> {
    run(store.view()).unwrap().rows_of(&id(document)).into_iter().map(|r| r.text).collect()
}

#[test]
fn a_compaction_changes_the_files_and_nothing_that_is_seen() {
    let s = store(&objects(0, Faults::default()));
    let mut writer = s.writer_seeded(1);
    commit(&mut writer, vec![document("doc_a", 1, &["old lease"]), document("doc_b", 1, &["fence", "row"])]);
    commit(&mut writer, vec![document("doc_a", 2, &["new lease", "epoch"]), delete("doc_c", 3)]);
    commit(&mut writer, vec![document("doc_c", 2, &["never to be seen"])]);
    let request = |text: &str, mode| SearchRequest { mode, ..SearchRequest::new(text, Some(vec![1.0, 0.0, 0.2]), 10) };
    let look = |s: &VectorStore| {
        let view = run(s.view()).unwrap();
        let modes = [SearchMode::Vector, SearchMode::FullText, SearchMode::default()];
        modes.map(|mode| view.search(&request("lease row", mode)).unwrap())
    };
    let before = look(&s);
    let mut c = compactor(&s);
    let merged = staged(&mut c, Mode::All);
    assert_eq!((merged.report.input_rows, merged.report.output_rows), (6, 4));
    assert_eq!(run(c.install(&merged, 1)).unwrap(), Installed::Yes(4));
    assert_eq!(look(&s), before, "the scores are equal too");
    let manifest = run(s.manifest()).unwrap().unwrap();
    assert_eq!((manifest.live.len(), manifest.live[0].kind, manifest.removed.len()), (1, FileKind::Snapshot, 3));
    assert_eq!(run(s.view()).unwrap().high_water(&id("doc_c")), Some(3), "the tombstone is kept");
    assert_eq!(run(s.verify()).unwrap().findings, []);
}

#[test]
fn one_call_merges_everything_once() {
    let s = store(&objects(0, Faults::default()));
    two_deltas(&s);
    let report = run(s.compact()).unwrap().unwrap();
    assert_eq!((report.input_files, report.output_rows), (2, 2));
    assert_eq!((texts(&s, "doc_a"), texts(&s, "doc_b")), (vec!["x".to_owned()], vec!["y".to_owned()]));
    assert_eq!(run(s.compact()).unwrap(), None);
}

#[test]
fn commits_go_on_while_files_are_merged() {
    let s = store(&objects(0, Faults::default()));
    let mut writer = two_deltas(&s);
    let mut c = compactor(&s);
    let merged = staged(&mut c, Mode::All);
    commit(&mut writer, vec![document("doc_a", 2, &["newer"]), delete("doc_b", 2)]);
    assert!(matches!(run(c.install(&merged, 1)).unwrap(), Installed::Yes(_)));
    assert_eq!((texts(&s, "doc_a"), texts(&s, "doc_b")), (vec!["newer".to_owned()], vec![]));
}

#[test]
fn groups_that_do_not_fit_the_memory_are_merged_first() {
    let o = objects(0, Faults::default());
    let s = store(&o);
    let mut writer = s.writer_seeded(1);
    for n in 0..6 {
        commit(&mut writer, vec![document(&format!("doc_{n}"), 1, &["one", "two"])]);
    }
    let options = CompactionOptions { memory_bytes: 40_000, threads: 2, ..CompactionOptions::default() };
    let mut c = Compactor::seeded(s.clone(), options, 3);
    let merged = staged(&mut c, Mode::All);
    assert!(merged.report.written_bytes > merged.report.output_bytes, "there were intermediate files");
    run(c.install(&merged, 1)).unwrap();
    let files: Vec<String> = o.keys().into_iter().filter(|k| k.contains("/snap/")).collect();
    assert_eq!(files.len(), 1, "the intermediate files are deleted: {files:?}");
    assert_eq!(run(s.view()).unwrap().len(), 12);
}

/// Covers defect 1 of the former system. Each batch had its own lock, so two merges of one collection ran
/// concurrently and one update was lost.
#[test]
fn r01_of_two_merges_of_the_same_files_one_wins_and_nothing_is_lost() {
    let s = store(&objects(0, Faults::default()));
    two_deltas(&s);
    let mut c = compactor(&s);
    let (first, second) = (staged(&mut c, Mode::All), staged(&mut c, Mode::All));
    assert!(matches!(run(c.install(&first, 1)).unwrap(), Installed::Yes(_)));
    assert!(matches!(run(c.install(&second, 1)).unwrap(), Installed::Superseded(Refusal::InputNotLive(_))));
    run(c.discard(second));
    assert_eq!((texts(&s, "doc_a"), texts(&s, "doc_b")), (vec!["x".to_owned()], vec!["y".to_owned()]));
    assert_eq!(run(s.verify()).unwrap().orphans, Vec::<String>::new());
}

/// Covers defect 3 of the former system. The snapshot pointer was written unconditionally, so a suspended process
/// overwrote a newer snapshot.
#[test]
fn r03_a_stalled_holder_does_not_write_over_a_newer_snapshot() {
    let s = store(&objects(0, Faults::default()));
    let mut writer = two_deltas(&s);
    let (mut slow, mut fast) = (compactor(&s), Compactor::seeded(s.clone(), CompactionOptions::default(), 8));
    let stalled = staged(&mut slow, Mode::All);
    commit(&mut writer, vec![document("doc_c", 1, &["z"])]);
    // Another process takes over the lease: a higher epoch, and a newer snapshot of all three.
    let newer = staged(&mut fast, Mode::All);
    let installed = run(fast.install(&newer, 2)).unwrap();
    assert!(matches!(installed, Installed::Yes(_)));
    assert!(matches!(run(slow.install(&stalled, 1)).unwrap(), Installed::Superseded(Refusal::StaleEpoch { .. })));
    assert_eq!(run(s.view()).unwrap().len(), 3);
}

/// Covers defect 5 of the former system. The failure of a merge was not raised as an error, and batches were marked
/// complete with an empty snapshot.
#[test]
fn r05_a_merge_that_fails_is_an_error_and_leaves_everything_as_it_was() {
    let o = objects(0, Faults::default());
    let s = store(&o);
    two_deltas(&s);
    let mut c = compactor(&s);
    let (manifest, inputs, why) = run(c.due(Mode::All)).unwrap().unwrap();
    // A delta is damaged on the disk. It must not be merged into a snapshot with a valid checksum.
    assert!(o.tamper(&format!("vectors/chunks/{}", inputs[0].file), |b| b[40] ^= 1));
    let error = run(c.merge(&manifest, &inputs, why, &Cancel::default())).unwrap_err();
    assert!(matches!(error, VectorError::Damaged { .. }), "{error}");
    let cancelled = Cancel::default();
    cancelled.cancel();
    let error = run(c.merge(&manifest, &inputs, why, &cancelled)).unwrap_err();
    assert!(matches!(error, VectorError::Cancelled { .. }), "{error}");
    assert_eq!(run(s.manifest()).unwrap().unwrap(), manifest);
    assert!(o.keys().iter().all(|k| !k.contains("/snap/")), "nothing is left behind");
}

/// Checks that a result which was written but cannot be opened does not stay behind.
#[test]
fn the_result_of_a_merge_that_fails_late_is_discarded() {
    let o = objects(0, Faults::default());
    let s = store(&o);
    two_deltas(&s);
    let mut c = compactor(&s);
    let (manifest, inputs, why) = run(c.due(Mode::All)).unwrap().unwrap();
    let cancel = Cancel::default();
    let mut merge = std::pin::pin!(c.merge(&manifest, &inputs, why, &cancel));
    while !o.keys().iter().any(|k| k.contains("/snap/")) {
        assert!(crate::testing::poll_some(&mut merge, 1).is_none());
    }
    o.set_faults(Faults { fail_read: 1.0, ..Faults::default() });
    assert!(run(merge).is_err());
    assert!(o.keys().iter().all(|k| !k.contains("/snap/")), "{:?}", o.keys());
}

#[test]
fn a_live_file_that_is_gone_is_damage_and_nobody_elses_work() {
    let o = objects(0, Faults::default());
    let s = store(&o);
    two_deltas(&s);
    let mut c = compactor(&s);
    let (manifest, inputs, why) = run(c.due(Mode::All)).unwrap().unwrap();
    let key = o.keys().into_iter().find(|k| k.ends_with(".parquet")).unwrap();
    run(docweir_objects::ObjectStore::delete(&*o, &key)).unwrap();
    let e = run(c.merge(&manifest, &inputs, why, &Cancel::default())).unwrap_err().to_string();
    assert!(e.contains(&key) && e.contains("is missing"), "{e}");
}

/// Covers defect 6 of the former system. One invalid row in a result file stopped the whole run.
#[test]
fn r06_a_bad_row_fails_its_own_document_and_no_other() {
    let s = store(&objects(0, Faults::default()));
    let Write::Upsert(mut bad) = document("doc_bad", 1, &["x"]) else { unreachable!() };
    bad.rows[0].vector = vec![f32::NAN; 3];
    let writes = [document("doc_a", 1, &["x"]), Write::Upsert(bad), document("doc_b", 1, &["y"])];
    let options = crate::VectorOptions::default();
    let (good, bad): (Vec<_>, Vec<_>) =
        writes.into_iter().partition(|w| w.check(&model(3), &options.capabilities()).is_ok());
    assert_eq!((good.len(), bad.len()), (2, 1), "the check rejects it before it joins a group");
    commit(&mut s.writer_seeded(1), good);
    assert_eq!(run(s.view()).unwrap().len(), 2);
    // A commit without the check is refused as a whole, never applied in part.
    assert!(run(s.writer_seeded(2).commit(bad, &model(3))).is_err());
}

/// Covers defect 7 of the former system. An item was deleted or changed while its vector was being computed, and the
/// outdated vector was stored nevertheless.
#[test]
fn r07_a_vector_of_what_was_replaced_or_deleted_meanwhile_is_never_seen() {
    for merged in [false, true] {
        let s = store(&objects(0, Faults::default()));
        let (mut slow, mut fast) = (s.writer_seeded(1), s.writer_seeded(2));
        commit(&mut fast, vec![document("doc_a", 1, &["first"]), document("doc_b", 1, &["first"])]);
        let base = run(slow.begin()).unwrap();
        commit(&mut fast, vec![document("doc_a", 3, &["changed"]), delete("doc_b", 3)]);
        if merged {
            run(s.collect(crate::CollectionScope::Orphans)).unwrap();
            let mut c = compactor(&s);
            let staged = staged(&mut c, Mode::All);
            assert_eq!(staged.report.dropped_tombstones, 1, "now only the base can prevent the stale commit");
            run(c.install(&staged, 1)).unwrap();
        }
        let stale = vec![document("doc_a", 2, &["stale"]), document("doc_b", 2, &["stale"])];
        let late = run(slow.commit_on(base, stale, &model(3)));
        assert_eq!(late.is_err(), merged, "{late:?}");
        assert_eq!((texts(&s, "doc_a"), texts(&s, "doc_b")), (vec!["changed".to_owned()], vec![]));
    }
}

/// Covers defect 8 of the former system. A batch that contained only stale items never completed.
#[test]
fn r08_a_commit_of_nothing_but_stale_documents_is_acknowledged_and_changes_nothing() {
    let s = store(&objects(0, Faults::default()));
    let mut writer = s.writer_seeded(1);
    commit(&mut writer, vec![document("doc_a", 5, &["new"]), delete("doc_b", 5)]);
    commit(&mut writer, vec![document("doc_a", 4, &["stale"]), document("doc_b", 4, &["stale"])]);
    assert_eq!((texts(&s, "doc_a"), texts(&s, "doc_b")), (vec!["new".to_owned()], vec![]));
    let mut c = compactor(&s);
    let merged = staged(&mut c, Mode::All);
    assert_eq!((merged.report.input_rows, merged.report.output_rows), (3, 1));
    run(c.install(&merged, 1)).unwrap();
    assert_eq!(run(s.view()).unwrap().len(), 1);
}

/// Covers defect 10 of the former system. The store accepted more rows than its limit and silently dropped the
/// surplus.
#[test]
fn r10_what_is_over_a_limit_is_refused_and_not_dropped() {
    let o = objects(0, Faults::default());
    let options = crate::VectorOptions { max_commit_rows: 3, ..Default::default() };
    let s = crate::testing::store_with(&o, options);
    let four = document("doc_a", 1, &["1", "2", "3", "4"]);
    let error = run(s.writer_seeded(1).commit(vec![four], &model(3))).unwrap_err();
    assert!(matches!(error, VectorError::TooLarge { .. }), "{error}");
    assert!(run(s.manifest()).unwrap().is_none());
    commit(&mut s.writer_seeded(2), vec![document("doc_a", 1, &["1", "2", "3"])]);
    assert_eq!(run(s.view()).unwrap().len(), 3);
}

/// Covers defect 12 of the former system. If a batch deleted and inserted the same id, the deletion was always
/// applied last.
#[test]
fn r12_in_one_commit_the_highest_version_of_a_document_wins() {
    for (writes, left) in [
        (vec![delete("doc_a", 2), document("doc_a", 3, &["new"])], vec!["new".to_owned()]),
        (vec![document("doc_a", 3, &["new"]), delete("doc_a", 2)], vec!["new".to_owned()]),
        (vec![document("doc_a", 2, &["old"]), delete("doc_a", 3)], vec![]),
    ] {
        let s = store(&objects(0, Faults::default()));
        let mut writer = s.writer_seeded(1);
        commit(&mut writer, vec![document("doc_a", 1, &["first"])]);
        commit(&mut writer, writes);
        assert_eq!(texts(&s, "doc_a"), left);
        let mut c = compactor(&s);
        let merged = staged(&mut c, Mode::All);
        run(c.install(&merged, 1)).unwrap();
        assert_eq!(texts(&s, "doc_a"), left, "also after a merge");
    }
}

#[test]
fn a_tombstone_goes_when_nothing_can_come_that_it_hides() {
    let s = store(&objects(0, Faults::default()));
    let mut writer = s.writer_seeded(1);
    commit(&mut writer, vec![document("doc_a", 1, &["x"]), document("doc_b", 1, &["y"])]);
    commit(&mut writer, vec![delete("doc_a", 2)]);
    let mut c = compactor(&s);
    let first = staged(&mut c, Mode::All);
    assert_eq!(first.report.dropped_tombstones, 0, "the floor is below it");
    run(c.discard(first));
    run(s.collect(crate::CollectionScope::Orphans)).unwrap();
    let second = staged(&mut c, Mode::All);
    assert_eq!(second.report.dropped_tombstones, 1);
    run(c.install(&second, 1)).unwrap();
    assert_eq!(run(s.view()).unwrap().high_water(&id("doc_a")), None);
    commit(&mut writer, vec![delete("doc_b", 2)]);
    run(s.collect(crate::CollectionScope::Orphans)).unwrap();
    let nothing = staged(&mut c, Mode::All);
    assert!(nothing.snapshot.is_none());
    run(c.install(&nothing, 1)).unwrap();
    assert!(run(s.manifest()).unwrap().unwrap().live.is_empty());
    assert!(run(s.view()).unwrap().is_empty());
}

/// Checks that a merge keeps the age of each tombstone. If a merge made tombstones young again, a collection that is
/// merged often would never drop any.
#[test]
fn a_tombstone_keeps_its_age_through_merges() {
    let o = objects(0, Faults::default());
    let s = store(&o);
    let mut writer = s.writer_seeded(1);
    let texts = ["doc_a", "doc_b", "doc_c"].map(|name| document(name, 1, &["x"]));
    commit(&mut writer, texts.into());
    commit(&mut writer, vec![delete("doc_a", 2)]);
    o.clock().advance(Duration::from_secs(100));
    commit(&mut writer, vec![delete("doc_b", 2)]);
    let mut c = compactor(&s);
    let merge = |c: &mut Compactor| {
        let merged = staged(c, Mode::All);
        assert!(matches!(run(c.install(&merged, 1)).unwrap(), Installed::Yes(_)));
        merged.report.dropped_tombstones
    };
    assert_eq!(merge(&mut c), 0, "the floor is below both");
    assert_eq!(run(c.due(Mode::All)).unwrap(), None, "rewriting the snapshot would not drop a tombstone");
    // Now the floor rises to version 2, which has added the first tombstone.
    o.clock().advance(Duration::from_secs(60));
    let retention = crate::retention::RetentionOptions { staged_seconds: 100, ..Default::default() };
    run(s.collect(crate::CollectionScope::Due(retention))).unwrap();
    assert_eq!(run(s.manifest()).unwrap().unwrap().gc_floor, 2);
    commit(&mut writer, vec![document("doc_d", 1, &["x"])]);
    assert_eq!(merge(&mut c), 1);
    let view = run(s.view()).unwrap();
    assert_eq!((view.high_water(&id("doc_a")), view.high_water(&id("doc_b"))), (None, Some(2)));
    // A second merge keeps the age of the other tombstone too.
    o.clock().advance(Duration::from_secs(60));
    run(s.collect(crate::CollectionScope::Due(retention))).unwrap();
    assert_eq!(run(s.manifest()).unwrap().unwrap().gc_floor, 4);
    commit(&mut writer, vec![document("doc_e", 1, &["x"])]);
    assert_eq!(merge(&mut c), 1);
    assert_eq!(run(s.view()).unwrap().high_water(&id("doc_b")), None);
    assert_eq!(run(s.verify()).unwrap().findings, []);
}

/// Covers defect 13 of the former system. Merging 1,856 vectors of 1,536 dimensions took 7.8 GB of memory. The merge
/// runs in its own process, so that its memory can be measured.
#[test]
fn r13_a_merge_takes_about_as_much_memory_as_its_data() {
    use docweir_testkit::processes::{child, folder_of_child};

    use crate::process_tests::{block_on, open};
    use crate::testing::{row, unit};

    if let Some(folder) = folder_of_child() {
        let peak = block_on(async {
            let mut c = Compactor::new(open(&folder), CompactionOptions::default());
            let (manifest, inputs, why) = c.due(Mode::All).await.unwrap().unwrap();
            let staged = c.merge(&manifest, &inputs, why, &Cancel::default()).await.unwrap();
            assert!(matches!(c.install(&staged, 1).await.unwrap(), Installed::Yes(_)));
            staged.report.peak_memory_bytes
        });
        std::fs::write(folder.join("peak"), peak.to_string()).unwrap();
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let store = open(dir.path());
    let mut random = fastrand::Rng::with_seed(1);
    let mut vector = || unit(&(0..1_536).map(|_| random.f32() - 0.5).collect::<Vec<_>>());
    block_on(async {
        let mut writer = store.writer();
        for delta in 0..20 {
            let one = |n: u32| {
                let name = format!("doc_{delta}_{n}");
                let Write::Upsert(mut document) = document(&name, 1, &[]) else { unreachable!() };
                document.rows = vec![row(&name, 1, 0, "a line of a receipt", vector())];
                Write::Upsert(document)
            };
            writer.commit((0..93).map(one).collect(), &model(1_536)).await.unwrap();
        }
    });
    let name = "r13_a_merge_takes_about_as_much_memory_as_its_data";
    assert!(child(module_path!(), name, dir.path()).wait().unwrap().success());
    let peak: u64 = std::fs::read_to_string(dir.path().join("peak")).unwrap().parse().unwrap();
    assert!(peak > 10_000_000 && peak <= 48 << 20, "{peak} bytes");
}
