//! Reads and writes the JSON form of chunks, before and after enrichment.
//!
//! The outer structure, and the names under each chunk's `metadata`, are those of the former system. Programs which
//! read that system's files therefore keep working. Each chunk also has every field of [`Chunk`] itself, and
//! [`from_json`] reads only these fields. Reading therefore restores exactly what was written, even if a program has
//! changed `metadata`.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use docweir_core::clock::{UnixMicros, timestamp};
use docweir_core::documents::{DocumentId, Version};
use docweir_core::error::StageError;
use docweir_core::model::{Chunk, ChunkKind, Chunks, Language};

use super::ChunkOptions;

/// Returns the object key of the artefact of chunking.
pub fn chunks_key(document: &DocumentId) -> String {
    format!("chunks/{document}_chunks.json")
}

/// Returns the object key of the artefact of enrichment.
pub fn enriched_key(document: &DocumentId) -> String {
    format!("enriched/{document}_enriched.json")
}

/// Holds the metadata that is stored with the chunks of a document.
#[derive(Clone, Debug)]
pub struct Header<'a> {
    pub document: &'a DocumentId,
    pub version: Version,
    /// Source of the document, as a URI.
    pub source: &'a str,
    /// S3 URI of the original file, if the original is an object in S3.
    pub s3_uri: Option<&'a str>,
    pub at: UnixMicros,
    pub options: &'a ChunkOptions,
}

/// Writes the artefact of chunking.
pub fn to_json(chunks: &Chunks, header: &Header<'_>) -> Result<Vec<u8>, StageError> {
    write(chunks, header, None)
}

/// Writes the artefact of enrichment. This artefact has the form of the chunking artefact, and in addition the
/// `statistics` of enrichment.
pub fn to_enriched_json(
    chunks: &Chunks,
    header: &Header<'_>,
    statistics: &impl Serialize,
) -> Result<Vec<u8>, StageError> {
    let statistics = serde_json::to_value(statistics).map_err(|e| unwritable(header.document).caused_by(&e))?;
    write(chunks, header, Some(statistics))
}

fn write(chunks: &Chunks, header: &Header<'_>, statistics: Option<Value>) -> Result<Vec<u8>, StageError> {
    let at = timestamp(header.at);
    let file = FileOut {
        metadata: MetadataOut {
            document_id: header.document.as_str(),
            version: header.version,
            total_chunks: chunks.chunks.len(),
            chunked_at: statistics.is_none().then(|| at.clone()),
            enriched_at: statistics.is_some().then_some(at),
            chunking_config: header.options,
            language: chunks.language.as_ref(),
            pii_redacted: chunks.pii_redacted,
            notes: &chunks.notes,
            fields: &chunks.fields,
        },
        chunks: chunks
            .chunks
            .iter()
            .map(|chunk| ChunkOut { metadata: ChunkMetadata::of(chunk, header), chunk })
            .collect(),
        statistics,
    };
    serde_json::to_vec(&file).map_err(|e| unwritable(header.document).caused_by(&e))
}

fn unwritable(document: &DocumentId) -> StageError {
    StageError::permanent("artefact_unwritable", format!("can't write the chunks of {document} as json"))
}

/// Reads the artefact of chunking or of enrichment.
pub fn from_json(bytes: &[u8]) -> Result<Chunks, StageError> {
    let file: FileIn = serde_json::from_slice(bytes).map_err(|e| {
        // Report only the position, because the parser's own message may quote the text.
        let message = format!(
            "the chunk artefact is not valid JSON (line {}, column {}); run the chunk stage on the document again",
            e.line(),
            e.column()
        );
        StageError::permanent("artefact_unreadable", message)
    })?;
    if file.metadata.total_chunks != file.chunks.len() {
        let (said, found) = (file.metadata.total_chunks, file.chunks.len());
        let message = format!(
            "the chunk artefact declares {said} chunks but contains {found}; run the chunk stage on the document again"
        );
        return Err(StageError::permanent("artefact_incomplete", message));
    }
    let FileIn { metadata, chunks } = file;
    let MetadataIn { language, pii_redacted, notes, fields, .. } = metadata;
    Ok(Chunks { chunks, language, pii_redacted, notes, fields })
}

#[derive(Serialize)]
struct FileOut<'a> {
    metadata: MetadataOut<'a>,
    chunks: Vec<ChunkOut<'a>>,
    #[serde(skip_serializing_if = "Option::is_none")]
    statistics: Option<Value>,
}

#[derive(Serialize)]
struct MetadataOut<'a> {
    document_id: &'a str,
    version: Version,
    total_chunks: usize,
    #[serde(skip_serializing_if = "Option::is_none")]
    chunked_at: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    enriched_at: Option<String>,
    chunking_config: &'a ChunkOptions,
    #[serde(skip_serializing_if = "Option::is_none")]
    language: Option<&'a Language>,
    pii_redacted: u64,
    notes: &'a [String],
    #[serde(skip_serializing_if = "Map::is_empty")]
    fields: &'a Map<String, Value>,
}

#[derive(Serialize)]
struct ChunkOut<'a> {
    #[serde(flatten)]
    chunk: &'a Chunk,
    metadata: ChunkMetadata<'a>,
}

/// Repeats data of a chunk under the names that the former system used.
#[derive(Serialize)]
struct ChunkMetadata<'a> {
    source: &'a str,
    /// Number of the first page of the chunk.
    page: u32,
    breadcrumbs: &'a [String],
    char_count: usize,
    chunk_types: [ChunkKind; 1],
    s3_uri: Option<&'a str>,
    /// Description of a figure by a vision model. It is always absent, because no such model is in use.
    ai_description: Option<&'a str>,
}

impl<'a> ChunkMetadata<'a> {
    fn of(chunk: &'a Chunk, header: &Header<'a>) -> Self {
        Self {
            source: header.source,
            page: chunk.pages.0,
            breadcrumbs: &chunk.heading_path,
            char_count: chunk.content.chars().count(),
            chunk_types: [chunk.kind],
            s3_uri: header.s3_uri,
            ai_description: None,
        }
    }
}

#[derive(Deserialize)]
struct FileIn {
    metadata: MetadataIn,
    chunks: Vec<Chunk>,
}

#[derive(Deserialize)]
struct MetadataIn {
    total_chunks: usize,
    #[serde(default)]
    language: Option<Language>,
    #[serde(default)]
    pii_redacted: u64,
    #[serde(default)]
    notes: Vec<String>,
    #[serde(default)]
    fields: Map<String, Value>,
}
