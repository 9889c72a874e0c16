//! Reads and writes the artefact of embedding, `embeddings/{document_id}_embeddings.json`.
//!
//! The artefact holds the chunks with their vectors, the model and the cost. Vectors are JSON numbers in their
//! shortest exact form, so that reading restores every bit.

use std::sync::Arc;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use docweir_core::clock::{UnixMicros, timestamp};
use docweir_core::documents::{DocumentId, Version};
use docweir_core::error::StageError;
use docweir_core::model::{
    Chunk, ChunkKind, Chunks, EmbeddedDocument, Findings, Language, ModelIdentity, PageBox, Span, Usage,
};

/// Returns the object key of the artefact.
pub fn key(document: &DocumentId) -> String {
    format!("embeddings/{document}_embeddings.json")
}

#[derive(Serialize)]
struct FileOut<'a> {
    document_id: &'a str,
    version: Version,
    embedding_metadata: ModelOut<'a>,
    cost_tracking: Cost,
    language: &'a Option<Language>,
    pii_redacted: u64,
    notes: &'a [String],
    #[serde(skip_serializing_if = "Map::is_empty")]
    fields: &'a Map<String, Value>,
    chunks: Vec<ChunkOut<'a>>,
}

#[derive(Serialize)]
struct ModelOut<'a> {
    model: &'a str,
    weights: &'a str,
    dimensions: u32,
    generated_at: String,
}

#[derive(Clone, Copy, Serialize, Deserialize)]
struct Cost {
    total_tokens: u64,
    cached_tokens: u64,
    cached_chunks: u64,
    /// Average price of this document's tokens, in USD per million tokens; 0 for a local model.
    price_per_million_tokens: f64,
    total_cost_usd: f64,
}

#[derive(Serialize)]
struct ChunkOut<'a> {
    #[serde(flatten)]
    chunk: &'a Chunk,
    embedding: &'a [f32],
}

#[derive(Deserialize)]
struct FileIn {
    cost_tracking: Cost,
    language: Option<Language>,
    pii_redacted: u64,
    notes: Vec<String>,
    #[serde(default)]
    fields: Map<String, Value>,
    chunks: Vec<ChunkIn>,
}

/// Lists the fields of [`Chunk`] instead of flattening it, because a flattened struct cannot read decimal numbers
/// (decision 0023).
#[derive(Deserialize)]
struct ChunkIn {
    id: String,
    ordinal: u32,
    kind: ChunkKind,
    content: String,
    heading_path: Vec<String>,
    pages: (u32, u32),
    span: Span,
    #[serde(default)]
    boxes: Vec<PageBox>,
    tokens: u32,
    #[serde(default)]
    findings: Option<Findings>,
    embedding: Vec<f32>,
}

impl ChunkIn {
    fn into_parts(self) -> (Chunk, Vec<f32>) {
        let Self { id, ordinal, kind, content, heading_path, pages, span, boxes, tokens, findings, embedding } = self;
        let chunk = Chunk { id, ordinal, kind, content, heading_path, pages, span, boxes, tokens, findings };
        (chunk, embedding)
    }
}

/// Writes the artefact as JSON.
///
/// # Errors
/// Returns the permanent error `artefact_unwritable` if a chunk has no vector or a number is not finite.
pub fn to_json(
    document: &EmbeddedDocument,
    id: &DocumentId,
    version: Version,
    model: &ModelIdentity,
    at: UnixMicros,
) -> Result<Vec<u8>, StageError> {
    let unwritable = |reason: &str| {
        StageError::permanent("artefact_unwritable", format!("can't write the embeddings of {id} as json: {reason}"))
    };
    let (chunks, vectors, usage) = (&document.chunks.chunks, &document.vectors, document.usage);
    if chunks.len() != vectors.len() {
        return Err(unwritable("the numbers of chunks and vectors differ"));
    }
    if vectors.iter().flatten().any(|x| !x.is_finite()) {
        return Err(unwritable("a vector contains a number that is not finite"));
    }
    let price = if usage.tokens == 0 { 0.0 } else { usage.cost_usd * 1e6 / usage.tokens as f64 };
    let file = FileOut {
        document_id: id.as_str(),
        version,
        embedding_metadata: ModelOut {
            model: &model.id,
            weights: &model.weights,
            dimensions: model.dimension,
            generated_at: timestamp(at),
        },
        cost_tracking: Cost {
            total_tokens: usage.tokens,
            cached_tokens: usage.cached_tokens,
            cached_chunks: usage.cached_chunks,
            price_per_million_tokens: price,
            total_cost_usd: usage.cost_usd,
        },
        language: &document.chunks.language,
        pii_redacted: document.chunks.pii_redacted,
        notes: &document.notes,
        fields: &document.chunks.fields,
        chunks: chunks.iter().zip(vectors).map(|(chunk, embedding)| ChunkOut { chunk, embedding }).collect(),
    };
    serde_json::to_vec(&file).map_err(|e| unwritable("serialisation failed").caused_by(&e))
}

/// Reads the artefact from JSON.
///
/// # Errors
/// Returns the transient error `artefact_unreadable` if the artefact is invalid. The document must then be embedded
/// again.
pub fn from_json(bytes: &[u8]) -> Result<EmbeddedDocument, StageError> {
    let file: FileIn = serde_json::from_slice(bytes).map_err(|e| {
        // Report only the position, because the parser's own message may quote the text.
        let text = format!("the embeddings artefact is not valid JSON (line {}, column {})", e.line(), e.column());
        StageError::transient("artefact_unreadable", text)
    })?;
    let (chunks, vectors) = file.chunks.into_iter().map(ChunkIn::into_parts).unzip();
    let cost = file.cost_tracking;
    Ok(EmbeddedDocument {
        chunks: Arc::new(Chunks {
            chunks,
            language: file.language,
            pii_redacted: file.pii_redacted,
            notes: file.notes.clone(),
            fields: file.fields,
        }),
        notes: file.notes,
        vectors,
        usage: Usage {
            tokens: cost.total_tokens,
            cached_tokens: cost.cached_tokens,
            cached_chunks: cost.cached_chunks,
            cost_usd: cost.total_cost_usd,
        },
    })
}

#[cfg(test)]
mod tests {
    use docweir_core::model::{Mention, Metric};

    use super::*;
    use proptest::prelude::*;

    fn document(values: &[f32]) -> EmbeddedDocument {
        let chunk = Chunk {
            id: "doc_1#ab-0".into(),
            ordinal: 0,
            kind: ChunkKind::Table,
            content: "| a | b |\n\"quoted\" \u{1f980}".into(),
            heading_path: vec!["One".into(), "Two".into()],
            pages: (1, 2),
            span: Span { start: 3, end: 9, start_byte: 3, end_byte: 12 },
            boxes: vec![PageBox { page: 1, bbox: [1.0, 2.5, 3.25, 4.0] }],
            tokens: 7,
            findings: Some(Findings {
                language: Some(Language { code: "eng".into(), confidence: 0.9 }),
                key_phrases: vec!["fencing token".into()],
                entities: vec![Mention { kind: "DATE".into(), text: "1 May".into(), start: 0, end: 5, score: 1.0 }],
                ..Default::default()
            }),
        };
        EmbeddedDocument {
            chunks: Arc::new(Chunks {
                chunks: vec![chunk],
                language: None,
                pii_redacted: 2,
                notes: vec!["a note".into()],
                fields: Map::from_iter([("tags".to_owned(), serde_json::json!(["a", 1]))]),
            }),
            notes: vec!["a note".into()],
            vectors: vec![values.to_vec()],
            usage: Usage { tokens: 100, cached_tokens: 5, cached_chunks: 1, cost_usd: 0.000002 },
        }
    }

    fn write(document: &EmbeddedDocument) -> Result<Vec<u8>, StageError> {
        let model = ModelIdentity { id: "m".into(), weights: "w".into(), dimension: 3, metric: Metric::Cosine };
        to_json(document, &DocumentId::mint(0, 1), 4, &model, 0)
    }

    proptest! {
        #[test]
        fn vectors_come_back_bit_for_bit(values in proptest::collection::vec(proptest::num::f32::NORMAL, 1..20)) {
            let document = document(&values);
            prop_assert_eq!(from_json(&write(&document).unwrap()).unwrap(), document);
        }
    }

    #[test]
    fn the_names_are_those_of_the_system_that_this_one_replaces() {
        let json: serde_json::Value = serde_json::from_slice(&write(&document(&[0.5])).unwrap()).unwrap();
        assert_eq!(json["embedding_metadata"]["dimensions"], 3);
        assert_eq!(json["embedding_metadata"]["generated_at"], "1970-01-01T00:00:00.000000Z");
        assert_eq!(json["cost_tracking"]["total_tokens"], 100);
        assert_eq!(json["cost_tracking"]["price_per_million_tokens"], 0.02);
        assert_eq!(json["chunks"][0]["embedding"][0], 0.5);
    }

    #[test]
    fn what_json_cannot_hold_is_refused_and_damage_is_found() {
        assert_eq!(write(&document(&[f32::NAN])).unwrap_err().code, "artefact_unwritable");
        let mut short = document(&[1.0]);
        short.vectors.clear();
        assert_eq!(write(&short).unwrap_err().code, "artefact_unwritable");
        let body = write(&document(&[1.0])).unwrap();
        let error = from_json(&body[..body.len() / 2]).unwrap_err();
        assert_eq!(error.code, "artefact_unreadable");
        assert!(!error.to_string().contains("quoted"), "{error}");
    }
}
