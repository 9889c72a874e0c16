//! Damages stored files at random. A reader may refuse a file, but it must not panic, hang or exhaust memory.

use bytes::Bytes;
use docweir_objects::ObjectStore;
use docweir_objects::memory::Faults;
use docweir_testkit::fuzz::fuzz;

use crate::Stemming;
use crate::manifest::Manifest;
use crate::search::filter::Filter;
use crate::segment::Segment;
use crate::snapshot::Snapshot;
use crate::testing::{delete, document, model, objects, run, store};

/// Files of a small collection: manifests, deltas and snapshots.
struct Files {
    manifests: Vec<Vec<u8>>,
    deltas: Vec<Vec<u8>>,
    snapshots: Vec<Vec<u8>>,
}

fn files() -> Files {
    let objects = objects(0, Faults::default());
    let s = store(&objects);
    let get = |key: &str| run(objects.get(key)).unwrap().0.to_vec();
    let all = |folder: &str| -> Vec<Vec<u8>> {
        let page = run(objects.list(&s.key(folder), None, 100)).unwrap();
        page.iter().map(|o| get(&o.key)).collect()
    };
    let manifest_key = s.key("MANIFEST");
    let mut writer = s.writer_seeded(1);
    let mut manifests = Vec::new();
    for writes in [
        vec![document("doc_a", 1, &["the lease of the fence", "a second row"]), document("doc_b", 2, &[])],
        vec![document("doc_a", 2, &["the new lease", "epoch", "日本語"]), delete("doc_c", 3)],
    ] {
        run(writer.commit(writes, &model(3))).unwrap();
        manifests.push(get(&manifest_key));
    }
    let deltas = all("delta/");
    run(s.compact()).unwrap().unwrap();
    manifests.push(get(&manifest_key));
    let snapshots = all("snap/");
    assert_eq!((deltas.len(), snapshots.len()), (2, 1));
    Files { manifests, deltas, snapshots }
}

/// Uses all parts of an opened file, as searches and merges do.
fn use_all(segment: &Segment) {
    for entry in segment.entries() {
        let _ = (entry.id, entry.source, entry.metadata);
    }
    for row in 0..segment.len().min(1_000) {
        let _ = (segment.row(row), segment.indexed_text(row));
    }
    let postings = segment.postings(Stemming::default());
    for at in 0..postings.len().min(1_000) {
        let _ = postings.at(at).count();
    }
    let _ = segment.facet("tags");
    let _ = segment.filtered("f", &Filter::eq("tags", "all"));
    let _ = segment.memory_bytes();
}

#[test]
fn a_damaged_manifest_is_refused() {
    let words = ["{", "}", "[", "]", "null", "\"live\":", "\"file\":", "\"version\":", "delta/", "..", "/", "\\u0000"];
    fuzz("manifest", 20_000, &files().manifests, &words, |body| {
        if let Ok(manifest) = Manifest::parse("MANIFEST", body) {
            assert_eq!(Manifest::parse("MANIFEST", &manifest.to_bytes()).ok(), Some(manifest));
        }
    });
}

#[test]
fn a_damaged_delta_is_refused_or_read() {
    fuzz("delta", 20_000, &files().deltas, &["PAR1", "docweir.documents", "{", "[]"], |body| {
        if let Ok(segment) = Segment::of_delta("f", Bytes::copy_from_slice(body), None) {
            use_all(&segment);
        }
    });
}

/// Large snapshots are opened without a look at their checksums.
#[test]
fn a_damaged_snapshot_is_refused_or_read() {
    fuzz("snapshot", 20_000, &files().snapshots, &["\"offset\":", "\"bytes\":", "rows", "{"], |body| {
        if let Ok(snapshot) = Snapshot::open("f", Bytes::copy_from_slice(body), false, false) {
            use_all(&Segment::of_snapshot("f", snapshot));
        }
    });
}
