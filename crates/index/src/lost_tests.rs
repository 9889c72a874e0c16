//! Tests that a lost manifest is noticed before anything is lost with it, and that it is rebuilt from the files.

use docweir_core::cancel::Cancel;
use docweir_objects::ObjectStore;
use docweir_objects::memory::{Faults, MemoryObjects};

use super::*;
use crate::compaction::{CompactionOptions, Compactor, Mode};
use crate::testing::{delete, document, id, model, objects, run, store};
use crate::{CollectionScope, CollectionWriter, Write};
use std::sync::Arc;

fn commit(writer: &mut CollectionWriter, writes: Vec<Write>) -> u64 {
    run(writer.commit(writes, &model(3))).unwrap().version
}

fn compact(store: &Arc<VectorStore>) {
    let mut c = Compactor::seeded(store.clone(), CompactionOptions::default(), 1);
    let (manifest, inputs, why) = run(c.due(Mode::All)).unwrap().unwrap();
    let staged = run(c.merge(&manifest, &inputs, why, &Cancel::default())).unwrap();
    run(c.install(&staged, 1)).unwrap();
}

fn lose(o: &MemoryObjects, s: &VectorStore) {
    run(o.delete(&s.manifest_key())).unwrap();
}

fn texts(s: &VectorStore, document: &str) -> Vec<String> {
    run(s.view()).unwrap().rows_of(&id(document)).into_iter().map(|row| row.text).collect()
}

#[test]
fn nothing_is_read_or_written_without_the_manifest_of_a_collection_with_files() {
    // One collection with deltas only, and one with a snapshot only.
    for merged in [false, true] {
        let o = objects(0, Faults::default());
        let s = store(&o);
        let mut writer = s.writer_seeded(1);
        commit(&mut writer, vec![document("doc_a", 1, &["alpha"])]);
        commit(&mut writer, vec![document("doc_b", 1, &["bravo"])]);
        if merged {
            compact(&s);
            run(s.collect(CollectionScope::All)).unwrap();
        }
        lose(&o, &s);
        let before = o.keys();
        let s = store(&o);
        let lost = [
            run(s.view()).err(),
            run(s.inventory()).err(),
            run(s.verify()).err(),
            run(s.begin_if_staged()).err(),
            run(s.collect(CollectionScope::All)).err(),
            run(s.writer_seeded(2).commit(vec![document("doc_c", 1, &["charlie"])], &model(3))).err(),
        ];
        for error in lost {
            assert!(matches!(error, Some(VectorError::ManifestLost { .. })), "merged: {merged}, {error:?}");
        }
        assert_eq!(o.keys(), before, "nothing was written");
    }
}

#[test]
fn a_file_that_was_staged_before_the_first_manifest_proves_nothing() {
    let o = objects(0, Faults::default());
    let s = store(&o);
    commit(&mut s.writer_seeded(1), vec![document("doc_a", 1, &["alpha"])]);
    lose(&o, &s);
    let s = store(&o);
    assert!(run(s.view()).unwrap().rows_of(&id("doc_a")).is_empty());
    commit(&mut s.writer_seeded(2), vec![document("doc_b", 1, &["bravo"])]);
    assert_eq!(texts(&s, "doc_b"), ["bravo"]);
}

#[test]
fn a_lost_manifest_is_rebuilt_and_later_commits_follow() {
    let o = objects(0, Faults::default());
    let s = store(&o);
    assert_eq!(run(s.rebuild_manifest()).unwrap(), None, "an empty collection needs no manifest");
    let mut writer = s.writer_seeded(1);
    commit(&mut writer, vec![document("doc_a", 1, &["old"]), document("doc_b", 1, &["bravo"])]);
    commit(&mut writer, vec![document("doc_a", 2, &["new"])]);
    compact(&s);
    commit(&mut writer, vec![document("doc_c", 1, &["charlie"])]);
    let mut slow = s.writer_seeded(2);
    let stale = run(slow.begin()).unwrap();
    commit(&mut writer, vec![delete("doc_b", 2)]);
    let before = run(s.manifest()).unwrap().unwrap();
    assert_eq!(run(s.rebuild_manifest()).unwrap(), None, "there is a manifest");
    lose(&o, &s);

    let s = store(&o);
    let rebuilt = run(s.rebuild_manifest()).unwrap().unwrap();
    assert_eq!((rebuilt.files, rebuilt.rows), (5, 6), "two merged deltas, their snapshot and two later deltas");
    let manifest = run(s.manifest()).unwrap().unwrap();
    assert_eq!(manifest.model(), before.model());
    for (document, expected) in [("doc_a", vec!["new"]), ("doc_b", vec![]), ("doc_c", vec!["charlie"])] {
        assert_eq!(texts(&s, document), expected, "{document}");
    }
    assert_eq!(run(s.verify()).unwrap().findings, []);
    // A commit that began before the loss is refused, and begins again.
    let late = run(slow.commit_on(stale, vec![document("doc_d", 1, &["delta"])], &model(3)));
    assert!(matches!(late, Err(VectorError::Stalled { .. })), "{late:?}");
    commit(&mut writer, vec![document("doc_d", 1, &["delta"])]);
    compact(&s);
    run(s.collect(CollectionScope::All)).unwrap();
    assert_eq!([texts(&s, "doc_a"), texts(&s, "doc_d")], [["new"], ["delta"]]);
}

#[test]
fn a_damaged_file_is_named_and_no_manifest_is_written() {
    let o = objects(0, Faults::default());
    let s = store(&o);
    let mut writer = s.writer_seeded(1);
    commit(&mut writer, vec![document("doc_a", 1, &["alpha"])]);
    commit(&mut writer, vec![document("doc_b", 1, &["bravo"])]);
    lose(&o, &s);
    let key = o.keys().into_iter().find(|key| key.contains("/delta/")).unwrap();
    let (body, _) = run(o.get(&key)).unwrap();
    let cut = body.slice(..body.len() / 2);
    let durable = docweir_objects::Durability::Durable;
    run(o.put(&key, cut, docweir_objects::Precondition::None, durable)).unwrap();
    let error = run(store(&o).rebuild_manifest()).unwrap_err();
    assert!(error.to_string().contains(&key), "{error}");
    assert_eq!(run(s.manifest()).unwrap(), None);
}
