//! Tests which faults the check of all files finds.

use docweir_core::cancel::Cancel;
use docweir_objects::memory::Faults;

use super::*;
use crate::compaction::{CompactionOptions, Compactor, Mode};
use crate::testing::{delete, document, id, model, objects, run, store};
use crate::watched::Watched;

#[test]
fn each_fault_is_found_and_named() {
    let o = objects(0, Faults::default());
    let s = store(&o);
    assert_eq!(run(s.verify()).unwrap(), Verified::default());
    let mut writer = s.writer_seeded(1);
    for n in 0..3 {
        let writes = vec![document(&format!("doc_{n}"), 1, &["x", "y"]), delete("doc_z", n + 1)];
        run(writer.commit(writes, &model(3))).unwrap();
    }
    let well = run(s.verify()).unwrap();
    assert_eq!((well.files, well.rows, well.findings, well.orphans), (3, 6, vec![], vec![]));
    let files: Vec<String> = o.keys().into_iter().filter(|k| k.contains("/delta/")).collect();
    assert!(o.tamper(&files[0], |body| body[100] ^= 4));
    assert!(o.tamper(&files[1], |body| body.truncate(200)));
    run(docweir_objects::ObjectStore::delete(o.as_ref(), &files[2])).unwrap();
    let found = run(s.verify()).unwrap().findings;
    let by_file: BTreeMap<&str, &str> = found.iter().map(|f| (f.key.as_str(), f.what.as_str())).collect();
    assert!(by_file[files[0].as_str()].contains("checksum"), "{found:?}");
    assert!(by_file[files[1].as_str()].contains("200 bytes instead of"), "{found:?}");
    assert!(by_file[files[2].as_str()].contains("missing"), "{found:?}");
    assert!(found.iter().all(|f| f.live));
}

#[test]
fn records_and_rows_are_compared() {
    let held = |version, tombstone| WinningVersion { version, rows: 1, tombstone };
    let visible: BTreeMap<_, _> = [
        (id("same"), held(2, false)),
        (id("newer"), held(3, false)),
        (id("older"), held(1, false)),
        (id("deleted"), held(4, true)),
        (id("back"), held(1, false)),
        (id("unknown"), held(1, false)),
    ]
    .into();
    let recorded: BTreeMap<_, _> = [
        (id("same"), Recorded::Loaded(2)),
        // Loaded but not yet recorded as such; the next start records it.
        (id("newer"), Recorded::Loaded(2)),
        (id("older"), Recorded::Loaded(2)),
        (id("deleted"), Recorded::Deleted),
        (id("gone"), Recorded::Loaded(1)),
        (id("back"), Recorded::Deleted),
        (id("coming"), Recorded::UnderWay),
    ]
    .into();
    let found = compare(&recorded, &visible);
    let not_visible =
        |name: &str, recorded, visible| Disagreement::NotVisible { document: id(name), recorded, visible };
    let not_recorded = |name: &str| Disagreement::NotRecorded { document: id(name), visible: 1 };
    assert_eq!(
        found,
        [not_recorded("back"), not_visible("gone", 1, None), not_visible("older", 2, Some(1)), not_recorded("unknown")]
    );
}

#[test]
fn an_export_holds_what_is_visible() {
    let o = objects(0, Faults::default());
    let s = store(&o);
    let mut writer = s.writer_seeded(1);
    run(writer.commit(vec![document("doc_a", 1, &["old"]), document("doc_b", 1, &["b"])], &model(3))).unwrap();
    run(writer.commit(vec![document("doc_a", 2, &["new", "newer"])], &model(3))).unwrap();
    let view = run(s.view()).unwrap();
    let mut parts = Vec::new();
    let rows = s.export(&view, 1, |part| -> Result<(), VectorError> {
        parts.push(part);
        Ok(())
    });
    assert_eq!((rows.unwrap(), parts.len()), (3, 2));
    let documents: Vec<_> =
        parts.into_iter().flat_map(|p| delta::decode("part", p, None).unwrap().0.documents).collect();
    let mut held: Vec<_> = documents.iter().map(|d| (d.id.as_str(), d.version, d.rows)).collect();
    held.sort_unstable();
    assert_eq!(held, [("doc_a", 2, 2), ("doc_b", 1, 1)]);
}

/// Checks that the search for the texts of a document reads only the lists of documents of the other files.
#[test]
fn texts_are_read_only_from_the_files_that_hold_the_document() {
    let o = Watched::new();
    let s = o.store();
    let mut writer = s.writer_seeded(1);
    let text = "a passage of some length, so that a file is much larger than its list of documents. ".repeat(30);
    let mut add = |delta: usize| {
        let documents = (0..100).map(|n| document(&format!("doc_{n}_of_{delta}"), 1, &[&text])).collect();
        run(writer.commit(documents, &model(3))).unwrap().file
    };
    let mut compactor = Compactor::seeded(s.clone(), CompactionOptions::default(), 1);
    let mut deltas: Vec<String> = (0..3).map(&mut add).collect();
    let mut snapshots = Vec::new();
    for more in [3..6, 6..8] {
        let (manifest, mut inputs, why) = run(compactor.due(Mode::All)).unwrap().unwrap();
        inputs.retain(|f| f.kind == FileKind::Delta);
        let staged = run(compactor.merge(&manifest, &inputs, why, &Cancel::default())).unwrap();
        run(compactor.install(&staged, 1)).unwrap();
        snapshots.push(staged.snapshot.unwrap().file);
        deltas.extend(more.map(&mut add));
    }
    let sizes: BTreeMap<String, u64> =
        run(s.manifest()).unwrap().unwrap().files().map(|f| (s.key(&f.file), f.bytes)).collect();
    assert_eq!((deltas.len(), snapshots.len(), sizes.len()), (8, 2, 10));
    o.take_reads();
    // A document of the second delta, which the first snapshot replaces, and one that does not exist.
    let texts = run(o.store().texts_of(&[id("doc_7_of_1"), id("doc_none")])).unwrap();
    assert_eq!(texts, [text.clone(), text]);
    let mut read: BTreeMap<String, u64> = BTreeMap::new();
    o.take_reads().into_iter().for_each(|(key, bytes)| *read.entry(key).or_default() += bytes);
    let whole: Vec<&String> = read.iter().filter(|(key, bytes)| **bytes >= sizes[*key]).map(|(key, _)| key).collect();
    assert_eq!(whole, [&s.key(&deltas[1]), &s.key(&snapshots[0])]);
    assert_eq!(read.len(), 10, "the list of documents of each file");
    assert!(read.iter().all(|(key, bytes)| whole.contains(&key) || *bytes < sizes[key] / 3), "{read:?} {sizes:?}");
}

#[test]
fn a_damaged_list_of_documents_is_no_absence() {
    let o = objects(0, Faults::default());
    let s = store(&o);
    run(s.writer_seeded(1).commit(vec![document("doc_a", 1, &["x"])], &model(3))).unwrap();
    run(s.compact()).unwrap().unwrap();
    let snapshot = o.keys().into_iter().find(|k| k.ends_with(".seg")).unwrap();
    assert_eq!(run(s.texts_of(&[id("doc_a")])).unwrap().len(), 2);
    // Change the id of the document in the list.
    assert!(o.tamper(&snapshot, |body| {
        let at = body.windows(5).position(|w| w == b"doc_a").unwrap();
        body[at + 4] = b'b';
    }));
    let error = run(store(&o).texts_of(&[id("doc_a")])).unwrap_err();
    assert!(matches!(&error, VectorError::Damaged { file, .. } if *file == snapshot), "{error}");
}
