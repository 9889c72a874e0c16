//! Tests that a merge keeps the right documents, and that the merged file has the same content as all inputs
//! together.

use std::collections::BTreeMap;

use docweir_core::cancel::Cancel;
use docweir_core::documents::DocumentId;
use proptest::prelude::*;

use super::*;
use crate::delta;
use crate::options::Stemming;
use crate::search::codes::codec;
use crate::snapshot::{Origin, Snapshot};
use crate::testing::{delete, document, header, model};
use docweir_target::{DocumentRows, Row, Write};

fn input(name: &str, added_version: u64, writes: &[Write]) -> Input {
    let bytes = delta::encode(&header(3), writes).unwrap();
    Input { segment: Arc::new(Segment::of_delta(name, bytes, None).unwrap()), added_version }
}

fn merged(inputs: &[Input], plan: &Plan) -> (Vec<u8>, Merged) {
    let origin = Origin {
        collection: "chunks".into(),
        generation: 1,
        model: model(3),
        base_version: 9,
        created_at: "2026-01-01T00:00:00.000000Z".into(),
    };
    let mut bytes = Vec::new();
    let merged = write(inputs, plan, Stemming::Language, origin, &mut bytes, &Cancel::default()).unwrap();
    (bytes, merged)
}

fn open(name: &str, bytes: Vec<u8>) -> Segment {
    Segment::of_snapshot(name, Snapshot::open(name, bytes.into(), false, true).unwrap())
}

fn rows(segment: &Segment) -> Vec<Row> {
    (0..segment.len()).map(|row| segment.row(row).unwrap()).collect()
}

fn in_parent(write: Write, parent: &str) -> Write {
    let Write::Upsert(rows) = write else { return write };
    Write::Upsert(DocumentRows { parent: DocumentId::parse(parent), ..rows })
}

const TEXTS: [&str; 5] = ["erste Zeile", "second line, twice second", "", "日本語", "lease and fence"];

fn writes() -> impl Strategy<Value = Vec<Vec<Write>>> {
    let write = (0..6u8, 1..5u64, proptest::option::weighted(0.8, proptest::collection::vec(0..5usize, 0..4)));
    let file = proptest::collection::btree_map(0..6u8, write, 1..5);
    proptest::collection::vec(file, 1..5).prop_map(|files| {
        let one = |(n, (_, version, texts)): (u8, (u8, u64, Option<Vec<usize>>))| {
            let name = format!("doc_{n}");
            match texts {
                Some(texts) => {
                    let write = document(&name, version, &texts.into_iter().map(|t| TEXTS[t]).collect::<Vec<_>>());
                    if n == 2 { in_parent(write, "doc_1") } else { write }
                }
                None => delete(&name, version),
            }
        };
        // The documents of a delta are in the order of their writes, not of their ids.
        files.into_iter().map(|file| file.into_iter().rev().map(one).collect()).collect()
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Checks that the merged file has the winning version of each document, with all columns, codes and words. The
    /// files are merged twice: once in one step, and once in two steps.
    #[test]
    fn a_merge_is_the_sum_of_its_inputs(files in writes()) {
        let inputs: Vec<Input> =
            files.iter().enumerate().map(|(i, writes)| input(&format!("delta/{i}"), i as u64 + 1, writes)).collect();
        let plan = plan(&inputs, |_, _, _| false);
        let (bytes, told) = merged(&inputs, &plan);
        prop_assert_eq!((told.bytes, told.crc32), (bytes.len() as u64, crc32fast::hash(&bytes)));
        let segment = open("snap/s", bytes.clone());

        let mut expected: BTreeMap<String, (u64, bool, usize, &Write)> = BTreeMap::new();
        for (file, writes) in files.iter().enumerate() {
            for write in writes {
                let rank = (write.version(), matches!(write, Write::Delete { .. }), file, write);
                let held = expected.entry(write.document_id().to_string()).or_insert(rank);
                if (rank.0, rank.1, rank.2) > (held.0, held.1, held.2) {
                    *held = rank;
                }
            }
        }
        prop_assert_eq!(segment.documents().len(), expected.len());
        for (at, (id, (version, tombstone, _, write))) in expected.iter().enumerate() {
            let documents = segment.documents();
            prop_assert_eq!((documents.id(at), documents.version(at)), (id.as_str(), *version));
            prop_assert_eq!((documents.is_tombstone(at), documents.find(id)), (*tombstone, Some(at)));
            let held: Vec<Row> = documents.rows(at).map(|row| segment.row(row).unwrap()).collect();
            prop_assert_eq!(&held[..], write.rows());
            if let Write::Upsert(d) = write {
                prop_assert_eq!(documents.metadata(at), d.metadata.clone());
                prop_assert_eq!(documents.sources.get(at), &d.source);
                prop_assert_eq!(documents.parent(at), d.parent.clone());
            }
        }

        // Words and codes equal those computed from the merged rows.
        let anew = segment.index_rows(Stemming::Language);
        let stored = segment.postings(Stemming::Language);
        prop_assert_eq!(stored.len(), anew.len());
        for at in 0..anew.len() {
            prop_assert_eq!(stored.terms.get(at), anew.terms.get(at));
            prop_assert_eq!(stored.frequency(at), anew.frequency(at));
            prop_assert!(stored.at(at).eq(anew.at(at)), "{}", anew.terms.get(at));
        }
        prop_assert!((0..segment.len()).all(|row| stored.length(row) == anew.length(row)));
        let codec = codec(3).unwrap();
        let mut codes = codec.writer();
        segment.vectors().chunks_exact(3).for_each(|v| codes.push(v).unwrap());
        prop_assert_eq!(segment.codes(&codec), codes.finish());

        // Merge the first files alone, then the result with the rest.
        let (first, rest) = inputs.split_at(inputs.len() / 2);
        if !first.is_empty() {
            let (half, _) = merged(first, &super::plan(first, |_, _, _| false));
            // The name sorts after the names of deltas, as in a store. Rows of equal versions are the same, so either
            // may win.
            let half = Input { segment: Arc::new(open("delta", half)), added_version: 9 };
            let again: Vec<Input> = std::iter::once(half).chain(rest.iter().cloned()).collect();
            let (again, _) = merged(&again, &super::plan(&again, |_, _, _| false));
            prop_assert_eq!(rows(&open("snap/t", again)), rows(&segment));
        }
    }

    /// Checks that a damaged file causes an error or wrong values, but never a panic.
    #[test]
    fn damage_never_panics(files in writes(), at in any::<proptest::sample::Index>(), bits in 1..=255u8) {
        let inputs: Vec<Input> =
            files.iter().enumerate().map(|(i, writes)| input(&format!("delta/{i}"), 1, writes)).collect();
        let (mut bytes, _) = merged(&inputs, &plan(&inputs, |_, _, _| false));
        let at = at.index(bytes.len());
        bytes[at] ^= bits;
        let verified = Snapshot::open("snap/s", bytes.clone().into(), false, true);
        if let Ok(snapshot) = Snapshot::open("snap/s", bytes.into(), false, false) {
            let segment = Segment::of_snapshot("snap/s", snapshot);
            for row in 0..segment.len() {
                let _ = (segment.row(row), segment.documents().of_row(row), segment.facet("n"));
            }
            let _ = (segment.entries().count(), segment.documents().find("doc_1"));
            let postings = segment.postings(Stemming::None);
            let _ = (0..postings.len()).map(|t| postings.at(t).count()).sum::<usize>();
        }
        // The padding between sections belongs to no section.
        if let Err(e) = verified {
            prop_assert!(e.to_string().contains("snap/s"), "{}", e);
        }
    }
}

#[test]
fn tombstones_are_left_out_where_that_is_allowed() {
    let inputs = [
        input("delta/a", 1, &[document("doc_a", 1, &["x"]), document("doc_b", 1, &["y"])]),
        input("delta/b", 2, &[delete("doc_a", 2), delete("doc_c", 1)]),
    ];
    let kept = plan(&inputs, |_, _, _| false);
    assert_eq!((kept.documents, kept.tombstones, kept.dropped_tombstones, kept.rows), (1, 2, 0, 1));
    let asked = std::cell::RefCell::new(Vec::new());
    let dropped = plan(&inputs, |added, id, version| {
        asked.borrow_mut().push((added, id.to_owned(), version));
        id == "doc_a"
    });
    assert_eq!((dropped.documents, dropped.tombstones, dropped.dropped_tombstones), (1, 1, 1));
    assert_eq!(asked.into_inner(), [(2, "doc_a".to_owned(), 2), (2, "doc_c".to_owned(), 1)]);
    let gone = [input("delta/b", 2, &[delete("doc_a", 2)])];
    assert!(plan(&gone, |_, _, _| true).is_empty());
}

#[test]
fn a_merge_that_is_not_wanted_any_more_ends() {
    let inputs = [input("delta/a", 1, &[document("doc_a", 1, &["x"])])];
    let plan = plan(&inputs, |_, _, _| false);
    let cancelled = Cancel::default();
    cancelled.cancel();
    let (bytes, _) = merged(&inputs, &plan);
    let origin = Snapshot::open("s", bytes.into(), false, true).unwrap().header.origin;
    let error = write(&inputs, &plan, Stemming::None, origin, &mut Vec::new(), &cancelled).unwrap_err();
    assert_eq!(error.kind(), std::io::ErrorKind::Interrupted);
}

#[test]
fn truncated_and_foreign_files_are_named() {
    let inputs = [input("delta/a", 1, &[document("doc_a", 1, &["x", "y"])])];
    let (bytes, _) = merged(&inputs, &plan(&inputs, |_, _, _| false));
    for keep in [0, 8, 64, bytes.len() / 2, bytes.len() - 1] {
        let error = Snapshot::open("snap/s", bytes[..keep].to_vec().into(), false, false).err().unwrap().to_string();
        assert!(error.contains("snap/s"), "{error}");
    }
    let text = String::from_utf8_lossy(&bytes).into_owned();
    assert!(text.contains("\"format\":1"));
}

/// Checks that damaged sections never cause an endless loop. The damage is in sections whose checksum is not verified
/// when the file is opened.
#[test]
fn garbage_in_a_column_costs_no_more_than_the_file_is_large() {
    let inputs = [input("delta/a", 1, &[document("doc_a", 1, &["x", "y"]), document("doc_b", 1, &["z"])])];
    let (bytes, _) = merged(&inputs, &plan(&inputs, |_, _, _| false));
    let directory = crate::snapshot::directory("s", &bytes).unwrap().unwrap();
    for name in
        ["document_starts", "page_first", "page_last", "box_starts", "kind_codes", "text_offsets", "posting_starts"]
    {
        let section = directory.sections.iter().find(|s| s.name == name).unwrap();
        let mut garbage = bytes.clone();
        let at = section.offset as usize;
        // Overwrite all numbers except the last, which is checked on opening.
        garbage[at + 4..at + 8].fill(0xff);
        let Ok(snapshot) = Snapshot::open("snap/s", garbage.into(), false, false) else { continue };
        let segment = Segment::of_snapshot("snap/s", snapshot);
        let held: usize = (0..2).map(|at| segment.documents().rows(at).len()).sum();
        assert!(held <= 2 * segment.len(), "{name}: {held}");
        let _ = (rows(&segment), segment.facet("n"));
        for filter in ["page=7", "kind=text", "n=1", "document=doc_a"] {
            segment.filtered(filter, &filter.parse().unwrap());
        }
        let _ = segment.postings(Stemming::None).of("x").count();
    }
}

#[test]
fn parents_take_a_section_only_where_there_are_any() {
    let named = |bytes: &[u8]| {
        let directory = crate::snapshot::directory("snap/s", bytes).unwrap().unwrap();
        directory.sections.into_iter().filter(|s| s.name.starts_with("document_parent")).count()
    };
    let merge = |writes: &[Write]| {
        let inputs = [input("delta/1", 1, writes)];
        merged(&inputs, &plan(&inputs, |_, _, _| false)).0
    };
    let plain = || document("doc_b", 1, &["two"]);
    let without = merge(&[document("doc_a", 1, &["one"]), plain()]);
    let with = merge(&[in_parent(document("doc_a", 1, &["one"]), "doc_p"), plain()]);
    assert_eq!((named(&without), named(&with)), (0, 2));
    let parents = |bytes| open("snap/s", bytes).entries().map(|entry| entry.parent).collect::<Vec<_>>();
    assert_eq!(parents(without), [None, None]);
    assert_eq!(parents(with), [DocumentId::parse("doc_p"), None]);
}
