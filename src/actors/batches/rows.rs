//! Converts records to rows of a collection. Each record becomes a document with one row.

use docweir_core::model::Span;
use docweir_records::document_id;
use docweir_stores::batches::{Removal, Sent};
use docweir_target::{DocumentRows, Row, Write};

/// Returns the writes that store records with their vectors.
pub fn rows(items: impl Iterator<Item = (Sent, Vec<f32>)>) -> Vec<Write> {
    items.filter_map(|(sent, vector)| row(sent, vector)).collect()
}

fn row(sent: Sent, vector: Vec<f32>) -> Option<Write> {
    // The texts of documents have no rows of their own.
    let shown = sent.shown?;
    let row = Row {
        chunk_id: sent.key.clone(),
        ordinal: 0,
        kind: shown.kind,
        text: shown.text,
        heading_path: Vec::new(),
        pages: (1, 1),
        span: Span { start: 0, end: 0, start_byte: 0, end_byte: 0 },
        boxes: Vec::new(),
        tokens: u32::try_from(sent.tokens).unwrap_or(u32::MAX),
        language: None,
        metadata: shown.metadata.into(),
        vector,
    };
    Some(Write::Upsert(DocumentRows {
        document_id: document_id(&sent.key),
        version: sent.version,
        source: shown.source,
        parent: None,
        metadata: serde_json::Map::new(),
        rows: vec![row],
    }))
}

/// Returns the writes that delete the rows of removed records.
pub fn tombstones(removals: &[Removal]) -> Vec<Write> {
    let delete = |r: &Removal| Write::Delete { document_id: document_id(&r.key), version: r.version };
    removals.iter().map(delete).collect()
}
