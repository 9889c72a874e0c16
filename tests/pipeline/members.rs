//! Tests the commands on documents that contain other documents, called children. No extractor finds children yet, so
//! the tests register the children themselves.

use std::path::Path;
use std::time::Duration;

use docweir::config::{Argument, Config, Source};
use docweir::engine::Engine;
use docweir::intake::source;
use docweir_core::documents::{MediaType, Sha256Hex};
use docweir_core::member::member_source;
use docweir_core::model::Span;
use docweir_index::{DocumentRows, Row, Write};
use docweir_stores::control::{DocumentKey, NewDocument};
use serde_json::{Map, Value};

use crate::kit::{TestFolder, results};

/// Registers a child of the document `file`, adds the child to the index with the text `words`, and marks both
/// documents as complete.
fn contains(place: &TestFolder, file: &Path, name: &str, words: &str) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    runtime.block_on(async {
        let folder = Argument::new("--state", "state.folder", place.state().to_str().unwrap());
        let config = Config::load(&Source::None, [], vec![folder]).unwrap();
        let engine = Engine::open(config).await.unwrap();
        let control = &engine.control;
        let parent = control.by_source(&source::of_path(file)).await.unwrap().unwrap();
        control.reset(&parent.document_id, None).await.unwrap();
        let claim = control.claim("test", Duration::from_secs(60), 1, None).await.unwrap().remove(0);
        let child = NewDocument {
            source: member_source(&claim.source, name).unwrap(),
            content: Sha256Hex::of(words.as_bytes()),
            fingerprint: claim.fingerprint.clone(),
            bytes: words.len() as u64,
            media_type: MediaType::Text,
            tenant: claim.tenant.clone(),
            weight: 1,
            tag: None,
            parent: Some(claim.key.id.clone()),
        };
        let source = child.source.clone();
        let changes = control.set_children(&claim.key, vec![child]).await.unwrap();
        let DocumentKey { id, version } = changes.registered[0].key().clone();
        let vectors = engine.vectors().unwrap();
        let model = vectors.manifest().await.unwrap().unwrap().model().cloned().unwrap();
        let mut vector = vec![0.0; model.dimension as usize];
        vector[0] = 1.0;
        let row = Row {
            chunk_id: format!("{id}/0"),
            ordinal: 0,
            kind: "text".into(),
            text: words.into(),
            heading_path: Vec::new(),
            pages: (1, 1),
            span: Span { start: 0, end: 0, start_byte: 0, end_byte: 0 },
            boxes: Vec::new(),
            tokens: 1,
            language: None,
            metadata: Map::new().into(),
            vector,
        };
        let rows = DocumentRows {
            document_id: id.clone(),
            version,
            source,
            parent: Some(claim.key.id.clone()),
            metadata: Map::new(),
            rows: vec![row],
        };
        vectors.writer().commit(vec![Write::Upsert(rows)], &model).await.unwrap();
        let parent = DocumentKey { id: claim.key.id, version: claim.key.version };
        assert_eq!(control.mark_loaded(&[parent, DocumentKey { id, version }]).await.unwrap(), 2);
    });
}

/// Returns the status in the control record of the document whose source ends with `name`.
fn status_of(place: &TestFolder, name: &str) -> Value {
    let records = place.records();
    let record = records.iter().find(|r| r["source"].as_str().unwrap().ends_with(name));
    record.unwrap_or_else(|| panic!("no record of {name}: {records:?}"))["status"].clone()
}

fn found(place: &TestFolder, words: &str) -> Vec<Value> {
    let ran = place.run(["search", "--mode", "full-text", "--json", words]);
    assert!(matches!(ran.status.code(), Some(0 | 1)), "{}", ran.err);
    ran.json().iter().flat_map(results).collect()
}

#[test]
fn a_deleted_document_takes_along_what_it_contains() {
    let place = TestFolder::new();
    let mail = place.write("mail.md", "# Leases\n\nA lease is a promise with an end.\n");
    place.ingest(&[]).code(0);
    contains(&place, &mail, "report 1.txt", "a fencing token only grows");
    let hits = found(&place, "fencing");
    let parent = place.records().iter().find(|r| r["parent"].is_null()).unwrap()["document_id"].clone();
    assert_eq!((hits.len(), &hits[0]["parent"]), (1, &parent));
    assert!(hits[0]["uri"].as_str().unwrap().ends_with("mail.md#member=report%201.txt"), "{hits:?}");
    assert!(found(&place, "promise")[0].get("parent").is_none());
    let child = hits[0]["document"].as_str().unwrap().to_owned();
    let shown = place.run(["status", &child]);
    assert!(shown.out.contains("contained in") && shown.out.contains("mail.md > report 1.txt"), "{}", shown.out);

    let deleted = place.run(["delete", "docs/mail.md"]);
    deleted.code(0);
    assert_eq!(deleted.out.lines().filter(|line| line.starts_with("deleted: ")).count(), 2, "{}", deleted.out);
    assert_eq!((found(&place, "fencing").len(), found(&place, "promise").len()), (0, 0));
    assert_eq!(
        (status_of(&place, "report%201.txt"), status_of(&place, "mail.md")),
        ("DELETED".into(), "DELETED".into())
    );
}

#[test]
fn what_is_contained_follows_its_document_and_no_file() {
    let place = TestFolder::new();
    let mail = place.write("mail.md", "# Leases\n\nA lease is a promise with an end.\n");
    place.ingest(&[]).code(0);
    contains(&place, &mail, "report.txt", "a fencing token only grows");
    let pruned = place.ingest(&["--prune"]);
    pruned.code(0);
    assert_eq!((&pruned.summary()["deleted"], &pruned.summary()["unchanged"]), (&0.into(), &1.into()));
    assert_eq!(found(&place, "fencing").len(), 1);

    place.write("mail.md", "# Locks\n\nA mutex is no lease.\n");
    place.ingest(&[]).code(0);
    assert_eq!((found(&place, "fencing").len(), found(&place, "mutex").len()), (0, 1));
    assert_eq!((status_of(&place, "report.txt"), status_of(&place, "mail.md")), ("DELETED".into(), "COMPLETED".into()));
}

#[test]
fn what_is_erased_is_erased_with_what_it_contains() {
    let place = TestFolder::new();
    let mail = place.write("mail.md", "# Leases\n\nA lease is a promise with an end.\n");
    place.ingest(&[]).code(0);
    contains(&place, &mail, "report.txt", "a fencing token only grows");
    let erased = place.run(["erase", "docs/mail.md"]);
    erased.code(0);
    assert_eq!(erased.out.lines().filter(|line| line.starts_with("erased: ")).count(), 2, "{}", erased.out);
    let held = crate::kit::files(&place.state());
    assert!(!held.is_empty());
    let holds = |path: &Path| String::from_utf8_lossy(&std::fs::read(path).unwrap()).contains("fencing token");
    assert_eq!(held.iter().filter(|path| holds(path)).count(), 0);
}
