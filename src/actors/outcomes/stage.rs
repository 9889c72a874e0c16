//! Makes the outcome of an attempt (done, retry, quarantine, park, release) durable, and forwards the document to the
//! next pool.

use std::sync::Arc;

use async_trait::async_trait;
use docweir_core::documents::Stage;
use docweir_core::error::{ErrorClass, StageError};
use docweir_core::failpoint;
use docweir_stores::control::{Claim, Resume, Transition};
use tokio::time::Instant;
use tracing::Span;

use super::children::Declared;
use super::context::StageContext;
use super::job_spec::spec;
use super::log;
use crate::intake::originals::ONE_OBJECT;
use crate::messages::event::Event;
use crate::messages::job::{Input, Job, StageResult};
use crate::supervisors::{Begin, Closed, OutcomeSink, Persisted, PoolHandle, Verdict};
use crate::telemetry::trace;

/// Makes the outcomes of one stage's pool durable.
pub struct StageOutcomes {
    pub context: Arc<StageContext>,
    pub stage: Stage,
    /// Pool of the next stage; `None` after loading.
    pub next: Option<PoolHandle<Job>>,
}

#[async_trait(?Send)]
impl OutcomeSink<Job, StageResult, Resume> for StageOutcomes {
    fn span(&self, job: &Arc<Job>, failed_attempts: u32) -> Span {
        trace::span(&job.claim.key.id, job.claim.key.version, self.stage, failed_attempts + 1)
    }

    async fn begin(&self, job: &Arc<Job>, failed_attempts: u32) -> Result<Begin, StageError> {
        self.context.claims.comes_to(&job.claim.key, self.stage, failed_attempts + 1);
        if matches!(job.input, Input::Removal) {
            return Ok(Begin::Go);
        }
        let ours = self.context.apply(&job.claim, Transition::StageStarted { stage: self.stage }).await?;
        failpoint::reach(&format!("{}.begun", self.stage), &job.claim.source);
        Ok(if ours { Begin::Go } else { Begin::Drop })
    }

    async fn persist(&self, job: &Arc<Job>, verdict: &Verdict<StageResult, Resume>) -> Result<Persisted, StageError> {
        let claim = &job.claim;
        let ours = match verdict {
            Verdict::Done(result) => {
                if self.stage == Stage::Extraction {
                    match self.context.declare_children(claim, &result.children).await? {
                        Declared::Yes => self.done(job, result).await?,
                        Declared::Superseded => false,
                        Declared::Refused(error) => return self.refuse(claim, error).await,
                    }
                } else {
                    self.done(job, result).await?
                }
            }
            Verdict::Retry { error, wait, consumes_attempt, .. } => {
                let transition = Transition::StageRetry {
                    stage: self.stage,
                    error: error.clone(),
                    wait: *wait,
                    consumes_attempt: *consumes_attempt,
                };
                let ours = self.context.apply(claim, transition).await?;
                // An outage is announced once for all documents.
                if ours && error.class != ErrorClass::Unavailable {
                    self.context.events.emit(Event::Retried {
                        document: claim.key.id.clone(),
                        source: claim.source.clone(),
                        stage: self.stage,
                        wait_seconds: wait.as_secs_f64(),
                        error: error.clone(),
                    });
                }
                ours
            }
            Verdict::Quarantine { error, attempts } => {
                self.context.quarantine(claim, self.stage, error, *attempts).await?
            }
            Verdict::Parked { reason, resume } => {
                let (reason, resume) = (reason.clone(), resume.clone());
                let transition = Transition::Parked { stage: self.stage, reason: reason.clone(), resume };
                let ours = self.context.apply(claim, transition).await?;
                if ours {
                    self.context.events.emit(Event::Parked {
                        document: claim.key.id.clone(),
                        source: claim.source.clone(),
                        stage: self.stage,
                        reason,
                    });
                    self.context.claims.end(&claim.key);
                }
                ours
            }
            Verdict::Released => self.context.release(claim, self.stage).await?,
        };
        log::outcome(verdict, ours);
        Ok(if ours { Persisted::Release } else { Persisted::Fenced })
    }

    fn unavailable(&self, error: &StageError) {
        // If only this object cannot be read, nothing else waits.
        if error.code != ONE_OBJECT {
            self.context.outages.report(self.stage.verb(), error);
        }
    }

    fn available(&self, began: Instant) {
        self.context.outages.works(self.stage.verb(), began);
    }

    async fn forward(&self, job: &Arc<Job>, done: StageResult) -> Result<(), Closed> {
        let (Some(pool), Some(input)) = (&self.next, done.next) else { return Ok(()) };
        let mut claim = Claim { stage: input.stage(), attempts: 0, interruptions: 0, ..(*job.claim).clone() };
        if let Some(output) = done.output {
            claim.outputs.insert(self.stage, output);
        }
        let next = Job { claim: Arc::new(claim), input };
        if pool.submit(spec(next.clone())).await.is_err() {
            // The next pool is draining. The finished stage is recorded, so the next run resumes the document at the
            // next stage.
            if let Err(error) = self.context.release(&next.claim, next.stage()).await {
                tracing::warn!(%error, "document not released; its lease will expire");
                self.context.claims.end(&next.claim.key);
            }
            return Err(Closed);
        }
        Ok(())
    }
}

impl StageOutcomes {
    /// Quarantines a document whose stage succeeded with an unusable result. The document is not forwarded.
    async fn refuse(&self, claim: &Claim, error: StageError) -> Result<Persisted, StageError> {
        let attempts = claim.attempts + 1;
        let ours = self.context.quarantine(claim, self.stage, &error, attempts).await?;
        log::outcome(&Verdict::Quarantine { error, attempts }, ours);
        Ok(Persisted::Fenced)
    }

    async fn done(&self, job: &Arc<Job>, result: &StageResult) -> Result<bool, StageError> {
        let (claim, context) = (&job.claim, &self.context);
        failpoint::reach(&format!("{}.artefact", self.stage), &claim.source);
        let document = claim.key.id.clone();
        if matches!(job.input, Input::Removal) {
            return context.deleted(claim).await;
        }
        let (metrics, duration) = (result.metrics.clone(), result.duration);
        let last = self.stage == Stage::Loading;
        if last {
            // Enrichment has already tried. A document is complete only after the text before redaction is deleted.
            context.artefacts.forget_unredacted(claim).await?;
        }
        let transition = match last {
            true => Transition::Completed { metrics, duration },
            false => Transition::StageCompleted { stage: self.stage, output: result.output.clone(), metrics, duration },
        };
        if !context.apply(claim, transition).await? {
            return Ok(false);
        }
        failpoint::reach(&format!("{}.persisted", self.stage), &claim.source);
        if self.stage == Stage::Enrichment
            && let Err(error) = context.artefacts.forget_unredacted(claim).await
        {
            tracing::warn!(%error, "text before redaction not deleted; retried when the document is complete");
        }
        context.events.emit(Event::StageCompleted {
            document: document.clone(),
            stage: self.stage,
            seconds: duration.as_secs_f64(),
            metrics: result.metrics.clone(),
        });
        if last {
            let notes = match &job.input {
                Input::Embedded(embedded) => embedded.notes.clone(),
                _ => Vec::new(),
            };
            context.quarantine.forget(&claim.kept).await;
            context.claims.end(&claim.key);
            context.events.emit(Event::Completed {
                document,
                version: claim.key.version,
                source: claim.source.clone(),
                replaced: claim.loaded_version.is_some(),
                notes,
            });
        }
        Ok(true)
    }
}
