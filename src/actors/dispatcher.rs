//! Takes claims from the control store and sends each document to the stage where it goes on.
//!
//! What is to be done lives in the control store alone: new files, unfinished documents of an earlier run, manual
//! resets and requests for deletion are all found in the same place, in order of their last change. A full first pool
//! makes the dispatcher wait, and with it everything upstream.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use docweir_core::clock::{SharedClock, UnixMicros};
use docweir_core::documents::{Sha256Hex, Stage};
use docweir_core::error::{ErrorClass, StageError};
use docweir_core::failpoint;
use docweir_providers::account::BUDGET_SPENT;
use docweir_stores::control::{Claim, ControlError, Intent, Transition};
use futures_util::FutureExt;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tracing::Instrument;

use crate::actors::batches::BatchProgress;
use crate::actors::foreign_claims::ForeignClaims;
use crate::actors::outcomes::{Claims, StageContext, control, spec};
use crate::actors::retry_while_busy::retry_while_busy;
use crate::intake::originals::is_quarantined;
use crate::intake::source;
use crate::messages::event::Event;
use crate::messages::job::{Input, Job};
use crate::supervisors::{PoolHandle, RetryOptions};
use crate::telemetry::trace;

/// How often a run that has nothing left to do looks at what others have in hand.
const LOOK: Duration = Duration::from_secs(2);
/// How often it is looked for documents that have waited long enough, while there are others to do.
const RESUME: Duration = Duration::from_secs(1);

/// Days since the epoch, UTC.
fn day(now: UnixMicros) -> i64 {
    now.div_euclid(86_400_000_000)
}

/// Where documents come in, by the stage they go on at.
#[derive(Clone)]
pub struct Pools {
    pub extract: PoolHandle<Job>,
    pub chunk: PoolHandle<Job>,
    pub enrich: PoolHandle<Job>,
    pub embed: PoolHandle<Job>,
    pub load: PoolHandle<Job>,
}

impl Pools {
    pub fn of(&self, stage: Stage) -> &PoolHandle<Job> {
        match stage {
            Stage::Extraction => &self.extract,
            Stage::Chunking => &self.chunk,
            Stage::Enrichment => &self.enrich,
            Stage::Embedding => &self.embed,
            Stage::Loading => &self.load,
        }
    }

    /// Each with its stage, in the order of the stages.
    pub fn all(&self) -> [(Stage, &PoolHandle<Job>); 5] {
        Stage::ALL.map(|stage| (stage, self.of(stage)))
    }
}

pub struct Dispatcher {
    pub context: Arc<StageContext>,
    pub clock: SharedClock,
    pub pools: Pools,
    pub owner: String,
    pub lease: Duration,
    pub batch: usize,
    pub poll: Duration,
    /// Other processes may be at work on the same documents.
    pub is_shared: bool,
    pub retry: RetryOptions,
    pub max_interruptions: u32,
    /// From that many interruptions on, a document is done while no other is.
    pub alone_after_interruptions: u32,
    pub fingerprint: Sha256Hex,
    /// There may be new work.
    pub wake: Arc<Notify>,
    /// No more files will be registered.
    pub intake_finished: Arc<AtomicBool>,
    /// What may still come of batches and records.
    pub batch_progress: Option<Arc<BatchProgress>>,
    /// Take nothing more.
    pub stop: Arc<AtomicBool>,
    /// True while it waits, because everything that can be done has a place in a pool: what takes in from outside then may.
    pub ready_for_work: watch::Sender<bool>,
}

impl Dispatcher {
    /// Runs until intake has finished and nothing is left to do, here or in hands that are there now, or until it is stopped.
    pub async fn run(&self) -> Result<(), StageError> {
        let mut ended = self.context.claims.watch();
        let mut changes = self.batch_progress.as_ref().map(|o| o.watch());
        let mut today = day(self.clock.now());
        let mut foreign_claims = ForeignClaims::default();
        let mut resumed: Option<Instant> = None;
        while !self.stop.load(Ordering::Acquire) {
            // Looked at before the claim: what is registered in between is found by it.
            let last_round = self.is_over();
            let store = &self.context.control;
            // A new day has a new budget.
            let now = day(self.clock.now());
            let event = (now != today).then_some(BUDGET_SPENT);
            today = now;
            // A look that may cost money: not before every claim.
            let due = resumed.is_none_or(|at| at.elapsed() >= RESUME);
            if due || last_round || event.is_some() {
                retry_while_busy(&self.retry, || store.resume(event)).await.map_err(control)?;
                resumed = Some(Instant::now());
            }
            let claims = retry_while_busy(&self.retry, || store.claim(&self.owner, self.lease, self.batch, None)).await;
            let claims = claims.map_err(control)?;
            if claims.is_empty() {
                if last_round {
                    if self.is_shared && self.is_awaited(&mut foreign_claims).await? {
                        tokio::select! {
                            () = self.wake.notified() => {}
                            () = tokio::time::sleep(self.poll.min(LOOK)) => {}
                        }
                        continue;
                    }
                    return Ok(());
                }
                ended.mark_unchanged();
                if let Some(changes) = &mut changes {
                    changes.mark_seen();
                }
                if self.is_over() {
                    continue;
                }
                let changed = async {
                    match &mut changes {
                        Some(changes) => changes.next().await,
                        None => std::future::pending().await,
                    }
                };
                self.ready_for_work.send_replace(true);
                tokio::select! {
                    () = self.wake.notified() => {}
                    () = self.one_has_ended(&mut ended) => {}
                    () = changed => {}
                    () = tokio::time::sleep(self.poll) => {}
                }
                self.ready_for_work.send_replace(false);
                continue;
            }
            for claim in &claims {
                self.context.claims.begin(claim);
                failpoint::reach("dispatcher.claimed", &claim.source);
            }
            let (suspects, others): (Vec<_>, Vec<_>) =
                claims.into_iter().partition(|c| c.interruptions >= self.alone_after_interruptions);
            for claim in others {
                self.dispatch(claim).await?;
            }
            let mut waiting = suspects.len();
            for claim in suspects {
                self.dispatch_alone(claim, waiting).await?;
                waiting -= 1;
            }
        }
        Ok(())
    }

    /// Where every look costs money, the end of the last one is waited for.
    async fn one_has_ended(&self, ended: &mut watch::Receiver<usize>) {
        loop {
            let _ = ended.changed().await;
            if !self.is_shared || self.context.claims.is_empty() {
                return;
            }
        }
    }

    async fn is_awaited(&self, foreign_claims: &mut ForeignClaims) -> Result<bool, StageError> {
        let left = foreign_claims
            .left(self.context.control.as_ref(), &self.owner, &self.retry, self.context.events.as_ref())
            .await;
        Ok(left.map_err(control)? > 0)
    }

    /// Nothing is being done, and nothing more will come.
    fn is_over(&self) -> bool {
        let batches_complete = self.batch_progress.as_ref().is_none_or(|o| o.is_complete());
        self.intake_finished.load(Ordering::Acquire) && self.context.claims.is_empty() && batches_complete
    }

    /// A document whose process has died more than once is done while nothing else is: if it is the one that kills, it
    /// is found out, and no innocent one is blamed with it. `waiting` counts the suspects that are claimed and not yet
    /// dispatched, this one included.
    async fn dispatch_alone(&self, claim: Claim, waiting: usize) -> Result<(), StageError> {
        self.until(|claims| claims.len() <= waiting).await;
        let id = claim.key.id.clone();
        self.dispatch(claim).await?;
        self.until(|claims| !claims.holds(&id)).await;
        Ok(())
    }

    /// Waits until the claims are as wanted or the run is stopped.
    async fn until(&self, wanted: impl Fn(&Claims) -> bool) {
        let mut held = self.context.claims.watch();
        // Looked at after the claims were marked as seen: no change is missed.
        while !wanted(&self.context.claims) && !self.stop.load(Ordering::Acquire) {
            tokio::select! {
                _ = held.changed() => {}
                () = self.wake.notified() => {}
            }
        }
    }

    /// A panic on the way costs the document that it happened with.
    async fn dispatch(&self, claim: Claim) -> Result<(), StageError> {
        let span = trace::span(&claim.key.id, claim.key.version, claim.stage, claim.attempts + 1);
        match AssertUnwindSafe(self.send(claim.clone())).catch_unwind().instrument(span).await {
            Ok(sent) => sent,
            Err(_) => {
                let error =
                    StageError::crash("dispatch_panicked", "taking the document up panicked; the log says where");
                self.context.quarantine(&claim, claim.stage, &error, claim.attempts).await.map(drop)
            }
        }
    }

    async fn send(&self, claim: Claim) -> Result<(), StageError> {
        if self.stop.load(Ordering::Acquire) {
            self.context.release(&claim, claim.stage).await?;
            return Ok(());
        }
        let kept = source::to_object(&claim.source).is_some_and(|(_, key)| is_quarantined(key));
        if claim.intent == Intent::Process && kept {
            return self.refuse(&claim).await;
        }
        let claim = if claim.intent == Intent::Process && claim.fingerprint != self.fingerprint {
            // The configuration has changed since it was registered: what is half done no longer fits.
            let store = &self.context.control;
            let renewed = retry_while_busy(&self.retry, || store.reversion(&claim.key, &self.fingerprint)).await;
            match renewed {
                Ok(renewed) => {
                    self.context.claims.begin(&renewed);
                    renewed
                }
                Err(ControlError::Fenced(_)) => {
                    self.context.superseded(&claim);
                    return Ok(());
                }
                Err(error) => return Err(control(error)),
            }
        } else {
            claim
        };
        if claim.intent == Intent::Process && claim.interruptions >= self.max_interruptions {
            let text = format!(
                "the process died {} times while this document was in {}; replay it when the cause is gone",
                claim.interruptions, claim.stage
            );
            self.context
                .quarantine(&claim, claim.stage, &StageError::crash("interrupted", text), claim.attempts)
                .await?;
            return Ok(());
        }
        failpoint::reach("dispatcher.resume", &claim.source);
        let input = match self.context.artefacts.resume(&claim).await {
            Ok(input) => input,
            Err(error) if error.class == ErrorClass::System => return Err(error),
            Err(error) => {
                self.context.quarantine(&claim, claim.stage, &error, claim.attempts).await?;
                return Ok(());
            }
        };
        self.submit(claim, input).await
    }

    /// What the quarantine keeps is never taken in, whoever registers it: of the copy no copy is kept.
    async fn refuse(&self, claim: &Claim) -> Result<(), StageError> {
        let text = "it lies in the quarantine, from where nothing is taken in: register the original";
        let (error, stage) = (StageError::permanent("quarantined_source", text), claim.stage);
        let transition = Transition::Quarantined { stage, error: error.clone(), artefact: None, original: None };
        if self.context.apply(claim, transition).await? {
            let (document, source) = (claim.key.id.clone(), claim.source.clone());
            self.context.events.emit(Event::Quarantined { document, source, stage, error });
            self.context.claims.end(&claim.key);
        }
        Ok(())
    }

    async fn submit(&self, mut claim: Claim, input: Input) -> Result<(), StageError> {
        let stage = input.stage();
        if claim.intent == Intent::Process && (stage != Stage::Extraction || claim.interruptions > 0) {
            self.context.events.emit(Event::Resumed {
                document: claim.key.id.clone(),
                version: claim.key.version,
                source: claim.source.clone(),
                stage,
            });
        }
        if stage != claim.stage {
            // An artefact was missing: attempts at a later stage say nothing about this one.
            claim.attempts = 0;
        }
        let job = Job { claim: Arc::new(claim), input };
        if self.pools.of(stage).submit(spec(job.clone())).await.is_err() {
            self.context.release(&job.claim, job.claim.stage).await?;
        }
        Ok(())
    }
}
