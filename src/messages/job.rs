//! Defines the job, which is one document's pass through one stage. Also defines the result of a job.

use std::sync::Arc;

use docweir_core::documents::{MediaType, Sha256Hex, Stage};
use docweir_core::model::{Chunks, EmbeddedDocument, ExtractedDocument};
use docweir_stores::control::{Claim, StageMetrics, StageOutput};

/// Represents a document in a pool. The claim permits work on the document. The input is the data that the stage
/// processes.
#[derive(Clone, Debug)]
pub struct Job {
    pub claim: Arc<Claim>,
    pub input: Input,
}

impl Job {
    pub fn stage(&self) -> Stage {
        self.input.stage()
    }

    /// Returns the memory, in bytes, that the job occupies while it waits. A file that was not read yet is not
    /// counted.
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

/// Holds the data that a stage processes. The data is shared and immutable, so nothing is lost if a worker dies.
#[derive(Clone, Debug)]
pub enum Input {
    /// The document's original file, which the extraction stage reads from its source.
    Original,
    Extracted(Arc<ExtractedDocument>),
    Chunks(Arc<Chunks>),
    Enriched(Arc<Chunks>),
    Embedded(Arc<EmbeddedDocument>),
    /// The request to remove the document from the vector store.
    Removal,
}

impl Input {
    /// Returns the stage that processes this input.
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
    /// Artefact of the stage. After a crash, the document is resumed from this artefact. `None` after loading, because
    /// the manifest then holds the result.
    pub output: Option<StageOutput>,
    pub metrics: StageMetrics,
    pub duration: std::time::Duration,
    /// Input of the next stage; `None` after the last stage.
    pub next: Option<Input>,
    /// Documents that extraction found within this document. A child of an earlier version is removed if it is
    /// missing from this list.
    pub children: Vec<NewChild>,
}

/// Describes a document within another document: an attachment of an e-mail or a PDF, or a member of a portfolio.
#[derive(Clone, Debug, PartialEq)]
pub struct NewChild {
    /// Name of the document within the containing document. The name is unique there, and every extraction gives the
    /// same name.
    pub name: String,
    pub content: Sha256Hex,
    pub bytes: u64,
    pub media_type: MediaType,
}
