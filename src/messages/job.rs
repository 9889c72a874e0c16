//! Defines a job, which is one document's pass through one stage, and the result of that pass.

use std::sync::Arc;

use docweir_core::documents::{MediaType, Sha256Hex, Stage};
use docweir_core::model::{Chunks, EmbeddedDocument, ExtractedDocument};
use docweir_stores::control::{Claim, StageMetrics, StageOutput};

/// Holds a document in a pool: the claim that permits work on the document, and the input of the stage.
#[derive(Clone, Debug)]
pub struct Job {
    pub claim: Arc<Claim>,
    pub input: Input,
}

impl Job {
    pub fn stage(&self) -> Stage {
        self.input.stage()
    }

    /// Returns the memory, in bytes, that the job occupies while it waits. An unread file occupies none.
    pub fn weight_bytes(&self) -> usize {
        let payload = match &self.input {
            Input::Original => 0,
            Input::Extracted(document) => document.weight_bytes(),
            Input::Chunks(chunks) | Input::Enriched(chunks) => chunks.weight_bytes(),
            Input::Embedded(document) => document.weight_bytes(),
            Input::Removal => 0,
        };
        payload + 1024
    }
}

/// Holds the input of a stage. It is shared and immutable, so a worker that dies loses nothing.
#[derive(Clone, Debug)]
pub enum Input {
    /// The document's original file, wherever its source is.
    Original,
    Extracted(Arc<ExtractedDocument>),
    Chunks(Arc<Chunks>),
    Enriched(Arc<Chunks>),
    Embedded(Arc<EmbeddedDocument>),
    /// Removal of the document from the vector store.
    Removal,
}

impl Input {
    /// Returns the stage that takes this input.
    pub fn stage(&self) -> Stage {
        match self {
            Input::Original => Stage::Extraction,
            Input::Extracted(_) => Stage::Chunking,
            Input::Chunks(_) => Stage::Enrichment,
            Input::Enriched(_) => Stage::Embedding,
            Input::Embedded(_) | Input::Removal => Stage::Loading,
        }
    }
}

/// Holds the result of a stage for one job.
#[derive(Clone, Debug)]
pub struct StageResult {
    /// Artefact of the stage, from which the document is resumed after a crash. `None` for loading, whose result is
    /// the manifest.
    pub output: Option<StageOutput>,
    pub metrics: StageMetrics,
    pub duration: std::time::Duration,
    /// Input of the next stage; `None` after the last stage.
    pub next: Option<Input>,
    /// Documents that extraction found in this document. Children of an earlier version that are not listed here are
    /// removed.
    pub children: Vec<NewChild>,
}

/// Describes a document within a document: an attachment of an e-mail or a PDF, or a member of a portfolio.
#[derive(Clone, Debug, PartialEq)]
pub struct NewChild {
    /// Name that is unique within the containing document, and the same in every extraction.
    pub name: String,
    pub content: Sha256Hex,
    pub bytes: u64,
    pub media_type: MediaType,
}
