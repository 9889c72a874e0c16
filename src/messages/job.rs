//! Defines the job, which is one document's pass through one stage. Also defines the result of a job.

use std::sync::Arc;

use docweir_core::documents::{MediaType, Sha256Hex, Stage};
use docweir_core::model::{Chunks, EmbeddedDocument, ExtractedDocument};
use docweir_stores::control::{Claim, StageMetrics, StageOutput};

/// Estimated memory of a job without its data, in bytes.
const JOB_BYTES: usize = 1024;

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

    /// Returns the estimated memory, in bytes, that the job occupies in its pool: its input, and all that the stage makes
    /// from the input before it ends. The factors were measured (docs/performance.md). A text with a finding in every
    /// second word needs this much; other texts need less.
    pub fn working_bytes(&self) -> usize {
        /// Memory for one chunk while it is embedded: its vector, the copies of the vector, and its numbers as text.
        const EMBEDDED_CHUNK: usize = 16 * 1024;
        let own = self.input.weight_bytes();
        let made = match &self.input {
            // The file is read in a child process. How much text a PDF contains is not known before.
            Input::Original if self.claim.media_type == MediaType::Pdf => 0,
            Input::Original => 3 * usize::try_from(self.claim.bytes).unwrap_or(usize::MAX / 4),
            Input::Extracted(_) => 5 * own,
            Input::Chunks(_) => 20 * own,
            Input::Enriched(chunks) => own + EMBEDDED_CHUNK * chunks.chunks.len(),
            Input::Embedded(_) => 2 * own,
            Input::Removal => 0,
        };
        own + made + JOB_BYTES
    }

    /// Returns the estimated memory, in bytes, of the job and of its result.
    pub fn finished_bytes(&self, result: &StageResult) -> usize {
        let result = match &result.next {
            // The chunks are shared with the input.
            Some(Input::Embedded(document)) => document.vectors_bytes(),
            Some(next) => next.weight_bytes(),
            None => 0,
        };
        self.input.weight_bytes() + result + JOB_BYTES
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
    /// Returns the estimated memory of the data, in bytes.
    fn weight_bytes(&self) -> usize {
        match self {
            Input::Original | Input::Removal => 0,
            Input::Extracted(document) => document.weight_bytes(),
            Input::Chunks(chunks) | Input::Enriched(chunks) => chunks.weight_bytes(),
            Input::Embedded(document) => document.weight_bytes(),
        }
    }

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

#[cfg(test)]
mod tests {
    use super::*;
    use docweir_core::cache::NoCache;
    use docweir_core::cancel::Cancel;
    use docweir_core::documents::DocumentId;
    use docweir_extract::{ExtractOptions, extract_in_process};
    use docweir_stages::chunk::{ChunkOptions, chunk_document};
    use docweir_stages::embed::{Call, EmbedOptions, HashedEmbedder, InFlight, Tokens, embed_document};
    use docweir_stages::enrich::{self, EnrichOptions, Enricher, LocalEnricher};
    use docweir_stores::control::{ClaimKey, Intent};
    use docweir_target::{DocumentRows, Write};

    fn job(input: Input, bytes: usize) -> Job {
        let claim = Claim {
            key: ClaimKey { id: DocumentId::mint(0, 1), version: 1, epoch: 1 },
            intent: Intent::Process,
            source: "file:///a.txt".into(),
            content: Sha256Hex::of(b""),
            fingerprint: Sha256Hex::of(b""),
            bytes: bytes as u64,
            media_type: MediaType::Text,
            tenant: "t".into(),
            weight: 1,
            parent: None,
            children: Vec::new(),
            stage: input.stage(),
            attempts: 0,
            interruptions: 0,
            urgent: false,
            outputs: Default::default(),
            loaded_version: None,
            kept: Vec::new(),
        };
        Job { claim: Arc::new(claim), input }
    }

    fn result(next: Option<Input>) -> StageResult {
        let (metrics, duration) = Default::default();
        StageResult { output: None, metrics, duration, next, children: Vec::new() }
    }

    fn json_bytes(value: &impl serde::Serialize) -> usize {
        serde_json::to_vec(value).unwrap().len()
    }

    /// Passes a text with many findings through the stages. At each stage, the charge must cover the input, the result
    /// and the text of the artefact.
    #[tokio::test]
    async fn the_charge_of_a_job_covers_what_the_job_becomes() {
        let lines = (0..3_000).map(|n| {
            format!("Mary Jones a{n}@ex.com 12 May {} $ {n}.00 https://x.org/{n} +44 20 7946 {n:04}\n", 1990 + n % 40)
        });
        let text: String = lines.collect();
        let (bytes, cancel) = (text.len(), Cancel::default());
        let embedder = Arc::new(HashedEmbedder::new(384, std::time::Duration::ZERO));
        let tokens = Arc::new(Tokens(embedder.clone()));
        let covers = |job: &Job, next: Option<Input>, more: usize, stage: &str| {
            let (charge, becomes) = (job.working_bytes(), job.finished_bytes(&result(next)) + more);
            assert!(charge >= becomes, "{stage}: {charge} bytes are charged, and the job becomes {becomes}");
            assert!(charge <= 10 * becomes, "{stage}: {charge} bytes are charged for {becomes}");
        };

        let document = extract_in_process(text.into_bytes(), MediaType::Text, &ExtractOptions::default()).unwrap();
        let document = Arc::new(document);
        covers(&job(Input::Original, bytes), Some(Input::Extracted(document.clone())), bytes, "extraction");

        let id = DocumentId::mint(0, 1);
        let chunks = chunk_document(&document, &id, tokens.as_ref(), &ChunkOptions::default(), &cancel).unwrap();
        let chunks = Arc::new(chunks);
        let written = json_bytes(&chunks);
        covers(&job(Input::Extracted(document), bytes), Some(Input::Chunks(chunks.clone())), written, "chunking");

        let enricher = LocalEnricher::new(EnrichOptions::default(), tokens);
        let call = enrich::Call::new("a", &cancel);
        let enriched = Arc::new(enricher.enrich((*chunks).clone(), call).await.unwrap().chunks);
        assert!(enriched.weight_bytes() > 4 * chunks.weight_bytes(), "the text has many findings");
        let written = json_bytes(&enriched);
        covers(&job(Input::Chunks(chunks), bytes), Some(Input::Enriched(enriched.clone())), written, "enrichment");

        let (in_flight, options) = (InFlight::default(), EmbedOptions::default());
        let call = Call { subject: "a", collection: None, cancel: &cancel };
        let embedded = embed_document(embedder.as_ref(), &NoCache, &in_flight, enriched.clone(), &options, call);
        let embedded = Arc::new(embedded.await.unwrap());
        let written = json_bytes(&embedded);
        covers(&job(Input::Enriched(enriched), bytes), Some(Input::Embedded(embedded.clone())), written, "embedding");

        let rows = DocumentRows::of_embedded(id, 1, String::new(), Default::default(), &embedded).unwrap();
        // The rows, and their columns in the file of the commit.
        let more = 2 * Write::Upsert(rows).weight_bytes();
        covers(&job(Input::Embedded(embedded), bytes), None, more, "loading");
    }
}
