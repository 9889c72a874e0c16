//! Small documents and models for the tests of this room.

use std::pin::{Pin, pin};
use std::sync::Arc;
use std::task::{Context, Poll, Waker};

use docweir_core::clock::ManualClock;
use docweir_core::documents::DocumentId;
use docweir_core::model::{Metric, ModelIdentity, PageBox, Span};
use docweir_objects::memory::{Faults, MemoryObjects};
use serde_json::{Map, Value, json};

use super::delta::{DeltaHeader, FORMAT};
use super::rows::{DocumentRows, Row, Write};
use super::{VectorOptions, VectorStore};

/// Returns the rows of a document at a version, the same whoever writes it; `None` means deleted.
pub fn content(document: u8, version: u64) -> Option<Vec<String>> {
    let kind = (u64::from(document) * 7 + version * 3) % 5;
    (kind > 0).then(|| (1..kind).map(|i| format!("document {document} version {version} row {i}")).collect())
}

pub fn model(dimension: u32) -> ModelIdentity {
    ModelIdentity { id: "test".into(), weights: "0123456789abcdef".into(), dimension, metric: Metric::Cosine }
}

pub fn unit(v: &[f32]) -> Vec<f32> {
    let length = v.iter().map(|x| x * x).sum::<f32>().sqrt();
    v.iter().map(|x| x / length).collect()
}

pub fn id(text: &str) -> DocumentId {
    DocumentId::parse(text).unwrap()
}

pub fn header(dimension: u32) -> DeltaHeader {
    DeltaHeader {
        format: FORMAT,
        collection: "chunks".into(),
        generation: 1,
        model: model(dimension),
        base_version: 4,
        writer: "w".into(),
        sequence: 5,
        commit_id: "c".into(),
        created_at: "2026-01-01T00:00:00.000000Z".into(),
    }
}

/// A row with every column filled.
pub fn row(document: &str, version: u64, ordinal: u32, text: &str, vector: Vec<f32>) -> Row {
    let n = u64::from(ordinal);
    let Value::Object(metadata) = json!({"n": ordinal, "tags": ["all", format!("t{ordinal}")]}) else { unreachable!() };
    Row {
        chunk_id: format!("{document}-{version}-{ordinal}"),
        ordinal,
        kind: "text".into(),
        text: text.into(),
        heading_path: if ordinal.is_multiple_of(2) { vec![] } else { vec!["Top".into(), "Unter".into()] },
        pages: (ordinal + 1, ordinal + 2),
        span: Span { start: n, end: n + 9, start_byte: 2 * n, end_byte: 2 * n + 18 },
        boxes: (0..ordinal % 3).map(|i| PageBox { page: i + 1, bbox: [1.0, 2.5, 3.0, 4.0] }).collect(),
        tokens: 7,
        language: (ordinal.is_multiple_of(2)).then(|| "eng".into()),
        metadata,
        vector,
    }
}

/// A document whose rows have these texts, with vectors of three dimensions.
pub fn document(document: &str, version: u64, texts: &[&str]) -> Write {
    let one = |(i, text): (usize, &&str)| {
        row(document, version, i as u32, text, unit(&[1.0 + i as f32, version as f32, 1.0]))
    };
    let mut metadata = Map::new();
    metadata.insert("tenant".into(), json!("acme"));
    Write::Upsert(DocumentRows {
        document_id: id(document),
        version,
        source: format!("file:///{document}.pdf"),
        parent: None,
        metadata,
        rows: texts.iter().enumerate().map(one).collect(),
    })
}

pub fn delete(document: &str, version: u64) -> Write {
    Write::Delete { document_id: id(document), version }
}

pub fn objects(seed: u64, faults: Faults) -> Arc<MemoryObjects> {
    Arc::new(MemoryObjects::with_faults(Arc::new(ManualClock::at(1_700_000_000_000_000)), seed, faults))
}

pub fn store(objects: &Arc<MemoryObjects>) -> Arc<VectorStore> {
    store_with(objects, VectorOptions::default())
}

pub fn store_with(objects: &Arc<MemoryObjects>, options: VectorOptions) -> Arc<VectorStore> {
    Arc::new(VectorStore::new(objects.clone(), "chunks", objects.clock(), options).unwrap())
}

/// Polls a future at most `polls` times.
pub fn poll_some<F: Future>(future: &mut Pin<&mut F>, polls: usize) -> Option<F::Output> {
    let mut context = Context::from_waker(Waker::noop());
    for _ in 0..polls {
        if let Poll::Ready(output) = future.as_mut().poll(&mut context) {
            return Some(output);
        }
    }
    None
}

pub fn run<F: Future>(future: F) -> F::Output {
    poll_some(&mut pin!(future), 1_000_000).expect("the future never ends")
}
