//! Connects the chunking stage to its pool. The work runs on a blocking thread and checks the cancel token between
//! blocks.

use std::sync::Arc;

use async_trait::async_trait;
use docweir_core::clock::SharedClock;
use docweir_core::error::StageError;
use docweir_core::failpoint;
use docweir_core::model::ExtractedDocument;
use docweir_stages::chunk::{ChunkOptions, TokenCounter, chunk_document};
use docweir_stores::control::{Claim, Resume};

use crate::actors::outcomes::StageContext;
use crate::actors::timer::Timer;
use crate::messages::job::{Input, Job, StageResult};
use crate::supervisors::{AttemptOutcome, Cancel, Stage, Work};

/// Configures the chunking pool and creates its workers.
pub struct ChunkStage {
    pub context: Arc<StageContext>,
    pub options: ChunkOptions,
    pub tokens: Arc<dyn TokenCounter>,
    pub clock: SharedClock,
}

impl Stage for ChunkStage {
    type Job = Job;
    type Done = StageResult;
    type Park = Resume;

    fn finished_bytes(&self, job: &Job, done: &StageResult) -> usize {
        job.finished_bytes(done)
    }

    fn worker(&self) -> Result<Box<dyn Work<Job, StageResult, Resume>>, StageError> {
        Ok(Box::new(ChunkWorker {
            context: self.context.clone(),
            options: self.options.clone(),
            tokens: self.tokens.clone(),
            clock: self.clock.clone(),
        }))
    }
}

struct ChunkWorker {
    context: Arc<StageContext>,
    options: ChunkOptions,
    tokens: Arc<dyn TokenCounter>,
    clock: SharedClock,
}

#[async_trait]
impl Work<Job, StageResult, Resume> for ChunkWorker {
    async fn run(&mut self, job: &Arc<Job>, cancel: &Cancel) -> AttemptOutcome<StageResult, Resume> {
        failpoint::reach("chunking.work", &job.claim.source);
        let Input::Extracted(document) = &job.input else {
            return AttemptOutcome::Failed(StageError::permanent(
                "wrong_input",
                "the chunking stage received no extracted text",
            ));
        };
        match self.chunk(&job.claim, document.clone(), cancel).await {
            Ok(result) => AttemptOutcome::Done(result),
            Err(error) => AttemptOutcome::Failed(error),
        }
    }
}

impl ChunkWorker {
    async fn chunk(
        &self,
        claim: &Claim,
        document: Arc<ExtractedDocument>,
        cancel: &Cancel,
    ) -> Result<StageResult, StageError> {
        let timer = Timer::start();
        let (id, tokens, options) = (claim.key.id.clone(), self.tokens.clone(), self.options.clone());
        let token = cancel.clone();
        let work = tokio::task::spawn_blocking(move || {
            let mut chunks = chunk_document(&document, &id, tokens.as_ref(), &options, &token)?;
            chunks.notes.splice(0..0, document.notes.iter().cloned());
            Ok::<_, StageError>(chunks)
        });
        let chunks = work
            .await
            .map_err(|_| StageError::crash("chunking_panicked", "chunking panicked; see the log for the location"))??;
        let output = self.context.artefacts.put_chunks(claim, &chunks, self.clock.now(), cancel).await?;
        let metrics = [("chunks_created".to_owned(), chunks.chunks.len() as f64)].into();
        let next = Some(Input::Chunks(Arc::new(chunks)));
        Ok(StageResult { output: Some(output), metrics, duration: timer.elapsed(), next, children: Vec::new() })
    }
}
