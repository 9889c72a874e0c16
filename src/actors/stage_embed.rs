//! Connects the embedding stage to its pool.

use std::sync::Arc;

use async_trait::async_trait;
use docweir_core::cache::EmbeddingCache;
use docweir_core::clock::SharedClock;
use docweir_core::error::StageError;
use docweir_core::failpoint;
use docweir_core::model::Chunks;
use docweir_providers::account::BUDGET_SPENT;
use docweir_providers::batched::{WAITS_FOR_BATCH, wake_word};
use docweir_stages::embed::{Call, EmbedOptions, Embedder, InFlight, embed_document};
use docweir_stores::batches::DocumentTexts;
use docweir_stores::control::{Claim, Resume};

use crate::actors::outcomes::StageContext;
use crate::actors::timer::Timer;
use crate::messages::job::{Input, Job, StageResult};
use crate::supervisors::{AttemptOutcome, Cancel, Stage, Work};

/// Configures the embedding pool and creates its workers.
pub struct EmbedStage {
    pub context: Arc<StageContext>,
    pub embedder: Arc<dyn Embedder>,
    pub cache: Arc<dyn EmbeddingCache>,
    pub in_flight: InFlight,
    pub options: EmbedOptions,
    /// Store of texts that wait for a batch; `None` if texts are not embedded in batches.
    pub batches: Option<Arc<dyn DocumentTexts>>,
    pub clock: SharedClock,
}

impl Stage for EmbedStage {
    type Job = Job;
    type Done = StageResult;
    type Park = Resume;

    fn finished_bytes(&self, job: &Job, done: &StageResult) -> usize {
        job.finished_bytes(done)
    }

    fn worker(&self) -> Result<Box<dyn Work<Job, StageResult, Resume>>, StageError> {
        Ok(Box::new(EmbedWorker {
            context: self.context.clone(),
            embedder: self.embedder.clone(),
            cache: self.cache.clone(),
            in_flight: self.in_flight.clone(),
            options: self.options.clone(),
            batches: self.batches.clone(),
            clock: self.clock.clone(),
        }))
    }
}

struct EmbedWorker {
    context: Arc<StageContext>,
    embedder: Arc<dyn Embedder>,
    cache: Arc<dyn EmbeddingCache>,
    in_flight: InFlight,
    options: EmbedOptions,
    batches: Option<Arc<dyn DocumentTexts>>,
    clock: SharedClock,
}

#[async_trait]
impl Work<Job, StageResult, Resume> for EmbedWorker {
    async fn run(&mut self, job: &Arc<Job>, cancel: &Cancel) -> AttemptOutcome<StageResult, Resume> {
        failpoint::reach("embedding.work", &job.claim.source);
        let Input::Enriched(chunks) = &job.input else {
            return AttemptOutcome::Failed(StageError::permanent(
                "wrong_input",
                "the embedding stage received no chunks",
            ));
        };
        match self.embed(&job.claim, chunks, cancel).await {
            Ok(result) => AttemptOutcome::Done(result),
            // A spent budget is not a failure of the document. The document is parked, and the next run that has a
            // budget resumes it.
            Err(error) if error.code == BUDGET_SPENT => {
                AttemptOutcome::Parked { reason: error.message, resume: Resume::On(BUDGET_SPENT.to_owned()) }
            }
            Err(error) if error.code == WAITS_FOR_BATCH => {
                let word = wake_word(job.claim.key.id.as_str());
                AttemptOutcome::Parked { reason: error.message, resume: Resume::On(word) }
            }
            Err(error) => AttemptOutcome::Failed(error),
        }
    }
}

impl EmbedWorker {
    async fn embed(&self, claim: &Claim, chunks: &Arc<Chunks>, cancel: &Cancel) -> Result<StageResult, StageError> {
        let timer = Timer::start();
        let (embedder, cache) = (self.embedder.as_ref(), self.cache.as_ref());
        let call = Call { subject: claim.key.id.as_str(), collection: None, cancel };
        let document = embed_document(embedder, cache, &self.in_flight, chunks.clone(), &self.options, call).await?;
        let output = self.context.artefacts.put_embedded(claim, &document, self.clock.now(), cancel).await?;
        if let Some(batches) = &self.batches {
            // The artefact is written, so the store of batches may delete the vectors that it keeps for this
            // document.
            batches.taken(claim.key.id.as_str()).await?;
        }
        let usage = document.usage;
        let metrics = [
            ("embeddings_generated".to_owned(), (document.vectors.len() as u64 - usage.cached_chunks) as f64),
            ("tokens_processed".to_owned(), usage.tokens as f64),
            ("tokens_cached".to_owned(), usage.cached_tokens as f64),
            ("openai_cost_usd".to_owned(), usage.cost_usd),
        ]
        .into();
        let next = Some(Input::Embedded(Arc::new(document)));
        Ok(StageResult { output: Some(output), metrics, duration: timer.elapsed(), next, children: Vec::new() })
    }
}
