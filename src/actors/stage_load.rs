//! Connects the loading stage to its pool. A worker sends the rows of a document to the committer, and waits until
//! the manifest makes the rows visible.

use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use docweir_core::error::StageError;
use docweir_core::failpoint;
use docweir_core::model::ModelIdentity;
use docweir_stores::control::{Claim, Resume};
use docweir_target::{Capabilities, DocumentRows, Write};
use serde_json::Value;
use tokio::sync::oneshot;
use tokio::time::Instant;

use crate::actors::timer::Timer;
use crate::messages::commit::Commit;
use crate::messages::job::{Input, Job, StageResult};
use crate::supervisors::service::ServiceHandle;
use crate::supervisors::{AttemptOutcome, Cancel, InFlightTable, Phase, Stage, Work};

/// Configures the loading pool and creates its workers.
pub struct LoadStage {
    pub committer: ServiceHandle<Commit>,
    pub model: ModelIdentity,
    pub target: Capabilities,
    /// Table of the jobs that are in the pools of this process.
    pub in_flight: Arc<InFlightTable>,
}

impl Stage for LoadStage {
    type Job = Job;
    type Done = StageResult;
    type Park = Resume;

    fn finished_bytes(&self, job: &Job, done: &StageResult) -> usize {
        job.finished_bytes(done)
    }

    fn worker(&self) -> Result<Box<dyn Work<Job, StageResult, Resume>>, StageError> {
        Ok(Box::new(LoadWorker {
            committer: self.committer.clone(),
            model: self.model.clone(),
            target: self.target.clone(),
            in_flight: self.in_flight.clone(),
        }))
    }

    /// Returns whether a dropped attempt may leave a running thread behind. Always `false`, because a worker of this
    /// stage only waits for the committer.
    fn may_leave_threads(&self) -> bool {
        false
    }
}

struct LoadWorker {
    committer: ServiceHandle<Commit>,
    model: ModelIdentity,
    target: Capabilities,
    in_flight: Arc<InFlightTable>,
}

#[async_trait]
impl Work<Job, StageResult, Resume> for LoadWorker {
    async fn run(&mut self, job: &Arc<Job>, _cancel: &Cancel) -> AttemptOutcome<StageResult, Resume> {
        failpoint::reach("loading.work", &job.claim.source);
        match self.load(&job.claim, &job.input).await {
            Ok(result) => AttemptOutcome::Done(result),
            Err(error) => AttemptOutcome::Failed(error),
        }
    }
}

impl LoadWorker {
    async fn load(&self, claim: &Claim, input: &Input) -> Result<StageResult, StageError> {
        let timer = Timer::start();
        if matches!(input, Input::Removal) {
            self.alone(claim).await?;
        }
        let write = write(claim, input)?;
        // A document that cannot be stored is refused before it shares a commit with other documents.
        write.check(&self.model, &self.target)?;
        let (rows, bytes) = (write.rows().len(), write.weight_bytes());
        let (answer, committed) = oneshot::channel();
        let closed = || StageError::transient("committer_gone", "the committer ended before it answered");
        self.committer.send(Commit { write, claim: claim.key.clone(), bytes, answer }).await.map_err(|_| closed())?;
        let committed = committed.await.map_err(|_| closed())??;
        tracing::debug!(manifest = committed.manifest_version, rows, "rows visible");
        let metrics = [("vectors_uploaded".to_owned(), rows as f64)].into();
        Ok(StageResult { output: None, metrics, duration: timer.elapsed(), next: None, children: Vec::new() })
    }

    /// Waits until no other job of the document is running in the pools of this process. Such a job belongs to an earlier
    /// claim. This claim is no longer valid, but the job may still write an artefact. If the job did this after the
    /// document's artefacts were deleted, the new artefact would remain. The job was cancelled; if it does not end soon,
    /// the removal is tried again later, which consumes no attempt.
    async fn alone(&self, claim: &Claim) -> Result<(), StageError> {
        const LOOK: Duration = Duration::from_millis(20);
        const LONGEST: Duration = Duration::from_secs(2);
        let (id, began) = (claim.key.id.as_str(), Instant::now());
        // A job that waits is refused when it begins. This removal is running too.
        let works = |phase| matches!(phase, Phase::Running | Phase::Persisting);
        let working =
            || self.in_flight.iter().filter(|entry| entry.key().1 == id && works(entry.value().phase)).count();
        while working() > 1 {
            if began.elapsed() >= LONGEST {
                let text = "earlier work on the document has not ended yet; its removal waits";
                return Err(StageError::throttled(text, Some(Duration::from_secs(1))));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(())
    }
}

/// Returns the rows of the claimed version, or its tombstone if the document is to be deleted.
fn write(claim: &Claim, input: &Input) -> Result<Write, StageError> {
    let (document_id, version) = (claim.key.id.clone(), claim.key.version);
    match input {
        Input::Removal => Ok(Write::Delete { document_id, version }),
        Input::Embedded(document) => {
            let reserved = [
                ("media_type".to_owned(), Value::from(claim.media_type.as_str())),
                ("tenant".to_owned(), Value::from(claim.tenant.as_str())),
            ];
            // What the pipeline knows wins over what a document says about itself.
            let metadata = document.chunks.fields.clone().into_iter().chain(reserved).collect();
            let source = claim.source.clone();
            let rows = DocumentRows::of_embedded(document_id, version, source, metadata, document);
            let parent = claim.parent.clone();
            Ok(Write::Upsert(DocumentRows { parent, ..rows? }))
        }
        _ => Err(StageError::permanent("wrong_input", "the loading stage received no vectors")),
    }
}
