//! Tests interrupted commits. Each test covers one kind of interruption at every await point: the future is dropped,
//! another process changes the manifest first, or the commit is refused.

use std::pin::pin;
use std::sync::Arc;

use bytes::Bytes;
use docweir_core::error::ErrorClass;
use docweir_objects::memory::{Faults, MemoryObjects};
use docweir_objects::{Durability, Precondition};

use super::manifest::FileKind;
use super::retention::{Horizons, may_raise};
use super::testing::{delete, document, id, model, objects, poll_some, run, store, store_with};
use super::validate::{self, Install, Stamp};
use super::*;

const STAMP: Stamp = Stamp { now: 0, history_entries: 256 };

#[test]
fn a_commit_dropped_at_any_wait_is_whole_or_not_there() {
    let (mut applied, mut absent) = (0, 0);
    for polls in 0.. {
        let o = objects(0, Faults::default());
        let s = store(&o);
        let mut writer = s.writer_seeded(1);
        let m = model(3);
        run(writer.commit(vec![document("doc_a", 1, &["old"])], &m)).unwrap();
        let writes = vec![document("doc_a", 2, &["new", "new"]), document("doc_b", 2, &["b"]), delete("doc_c", 2)];
        let done = {
            let mut commit = pin!(writer.commit(writes, &m));
            poll_some(&mut commit, polls).map(Result::unwrap)
        };
        let view = run(s.view()).unwrap();
        match view.version_of(&id("doc_b")) {
            Some(_) => {
                applied += 1;
                assert_eq!((view.version_of(&id("doc_a")), view.len()), (Some((2, 2)), 3));
            }
            None => {
                absent += 1;
                assert!(done.is_none());
                assert_eq!((view.version_of(&id("doc_a")), view.len()), (Some((1, 1)), 1));
            }
        }
        let deltas = o.keys().iter().filter(|k| k.ends_with(".parquet")).count();
        assert!(deltas - view.manifest().live.len() <= 1, "at most one orphan");
        // The same writer can continue, whatever the outcome of the dropped commit.
        run(writer.commit(vec![document("doc_b", 3, &["x"])], &m)).unwrap();
        assert_eq!(run(s.view()).unwrap().version_of(&id("doc_b")), Some((3, 1)));
        if done.is_some() {
            break;
        }
    }
    assert!(applied >= 1 && absent >= 4, "{applied} applied, {absent} absent: the drops must cause both");
}

#[test]
fn a_commit_that_others_overtake_at_any_wait_still_lands() {
    for polls in 0.. {
        let s = store(&objects(0, Faults::default()));
        let (mut slow, mut fast) = (s.writer_seeded(1), s.writer_seeded(2));
        let m = model(3);
        let mut commit = pin!(slow.commit(vec![document("doc_a", 2, &["slow"])], &m));
        let early = poll_some(&mut commit, polls);
        run(fast.commit(vec![document("doc_a", 3, &["fast"]), document("doc_b", 1, &["b"])], &m)).unwrap();
        let finished = early.is_some();
        if !finished {
            let committed = run(commit).unwrap();
            let view = run(s.view()).unwrap();
            let added = view.manifest().live.iter().find(|f| f.file == committed.file).map(|f| f.added_version);
            assert_eq!(added, Some(committed.version));
        }
        let view = run(s.view()).unwrap();
        assert_eq!((view.version(), view.manifest().live.len()), (2, 2));
        assert_eq!(view.version_of(&id("doc_a")), Some((3, 1)), "the highest version, not the last commit");
        if finished {
            assert!(polls > 4);
            break;
        }
    }
}

/// Replaces the manifest, as another process would.
fn replace_manifest(objects: &Arc<MemoryObjects>, change: impl FnOnce(&Manifest) -> Manifest) {
    let s = store(objects);
    let before = run(s.manifest()).unwrap().unwrap();
    let body = Bytes::from(change(&before).to_bytes());
    run(docweir_objects::ObjectStore::put(
        &**objects,
        "vectors/chunks/MANIFEST",
        body,
        Precondition::None,
        Durability::Durable,
    ))
    .unwrap();
}

fn staged(objects: &MemoryObjects) -> usize {
    objects.keys().iter().filter(|k| k.ends_with(".parquet")).count()
}

#[test]
fn a_commit_that_the_collector_has_overtaken_is_refused_for_good() {
    let (mut stalled, mut landed) = (0, 0);
    for polls in 0.. {
        let o = objects(0, Faults::default());
        let s = store(&o);
        let m = model(3);
        run(s.writer_seeded(9).commit(vec![document("doc_z", 1, &["z"])], &m)).unwrap();
        let mut slow = s.writer_seeded(1);
        let mut commit = pin!(slow.commit(vec![document("doc_a", 1, &["slow"])], &m));
        let early = poll_some(&mut commit, polls);
        run(s.writer_seeded(2).commit(vec![delete("doc_a", 2)], &m)).unwrap();
        replace_manifest(&o, |m| {
            let to = Horizons { gc_floor: m.version, ..m.horizons() };
            may_raise(m, to, "gc", STAMP).unwrap()
        });
        if early.is_some() {
            break;
        }
        match run(commit) {
            // The commit began after the floor rose, or its swap was applied before: both are correct.
            Ok(_) => landed += 1,
            Err(e) => {
                stalled += 1;
                assert!(matches!(e, VectorError::Stalled { .. }) && e.class() == ErrorClass::Unavailable, "{e}");
                assert!(e.to_string().contains("still wanted"), "{e}");
            }
        }
        assert_eq!(run(s.view()).unwrap().version_of(&id("doc_a")), None, "polls {polls}");
    }
    assert!(stalled > 0 && landed > 0, "{stalled} stalled, {landed} landed");
}

/// Covers a failure that sequence numbers prevent. A writer does not receive the reply to its commit, and a merge
/// then replaces the delta of this commit. Without sequence numbers, the writer would then append the same commit a
/// second time.
#[test]
fn a_lost_reply_is_known_even_after_the_delta_was_merged_away() {
    let o = objects(0, Faults::default());
    let s = store(&o);
    let m = model(3);
    let mut writer = s.writer_seeded(1);
    let mut commit = pin!(writer.commit(vec![document("doc_a", 1, &["x"])], &m));
    while staged(&o) == 0 {
        assert!(poll_some(&mut commit, 1).is_none());
    }
    o.set_faults(Faults { lost_reply: 1.0, ..Faults::default() });
    while !o.keys().iter().any(|k| k.ends_with("MANIFEST")) {
        assert!(poll_some(&mut commit, 1).is_none());
    }
    o.set_faults(Faults::default());
    replace_manifest(&o, |m| {
        let snapshot = validate::proposed("snap/s".into(), FileKind::Snapshot, 1, m.version);
        let inputs = m.live.iter().map(|f| f.file.clone()).collect();
        validate::may_install_snapshot(
            m,
            &Install { snapshot: Some(snapshot), base_version: m.version, inputs, epoch: 1, commit_id: "c".into() },
            STAMP,
        )
        .unwrap()
    });
    let committed = run(commit).unwrap();
    let manifest = run(s.manifest()).unwrap().unwrap();
    assert_eq!((committed.version, manifest.version), (1, 2));
    assert_eq!(manifest.live.iter().map(|f| f.file.as_str()).collect::<Vec<_>>(), ["snap/s"]);
}

#[test]
fn tries_are_bounded_and_the_error_says_what_is_known() {
    let m = model(3);
    let short = VectorOptions { commit_attempts: 1, ..VectorOptions::default() };
    for lost in [true, false] {
        let o = objects(0, Faults::default());
        let s = store_with(&o, short.clone());
        let mut writer = s.writer_seeded(1);
        let mut commit = pin!(writer.commit(vec![document("doc_a", 1, &["x"])], &m));
        while staged(&o) == 0 {
            assert!(poll_some(&mut commit, 1).is_none());
        }
        if lost {
            o.set_faults(Faults { lost_request: 1.0, ..Faults::default() });
        } else {
            run(s.writer_seeded(2).commit(vec![document("doc_b", 1, &["y"])], &m)).unwrap();
        }
        let e = run(commit).unwrap_err();
        match lost {
            true => assert!(matches!(e, VectorError::Unresolved { .. }), "{e}"),
            false => assert!(matches!(e, VectorError::Contention { .. }) && e.class() == ErrorClass::Throttled, "{e}"),
        }
        assert!(run(s.view()).unwrap().version_of(&id("doc_a")).is_none());
    }
    let s = store_with(&objects(0, Faults { fail_before: 1.0, ..Faults::default() }), short);
    assert!(matches!(run(s.writer().commit(vec![delete("doc_a", 1)], &m)), Err(VectorError::Object(_))));
}

#[test]
fn models_never_mix_not_even_in_a_race_for_the_first_commit() {
    let other = docweir_core::model::ModelIdentity { weights: "other".into(), ..model(3) };
    let o = objects(0, Faults::default());
    let s = store(&o);
    let (mut a, mut b) = (s.writer_seeded(1), s.writer_seeded(2));
    let m = model(3);
    {
        let mut first = pin!(a.commit(vec![document("doc_a", 1, &["x"])], &m));
        while staged(&o) == 0 {
            assert!(poll_some(&mut first, 1).is_none());
        }
        run(b.commit(vec![document("doc_b", 1, &["y"])], &other)).unwrap();
        let e = run(first).unwrap_err();
        assert!(matches!(e, VectorError::ModelMismatch { .. }) && e.class() == ErrorClass::System, "{e}");
        assert!(e.to_string().contains("set the embedding model back"), "{e}");
    }
    assert!(run(s.check_model(&m)).is_err());
    run(s.check_model(&other)).unwrap();
    let operations = o.operations();
    assert!(run(a.commit(vec![document("doc_a", 1, &["x"])], &m)).is_err());
    assert_eq!(o.operations() - operations, 1, "refused after reading the manifest, before anything is written");
    run(a.commit(vec![delete("doc_b", 2)], &m)).unwrap();
    assert!(run(s.view()).unwrap().is_empty(), "a delete needs no model");
}

#[test]
fn a_manifest_of_a_newer_program_stops_reader_and_writer() {
    let o = objects(0, Faults::default());
    let s = store(&o);
    run(s.writer().commit(vec![document("doc_a", 1, &["x"])], &model(3))).unwrap();
    let before = o.keys();
    assert!(o.tamper("vectors/chunks/MANIFEST", |b| {
        *b = String::from_utf8_lossy(b).replacen("\"format\":2", "\"format\":3", 1).into_bytes();
    }));
    // Use a store that has not cached anything, because the tag of the manifest is unchanged.
    let s = store(&o);
    for e in [
        run(s.view()).err().unwrap(),
        run(s.inventory()).unwrap_err(),
        run(s.check_model(&model(3))).unwrap_err(),
        run(s.writer().commit(vec![delete("doc_a", 2)], &model(3))).unwrap_err(),
    ] {
        assert!(matches!(e, VectorError::TooNew { .. }), "{e}");
    }
    assert_eq!(o.keys(), before);
}

#[test]
fn collections_have_names_and_do_not_meet() {
    let o = objects(0, Faults::default());
    let clock = Arc::new(docweir_core::clock::ManualClock::at(0));
    for bad in ["", "Chunks", "a/b", "..", &"x".repeat(65)] {
        assert!(VectorStore::new(o.clone(), bad, clock.clone(), VectorOptions::default()).is_err(), "{bad}");
    }
    let lines = VectorStore::new(o.clone(), "receipt_lines", clock, VectorOptions::default()).map(Arc::new).unwrap();
    run(lines.writer().commit(vec![document("doc_a", 1, &["x"])], &model(3))).unwrap();
    assert!(run(store(&o).view()).unwrap().is_empty());
    assert!(o.keys().iter().all(|k| k.starts_with("vectors/receipt_lines/")));
}
