//! Tests the collector, pins, past versions and rollback, one guarantee per test.

use std::pin::pin;

use docweir_core::cancel::Cancel;
use docweir_objects::ObjectStore;
use docweir_objects::memory::{Faults, MemoryObjects};

use super::*;
use crate::compaction::{CompactionOptions, Compactor, Mode};
use crate::testing::{delete, document, id, model, objects, poll_some, run, store};
use crate::{CollectionWriter, Write};

fn commit(writer: &mut CollectionWriter, writes: Vec<Write>) -> ManifestVersion {
    run(writer.commit(writes, &model(3))).unwrap().version
}

fn compact(store: &Arc<VectorStore>, epoch: u64) {
    let mut c = Compactor::seeded(store.clone(), CompactionOptions::default(), epoch);
    let (manifest, inputs, why) = run(c.due(Mode::All)).unwrap().unwrap();
    let staged = run(c.merge(&manifest, &inputs, why, &Cancel::default())).unwrap();
    run(c.install(&staged, epoch)).unwrap();
}

fn files(objects: &MemoryObjects) -> usize {
    objects.keys().iter().filter(|k| k.contains("/delta/") || k.contains("/snap/")).count()
}

fn text(store: &VectorStore, version: ManifestVersion) -> Option<String> {
    run(store.view_at(version)).unwrap().rows_of(&id("doc_a")).first().map(|r| r.text.clone())
}

/// Returns a collection at manifest version 3, with one document. Manifest version 1 added version 1 of the document,
/// manifest version 2 added version 2 of the document, and manifest version 3 merged both files.
fn merged() -> (Arc<MemoryObjects>, Arc<VectorStore>, CollectionWriter) {
    let o = objects(0, Faults::default());
    let s = store(&o);
    let mut writer = s.writer_seeded(1);
    commit(&mut writer, vec![document("doc_a", 1, &["old"])]);
    commit(&mut writer, vec![document("doc_a", 2, &["new"])]);
    compact(&s, 1);
    (o, s, writer)
}

#[test]
fn past_versions_are_seen_until_they_are_given_up() {
    let (o, s, _) = merged();
    assert_eq!([1, 2, 3].map(|v| text(&s, v).unwrap()), ["old", "new", "new"]);
    assert_eq!(run(s.collect(CollectionScope::Due(RetentionOptions::default()))).unwrap(), Collected::default());
    let collected = run(s.collect(CollectionScope::All)).unwrap();
    assert_eq!((collected.deleted.len(), files(&o)), (2, 1));
    let error = run(s.view_at(2)).err().unwrap();
    assert!(error.to_string().contains("versions 4 to 5 are kept"), "{error}");
    assert_eq!(text(&s, 5).unwrap(), "new");
    assert!(run(s.manifest()).unwrap().unwrap().removed.is_empty(), "the entries are removed too");
}

/// Covers a defect that the simulator found. The collector deleted a version while a reader opened that version. The
/// reader then reported damage and advised restoring a backup.
#[test]
fn a_version_that_is_given_up_while_it_is_opened_is_no_damage() {
    let (mut seen, mut refused) = (0, 0);
    for polls in 0..30 {
        let (o, s, _) = merged();
        let reader = store(&o);
        let mut view = pin!(reader.view_at(1));
        let early = poll_some(&mut view, polls);
        run(s.collect(CollectionScope::All)).unwrap();
        match early.unwrap_or_else(|| run(view)) {
            Ok(view) => {
                assert_eq!(view.rows_of(&id("doc_a"))[0].text, "old");
                seen += 1;
            }
            Err(VectorError::NotRetained { asked: 1, .. }) => refused += 1,
            Err(e) => panic!("after {polls} polls: {e}"),
        }
    }
    assert!(seen > 0 && refused > 1, "{seen} {refused}");
}

#[test]
fn a_live_file_never_ages_out() {
    let (o, s, _) = merged();
    o.clock().advance(std::time::Duration::from_secs(100 * 365 * 86_400));
    let nothing =
        RetentionOptions { snapshots: 0, merged_seconds: 0, staged_seconds: 1, ..RetentionOptions::default() };
    run(s.collect(CollectionScope::Due(nothing))).unwrap();
    assert_eq!((files(&o), text(&s, run(s.view()).unwrap().version())), (1, Some("new".into())));
}

#[test]
fn orphans_go_and_what_is_under_way_begins_again() {
    let (o, s, mut writer) = merged();
    let base = run(writer.begin()).unwrap();
    let orphan = delta::encode(&crate::testing::header(3), &[document("doc_z", 1, &["z"])]).unwrap();
    let put = o.put("vectors/chunks/delta/orphan.parquet", orphan, Precondition::None, Durability::Durable);
    run(put).unwrap();
    assert!(run(s.has_orphans()).unwrap());
    // The orphan was staged against version 4, but the manifest has version 3. The base is in the future, so the
    // floor has to rise above the base first.
    run(s.collect(CollectionScope::Orphans)).unwrap();
    run(s.collect(CollectionScope::Orphans)).unwrap();
    assert!(!run(s.has_orphans()).unwrap());
    let error = run(writer.commit_on(base, vec![document("doc_b", 1, &["b"])], &model(3))).unwrap_err();
    assert!(matches!(error, VectorError::Stalled { .. }), "{error}");
    commit(&mut writer, vec![document("doc_b", 1, &["b"])]);
    assert_eq!(run(s.view()).unwrap().len(), 2);
}

#[test]
fn what_can_t_be_read_is_left_alone_and_named() {
    let (o, s, _) = merged();
    for name in ["delta/x.parquet", "snap/y.seg", "snap/empty.seg"] {
        let body = if name.contains("empty") { "" } else { "something else" };
        run(o.put(&format!("vectors/chunks/{name}"), body.into(), Precondition::None, Durability::Durable)).unwrap();
    }
    let collected = run(s.collect(CollectionScope::All)).unwrap();
    assert_eq!(collected.unreadable.len(), 3);
    assert_eq!(files(&o), 4);
}

#[test]
fn a_marked_version_is_spared_until_the_mark_ends() {
    let (o, s, _) = merged();
    let mark = run(s.pin(Some(1), 60)).unwrap();
    let collected = run(s.collect(CollectionScope::All)).unwrap();
    assert_eq!((collected.pinned, collected.deleted.len()), (1, 1), "no pinned version contains the other delta");
    let seen = run(s.view_pinned(&mark)).unwrap();
    assert_eq!(seen.rows_of(&id("doc_a"))[0].text, "old");
    assert!(run(s.pin(Some(1), 60)).is_err(), "the version cannot be pinned again");
    o.clock().advance(std::time::Duration::from_secs(61));
    run(s.collect(CollectionScope::All)).unwrap();
    assert_eq!(files(&o), 1);
    assert!(!o.keys().iter().any(|k| k.contains("/pins/")), "the expired pin is deleted too");
    run(s.unpin(mark)).unwrap();
}

#[test]
fn one_can_go_back_and_forth() {
    let (o, s, mut writer) = merged();
    commit(&mut writer, vec![delete("doc_a", 3)]);
    assert_eq!(run(s.roll_back(1)).unwrap(), 5);
    assert_eq!(run(s.view()).unwrap().version_of(&id("doc_a")), Some((1, 1)));
    assert_eq!(run(s.roll_back(4)).unwrap(), 6);
    assert_eq!(run(s.view()).unwrap().version_of(&id("doc_a")), None);
    assert_eq!(run(s.roll_back(0)).unwrap(), 7);
    assert!(run(s.view()).unwrap().is_empty());
    assert_eq!(run(s.roll_back(3)).unwrap(), 8);
    run(s.collect(CollectionScope::All)).unwrap();
    assert_eq!((files(&o), text(&s, run(s.view()).unwrap().version())), (1, Some("new".into())));
    assert_eq!(run(s.verify()).unwrap().findings, []);
    for version in [1, 99] {
        assert!(matches!(run(s.roll_back(version)), Err(VectorError::NotRetained { .. })));
    }
}
