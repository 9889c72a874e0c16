//! Makes the outcome of every job durable before its pool lets go of it, and hands the document on.
//!
//! The pool decides what is to happen (done, retry, quarantine, park, give back); the steward writes it to the control
//! store, in one transaction with the audit trail, fenced by the claim's epoch. Where the claim is no longer ours, the
//! work is dropped in silence: whoever holds it now answers for the document.

use std::sync::Arc;

use async_trait::async_trait;
use dashmap::DashMap;
use docweir_core::documents::{DocumentId, Stage, Version};
use docweir_core::error::{ErrorClass, StageError};
use docweir_core::failpoint;
use docweir_stores::batches::DocumentTexts;
use docweir_stores::control::{Claim, ClaimKey, ControlError, ControlStore, Intent, Resume, Status, Transition};
use tokio::sync::watch;
use tracing::Span;

use crate::actors::artefacts::{Artefacts, storage};
use crate::actors::quarantine::QuarantineKeeper;
use crate::messages::event::{Event, EventSink};
use crate::messages::job::{Input, Job, StageResult};
use crate::supervisors::{Begin, Closed, JobSpec, Lane, PoolHandle, Settled, Steward, Verdict};
use crate::telemetry::trace;

/// The claims that this process holds: what the heartbeat renews, and what has to end before a run is over.
pub struct Claims {
    held: DashMap<DocumentId, Held>,
    count: watch::Sender<usize>,
}

/// A claim, and how far it has come.
struct Held {
    key: ClaimKey,
    stage: Stage,
    attempt: u32,
}

impl Default for Claims {
    fn default() -> Self {
        Self { held: DashMap::new(), count: watch::Sender::new(0) }
    }
}

impl Claims {
    pub fn begin(&self, claim: &Claim) {
        let held = Held { key: claim.key.clone(), stage: claim.stage, attempt: claim.attempts + 1 };
        self.held.insert(claim.key.id.clone(), held);
        self.count.send_replace(self.held.len());
    }

    /// Another attempt begins.
    fn comes_to(&self, key: &ClaimKey, stage: Stage, attempt: u32) {
        if let Some(mut held) = self.held.get_mut(&key.id).filter(|held| held.key.epoch == key.epoch) {
            (held.stage, held.attempt) = (stage, attempt);
        }
    }

    /// What the log's lines about a claim stand in.
    pub fn span(&self, key: &ClaimKey) -> Span {
        match self.held.get(&key.id) {
            Some(held) => trace::span(&key.id, key.version, held.stage, held.attempt),
            // It has ended since; nothing of it is known any more but its trace.
            None => trace::span_of_version(&key.id, key.version),
        }
    }

    /// Ends this claim, not a newer one of the same document.
    pub fn end(&self, key: &ClaimKey) {
        self.held.remove_if(&key.id, |_, held| held.key.epoch == key.epoch);
        self.count.send_replace(self.held.len());
    }

    /// How many are held, and every change of that.
    pub fn watch(&self) -> watch::Receiver<usize> {
        self.count.subscribe()
    }

    pub fn keys(&self) -> Vec<ClaimKey> {
        self.held.iter().map(|entry| entry.value().key.clone()).collect()
    }

    pub fn len(&self) -> usize {
        self.held.len()
    }

    pub fn holds(&self, id: &DocumentId) -> bool {
        self.held.contains_key(id)
    }

    pub fn is_empty(&self) -> bool {
        self.held.is_empty()
    }
}

/// What all stages' stewards share.
pub struct Desk {
    pub control: Arc<dyn ControlStore>,
    pub artefacts: Artefacts,
    pub quarantine: QuarantineKeeper,
    /// Where texts of documents wait for batches, if there ever were any.
    pub batches: Option<Arc<dyn DocumentTexts>>,
    pub events: Arc<dyn EventSink>,
    pub claims: Arc<Claims>,
}

impl Desk {
    /// Applies a transition; `false` when the claim is no longer ours.
    pub async fn apply(&self, claim: &Claim, transition: Transition) -> Result<bool, StageError> {
        match self.control.apply(&claim.key, transition).await {
            Ok(()) => Ok(true),
            Err(ControlError::Fenced(_)) => {
                self.superseded(claim);
                self.leave_nothing_of_a_deleted_one(&claim.key.id).await?;
                Ok(false)
            }
            Err(error) => Err(control(error)),
        }
    }

    /// Another process may have deleted the document while this one worked on it. The claim is void, but what was written
    /// under it is not fenced: what came after the document's artefacts were taken away goes as well.
    async fn leave_nothing_of_a_deleted_one(&self, id: &DocumentId) -> Result<(), StageError> {
        let version = match self.control.record(id).await {
            Ok(record) if record.intent == Intent::Delete || record.status == Status::Deleted => record.version,
            Ok(_) => return Ok(()),
            Err(ControlError::NotFound(_)) => Version::MAX,
            Err(error) => return Err(control(error)),
        };
        self.artefacts.purge(id).await?;
        self.quarantine.forget_all(id, version).await.map_err(storage)
    }

    pub fn superseded(&self, claim: &Claim) {
        self.claims.end(&claim.key);
        self.events.emit(Event::Superseded { document: claim.key.id.clone() });
    }

    /// Keeps what is known of the failure, then says so in the record.
    pub async fn quarantine(
        &self,
        claim: &Claim,
        stage: Stage,
        error: &StageError,
        attempts: u32,
    ) -> Result<bool, StageError> {
        let kept = self.quarantine.keep(claim, stage, error, attempts).await.map_err(storage)?;
        failpoint::reach("quarantine.kept", &claim.source);
        let transition = Transition::Quarantined {
            stage,
            error: error.clone(),
            artefact: Some(kept.artefact.clone()),
            original: kept.original.clone(),
        };
        if !self.apply(claim, transition).await? {
            self.quarantine.forget([&kept.artefact]).await;
            return Ok(false);
        }
        failpoint::reach("quarantine.settled", &claim.source);
        self.quarantine.forget(claim.kept.iter().filter(|key| !kept.holds(key))).await;
        self.events.emit(Event::Quarantined {
            document: claim.key.id.clone(),
            source: claim.source.clone(),
            stage,
            error: error.clone(),
        });
        self.claims.end(&claim.key);
        Ok(true)
    }

    /// The tombstone is in the manifest: takes everything else of the document away and says so in the record.
    pub async fn deleted(&self, claim: &Claim) -> Result<bool, StageError> {
        if !self.artefacts.are_ours(&claim.key).await? {
            self.superseded(claim);
            return Ok(false);
        }
        self.artefacts.purge(&claim.key.id).await?;
        if let Some(batches) = &self.batches {
            batches.taken(claim.key.id.as_str()).await?;
        }
        self.quarantine.forget_all(&claim.key.id, claim.key.version).await.map_err(storage)?;
        let ours = self.apply(claim, Transition::Deleted).await?;
        if ours {
            self.claims.end(&claim.key);
            self.events.emit(Event::Deleted { document: claim.key.id.clone(), source: claim.source.clone() });
        }
        Ok(ours)
    }

    /// Gives a claimed document back as it is.
    pub async fn release(&self, claim: &Claim, stage: Stage) -> Result<bool, StageError> {
        let released = self.apply(claim, Transition::Released { stage }).await?;
        self.claims.end(&claim.key);
        Ok(released)
    }
}

/// One stage's steward.
pub struct StageSteward {
    pub desk: Arc<Desk>,
    pub stage: Stage,
    /// The next stage's pool; `None` after loading.
    pub next: Option<PoolHandle<Job>>,
}

#[async_trait(?Send)]
impl Steward<Job, StageResult, Resume> for StageSteward {
    fn span(&self, job: &Arc<Job>, failed_attempts: u32) -> Span {
        trace::span(&job.claim.key.id, job.claim.key.version, self.stage, failed_attempts + 1)
    }

    async fn begin(&self, job: &Arc<Job>, failed_attempts: u32) -> Result<Begin, StageError> {
        self.desk.claims.comes_to(&job.claim.key, self.stage, failed_attempts + 1);
        if matches!(job.input, Input::Removal) {
            return Ok(Begin::Go);
        }
        let ours = self.desk.apply(&job.claim, Transition::StageStarted { stage: self.stage }).await?;
        failpoint::reach(&format!("{}.begun", self.stage), &job.claim.source);
        Ok(if ours { Begin::Go } else { Begin::Drop })
    }

    async fn settle(&self, job: &Arc<Job>, verdict: &Verdict<StageResult, Resume>) -> Result<Settled, StageError> {
        let claim = &job.claim;
        let ours = match verdict {
            Verdict::Done(result) => self.done(job, result).await?,
            Verdict::Retry { error, wait, consumes_attempt, .. } => {
                let transition = Transition::StageRetry {
                    stage: self.stage,
                    error: error.clone(),
                    wait: *wait,
                    consumes_attempt: *consumes_attempt,
                };
                let ours = self.desk.apply(claim, transition).await?;
                if ours {
                    self.desk.events.emit(Event::Retried {
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
                self.desk.quarantine(claim, self.stage, error, *attempts).await?
            }
            Verdict::Parked { reason, resume } => {
                let (reason, resume) = (reason.clone(), resume.clone());
                let transition = Transition::Parked { stage: self.stage, reason: reason.clone(), resume };
                let ours = self.desk.apply(claim, transition).await?;
                if ours {
                    self.desk.events.emit(Event::Parked {
                        document: claim.key.id.clone(),
                        source: claim.source.clone(),
                        stage: self.stage,
                        reason,
                    });
                    self.desk.claims.end(&claim.key);
                }
                ours
            }
            Verdict::Released => self.desk.release(claim, self.stage).await?,
        };
        note(verdict, ours);
        Ok(if ours { Settled::Release } else { Settled::Fenced })
    }

    async fn forward(&self, job: &Arc<Job>, done: StageResult) -> Result<(), Closed> {
        let (Some(pool), Some(input)) = (&self.next, done.next) else { return Ok(()) };
        let mut claim = Claim { stage: input.stage(), attempts: 0, interruptions: 0, ..(*job.claim).clone() };
        if let Some(output) = done.output {
            claim.outputs.insert(self.stage, output);
        }
        let next = Job { claim: Arc::new(claim), input };
        if pool.submit(spec(next.clone())).await.is_err() {
            // Draining: the finished stage is recorded, the document goes on from here in the next run.
            if let Err(error) = self.desk.release(&next.claim, next.stage()).await {
                tracing::warn!(%error, "can't give a document back; its lease will end");
                self.desk.claims.end(&next.claim.key);
            }
            return Err(Closed);
        }
        Ok(())
    }
}

impl StageSteward {
    async fn done(&self, job: &Arc<Job>, result: &StageResult) -> Result<bool, StageError> {
        let (claim, desk) = (&job.claim, &self.desk);
        failpoint::reach(&format!("{}.artefact", self.stage), &claim.source);
        let document = claim.key.id.clone();
        if matches!(job.input, Input::Removal) {
            return desk.deleted(claim).await;
        }
        let (metrics, duration) = (result.metrics.clone(), result.duration);
        let last = self.stage == Stage::Loading;
        let transition = match last {
            true => Transition::Completed { metrics, duration },
            false => Transition::StageCompleted { stage: self.stage, output: result.output.clone(), metrics, duration },
        };
        if !desk.apply(claim, transition).await? {
            return Ok(false);
        }
        failpoint::reach(&format!("{}.settled", self.stage), &claim.source);
        desk.events.emit(Event::StageCompleted {
            document: document.clone(),
            stage: self.stage,
            seconds: duration.as_secs_f64(),
            metrics: result.metrics.clone(),
        });
        if last {
            let notes = match &job.input {
                Input::Embedded(embedded) => embedded.chunks.notes.clone(),
                _ => Vec::new(),
            };
            desk.quarantine.forget(&claim.kept).await;
            desk.claims.end(&claim.key);
            desk.events.emit(Event::Completed {
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

/// What became of an attempt, as a line of the log. Without the error's words, which may name the file: they are in the
/// record, and `docweir status` shows them.
fn note(verdict: &Verdict<StageResult, Resume>, ours: bool) {
    if !ours {
        tracing::info!("the claim was superseded: what was done is dropped");
        return;
    }
    match verdict {
        Verdict::Done(done) => tracing::info!(seconds = done.duration.as_secs_f64(), "a stage was completed"),
        Verdict::Retry { error, wait, .. } => {
            let (class, wait_seconds) = (format!("{:?}", error.class).to_lowercase(), wait.as_secs_f64());
            tracing::info!(class, code = error.code, wait_seconds, "an attempt failed, and another one follows");
        }
        Verdict::Quarantine { error, attempts } => {
            let class = format!("{:?}", error.class).to_lowercase();
            tracing::info!(class, code = error.code, attempts, "a document was quarantined");
        }
        Verdict::Parked { reason, .. } => tracing::info!(reason, "a document was parked"),
        Verdict::Released => tracing::info!("a document was given back"),
    }
}

/// How the pools account for a job.
pub fn spec(job: Job) -> JobSpec<Job> {
    JobSpec {
        id: job.claim.key.id.to_string(),
        tenant: job.claim.tenant.as_str().into(),
        weight: job.claim.weight,
        bytes: job.weight_bytes(),
        lane: if matches!(job.input, Input::Removal) { Lane::Urgent } else { Lane::Normal },
        failed_attempts: job.claim.attempts,
        payload: Arc::new(job),
    }
}

/// A full or damaged control store is nobody's document's fault.
pub fn control(error: ControlError) -> StageError {
    let class = match &error {
        ControlError::Storage { .. } => ErrorClass::System,
        ControlError::Busy(_) => ErrorClass::Transient,
        ControlError::NotFound(_) | ControlError::Refused(_) | ControlError::Fenced(_) => ErrorClass::Permanent,
    };
    StageError::new(class, "control_store", error.to_string())
}

#[cfg(test)]
#[path = "steward_tests.rs"]
mod tests;
