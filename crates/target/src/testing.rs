//! Provides small documents and models for tests of targets.

use docweir_core::documents::DocumentId;
use docweir_core::model::{Metric, ModelIdentity, PageBox, Span};
use serde_json::{Map, Value, json};

use crate::{DocumentRows, Row, Write};

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

/// Returns a row with all columns filled.
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
        metadata: metadata.into(),
        vector,
    }
}

/// Returns a document with one row per text and vectors of three dimensions.
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
