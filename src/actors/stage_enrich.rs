//! Connects the enrichment stage to its pool.

use std::sync::Arc;

use async_trait::async_trait;
use docweir_core::clock::SharedClock;
use docweir_core::error::StageError;
use docweir_core::failpoint;
use docweir_core::model::Chunks;
use docweir_providers::account::BUDGET_SPENT;
use docweir_stages::enrich::{Call, Enriched, Enricher};
use docweir_stores::control::{Claim, Resume, StageMetrics};

use crate::actors::outcomes::StageContext;
use crate::actors::timer::Timer;
use crate::messages::job::{Input, Job, StageResult};
use crate::supervisors::{AttemptOutcome, Cancel, Stage, Work};

/// Configures the enrichment pool and creates its workers.
pub struct EnrichStage {
    pub context: Arc<StageContext>,
    pub enricher: Arc<dyn Enricher>,
    pub clock: SharedClock,
}

impl Stage for EnrichStage {
    type Job = Job;
    type Done = StageResult;
    type Park = Resume;

    fn finished_bytes(&self, job: &Job, done: &StageResult) -> usize {
        job.finished_bytes(done)
    }

    fn worker(&self) -> Result<Box<dyn Work<Job, StageResult, Resume>>, StageError> {
        Ok(Box::new(EnrichWorker {
            context: self.context.clone(),
            enricher: self.enricher.clone(),
            clock: self.clock.clone(),
        }))
    }
}

struct EnrichWorker {
    context: Arc<StageContext>,
    enricher: Arc<dyn Enricher>,
    clock: SharedClock,
}

#[async_trait]
impl Work<Job, StageResult, Resume> for EnrichWorker {
    async fn run(&mut self, job: &Arc<Job>, cancel: &Cancel) -> AttemptOutcome<StageResult, Resume> {
        failpoint::reach("enrichment.work", &job.claim.source);
        let Input::Chunks(chunks) = &job.input else {
            return AttemptOutcome::Failed(StageError::permanent(
                "wrong_input",
                "the enrichment stage received no chunks",
            ));
        };
        match self.enrich(&job.claim, chunks, cancel).await {
            Ok(result) => AttemptOutcome::Done(result),
            // A spent budget is not a failure of the document. The document is parked, and the next run that has a
            // budget resumes it.
            Err(error) if error.code == BUDGET_SPENT => {
                AttemptOutcome::Parked { reason: error.message, resume: Resume::On(BUDGET_SPENT.to_owned()) }
            }
            Err(error) => AttemptOutcome::Failed(error),
        }
    }
}

impl EnrichWorker {
    async fn enrich(&self, claim: &Claim, chunks: &Chunks, cancel: &Cancel) -> Result<StageResult, StageError> {
        let timer = Timer::start();
        let call = Call::new(claim.key.id.as_str(), cancel);
        let Enriched { chunks, usage } = self.enricher.enrich(chunks.clone(), call).await?;
        let mut metrics = StageMetrics::from([
            ("chunks_enriched".to_owned(), chunks.chunks.len() as f64),
            ("pii_redacted_count".to_owned(), chunks.pii_redacted as f64),
        ]);
        if self.enricher.is_paid() {
            metrics.insert("comprehend_calls".to_owned(), usage.calls as f64);
            metrics.insert("comprehend_units".to_owned(), usage.units as f64);
            metrics.insert("comprehend_cost_usd".to_owned(), usage.cost.usd());
        }
        let output = self.context.artefacts.put_enriched(claim, &chunks, &metrics, self.clock.now(), cancel).await?;
        let next = Some(Input::Enriched(Arc::new(chunks)));
        Ok(StageResult { output: Some(output), metrics, duration: timer.elapsed(), next, children: Vec::new() })
    }
}
