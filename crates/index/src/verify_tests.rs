//! Tests which faults the check of all files finds.

use docweir_objects::memory::Faults;

use super::*;
use crate::testing::{delete, document, id, model, objects, run, store};

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
