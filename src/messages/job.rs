//! One document's way through one stage.

use std::sync::Arc;

use docweir_core::documents::{MediaType, Sha256Hex, Stage};
use docweir_core::model::{Chunks, EmbeddedDocument, ExtractedDocument};
use docweir_stores::control::{Claim, StageMetrics, StageOutput};

/// What a pool holds for a document: the claim that gives the right to work on it, and the stage's input.
#[derive(Clone, Debug)]
pub struct Job {
    pub claim: Arc<Claim>,
    pub input: Input,
}

impl Job {
    pub fn stage(&self) -> Stage {
        self.input.stage()
    }

    /// Bytes that the job keeps in memory while it waits. A file waits on disk.
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

/// A stage's input, shared and never changed: a worker that dies takes nothing with it.
#[derive(Clone, Debug)]
pub enum Input {
    /// The document's file, wherever its source is.
    Original,
    Extracted(Arc<ExtractedDocument>),
    Chunks(Arc<Chunks>),
    Enriched(Arc<Chunks>),
    Embedded(Arc<EmbeddedDocument>),
    /// The document is to leave the vector store.
    Removal,
}

impl Input {
    /// The stage that takes this input.
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

/// What a stage made of a job.
#[derive(Clone, Debug)]
pub struct StageResult {
    /// Where the result lies, for whoever goes on after a crash. Loading leaves none: the manifest is its result.
    pub output: Option<StageOutput>,
    pub metrics: StageMetrics,
    pub duration: std::time::Duration,
    /// The next stage's input; `None` after the last.
    pub next: Option<Input>,
    /// Documents that extraction found in this one; those of an earlier version that are not among them are removed.
    pub children: Vec<NewChild>,
}

/// A document within a document: an attachment of an e-mail or a PDF, a member of a portfolio.
#[derive(Clone, Debug, PartialEq)]
pub struct NewChild {
    /// Unique within the document that contains it, and the same each time.
    pub name: String,
    pub content: Sha256Hex,
    pub bytes: u64,
    pub media_type: MediaType,
}
