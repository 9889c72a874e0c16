//! Claims documents in the control store, and submits each document to the pool of its first unfinished stage.
//!
//! Only the control store knows which work is pending. New files, unfinished documents of earlier runs, manual resets
//! and deletion requests are all claimed there, in the order of their last change. While a pool is full, the
//! dispatcher waits, and so does everything before it. Work that a user asked for (deletions and retries) does not wait
//! for this: it is claimed separately, and passes the pools before other work.

mod commands;

use std::cell::{Cell, RefCell};
use std::collections::VecDeque;
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
use crate::actors::outages::CLAIMS;
use crate::actors::outcomes::{Claims, StageContext, control, spec};
use crate::actors::retry_while_busy::retry_in_outage;
use crate::intake::originals::is_quarantined;
use crate::intake::source;
use crate::messages::event::Event;
use crate::messages::job::{Input, Job};
use crate::supervisors::{Decision, InFlightTable, PoolHandle, RetryOptions, Streak, cancel_job, decide};
use crate::telemetry::trace;

/// Maximum interval between two checks of other processes' claims, once this run has no work left.
const LOOK: Duration = Duration::from_secs(2);
/// Name of this part of the process in the list of outages, when it reads artefacts.
const DISPATCH: &str = "dispatch";
/// Minimum interval between two searches for parked documents that need not wait any longer. Applies while other
/// documents are available.
const RESUME: Duration = Duration::from_secs(1);

/// Returns the number of days since the Unix epoch, in UTC.
fn day(now: UnixMicros) -> i64 {
    now.div_euclid(86_400_000_000)
}

/// Holds the pools of the five stages.
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

    /// Returns each stage with its pool, in stage order.
    pub fn all(&self) -> [(Stage, &PoolHandle<Job>); 5] {
        Stage::ALL.map(|stage| (stage, self.of(stage)))
    }
}

/// Describes consecutive calls to the control store that failed because of an outage.
struct Failing {
    since: Instant,
    failures: u32,
    /// True if other processes have had time to renew their claims since the last of these calls.
    others_renewed: bool,
}

/// Holds a claimed document that is not yet in a pool.
#[derive(Clone)]
pub struct Claimed {
    claim: Claim,
    /// Time since which the document's artefact cannot be read because of an outage.
    failing_since: Option<Instant>,
}

/// Claims documents and submits them to the pools.
pub struct Dispatcher {
    pub context: Arc<StageContext>,
    pub clock: SharedClock,
    pub pools: Pools,
    pub owner: String,
    pub lease: Duration,
    pub batch: usize,
    pub poll: Duration,
    /// True if other processes may work on the same documents.
    pub is_shared: bool,
    pub retry: RetryOptions,
    /// Number of interruptions after which a document is quarantined. The death of a process during a stage of the
    /// document counts as one interruption.
    pub max_interruptions: u32,
    /// Number of interruptions at which a document is processed alone.
    pub alone_after_interruptions: u32,
    pub fingerprint: Sha256Hex,
    /// Notification that there may be new work.
    pub wake: Arc<Notify>,
    /// True once intake will register no more files.
    pub intake_finished: Arc<AtomicBool>,
    /// Progress of batches and records; `None` if the run has neither.
    pub batch_progress: Option<Arc<BatchProgress>>,
    /// Claimed documents that are not yet in a pool, in order. They outlive a restart of the dispatcher, because nobody
    /// else can claim them.
    pub claimed: RefCell<VecDeque<Claimed>>,
    /// Claimed documents that a user asked to process, and that are not yet in a pool.
    pub commands: RefCell<VecDeque<Claimed>>,
    /// True while a claim of such documents is under way.
    pub claims_commands: Cell<bool>,
    /// True while a document is processed alone.
    pub is_alone: Cell<bool>,
    /// Table of the jobs that are in the pools of this process.
    pub in_flight: Arc<InFlightTable>,
    /// Times at which the last submission of a document to its pool began and ended.
    pub last_submission: Cell<Option<(Instant, Instant)>>,
    /// Interval at which processes renew their claims.
    pub heartbeat: Duration,
    /// True once no more documents may be claimed.
    pub stop: Arc<AtomicBool>,
}

impl Dispatcher {
    /// Runs until intake has finished and no work is left, or until the run is stopped. Documents that other
    /// processes hold when this process runs out of work count as work that is left.
    pub async fn run(&self) -> Result<(), StageError> {
        self.claims_commands.set(false);
        self.is_alone.set(false);
        let (end, ended) = watch::channel(false);
        // True once no more commands are claimed because of a failure. The other loop then ends too.
        let failed = Cell::new(false);
        let all = async {
            let outcome = self.claim_all(&failed).await;
            end.send_replace(true);
            outcome
        };
        let commands = async {
            let outcome = self.claim_commands(ended).await;
            if outcome.is_err() {
                failed.set(true);
                self.wake.notify_one();
            }
            outcome
        };
        let (all, commands) = tokio::join!(all, commands);
        all.and(commands)?;
        self.release_claimed().await;
        Ok(())
    }

    /// Records a new claim. Earlier work of this process on the document is cancelled, because the claim has made it
    /// invalid.
    fn begin(&self, claim: &Claim) {
        if self.context.claims.holds(&claim.key.id) {
            cancel_job(&self.in_flight, claim.key.id.as_str());
        }
        self.context.claims.begin(claim);
        failpoint::reach("dispatcher.claimed", &claim.source);
    }

    /// Claims documents in turn, and submits them, until the run is over or `failed` is true.
    async fn claim_all(&self, failed: &Cell<bool>) -> Result<(), StageError> {
        let mut ended = self.context.claims.watch();
        let mut changes = self.batch_progress.as_ref().map(|o| o.watch());
        let mut today = day(self.clock.now());
        let mut foreign_claims = ForeignClaims::default();
        let mut resumed: Option<Instant> = None;
        self.dispatch_all(&self.claimed).await?;
        let mut failing: Option<Failing> = None;
        while !self.stop.load(Ordering::Acquire) && !failed.get() {
            // This is checked before documents are claimed, so that no document registered in between is missed.
            let last_round = self.is_over();
            let store = &self.context.control;
            // Documents that wait for a budget are resumed at the start of a new day.
            let now = day(self.clock.now());
            let event = (now != today).then_some(BUDGET_SPENT);
            // In AWS, this query costs money. It is therefore not made before every claim.
            let due = resumed.is_none_or(|at| at.elapsed() >= RESUME);
            if due || last_round || event.is_some() {
                match store.resume(event).await {
                    Ok(_) => (resumed, today) = (Some(Instant::now()), now),
                    Err(error) => {
                        self.wait_out(error, &mut failing).await?;
                        continue;
                    }
                }
            }
            if let Err(error) = self.let_others_renew(&mut failing).await {
                self.wait_out(error, &mut failing).await?;
                continue;
            }
            let began = Instant::now();
            // While documents cannot be submitted because of an outage, no further documents are claimed.
            let room = self.batch.saturating_sub(self.claimed.borrow().len());
            let claims = match room {
                0 => Ok(Vec::new()),
                _ => store.claim(&self.owner, self.lease, room, None).await,
            };
            let claims = match claims {
                Ok(claims) => claims,
                Err(error) => {
                    self.wait_out(error, &mut failing).await?;
                    continue;
                }
            };
            if room > 0 {
                failing = None;
                self.context.outages.works(CLAIMS, began);
            }
            if claims.is_empty() {
                if last_round {
                    if self.is_shared && self.is_awaited(&mut foreign_claims).await? {
                        tokio::select! {
                            () = self.wake.notified() => {}
                            () = tokio::time::sleep(self.poll.min(LOOK)) => {}
                        }
                        continue;
                    }
                    // Meanwhile a user may have asked for work.
                    if !self.is_over() {
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
                tokio::select! {
                    () = self.wake.notified() => {}
                    () = self.one_has_ended(&mut ended) => {}
                    () = changed => {}
                    () = tokio::time::sleep(self.poll) => {}
                }
                self.dispatch_all(&self.claimed).await?;
                continue;
            }
            for claim in &claims {
                self.begin(claim);
            }
            let (suspects, others): (Vec<_>, Vec<_>) = claims.into_iter().partition(|c| self.is_suspect(c));
            let claimed = others.into_iter().chain(suspects).map(|claim| Claimed { claim, failing_since: None });
            self.claimed.borrow_mut().extend(claimed);
            self.dispatch_all(&self.claimed).await?;
        }
        Ok(())
    }

    /// Releases the documents that could not be submitted, so that the next run need not wait for the end of their
    /// leases. Called when the run stops.
    async fn release_claimed(&self) {
        for Claimed { claim, .. } in self.claimed.take().into_iter().chain(self.commands.take()) {
            if let Err(error) = self.context.release(&claim, claim.stage).await {
                tracing::warn!(document = %claim.key.id, %error, "document not released; its lease ends by itself");
            }
        }
    }

    /// Waits after a failed call to the control store. Returns the error if it is not an outage, or if the outage has
    /// lasted too long.
    async fn wait_out(&self, error: ControlError, failing: &mut Option<Failing>) -> Result<(), StageError> {
        let error = control(error);
        if error.class != ErrorClass::Unavailable {
            return Err(error);
        }
        self.context.outages.report(CLAIMS, &error);
        let failing = failing.get_or_insert(Failing { since: Instant::now(), failures: 0, others_renewed: false });
        let streak = Streak { failures: failing.failures, lasts: failing.since.elapsed() };
        match decide(&self.retry, &error, 0, streak) {
            Decision::Retry { wait, .. } => tokio::time::sleep(wait).await,
            Decision::Quarantine | Decision::Escalate => return Err(error),
        }
        failing.failures += 1;
        failing.others_renewed = false;
        Ok(())
    }

    /// After an outage of the control store that was as long as a lease, renews the claims of this process, and waits
    /// until other processes have had time to renew theirs. Their documents would otherwise be taken over, and a takeover
    /// counts as an interruption of the document.
    async fn let_others_renew(&self, failing: &mut Option<Failing>) -> Result<(), ControlError> {
        let own = failing.as_ref().map(|failing| failing.since.elapsed());
        let lasts = own.max(self.context.outages.lasts(CLAIMS)).unwrap_or_default();
        let done = failing.as_ref().is_some_and(|failing| failing.others_renewed);
        if !self.is_shared || done || lasts + self.heartbeat < self.lease {
            return Ok(());
        }
        let began = Instant::now();
        self.context.control.renew(&self.context.claims.keys(), self.lease).await?;
        self.context.outages.works(CLAIMS, began);
        if let Some(failing) = failing {
            failing.others_renewed = true;
        }
        tokio::time::sleep(self.heartbeat).await;
        Ok(())
    }

    fn is_suspect(&self, claim: &Claim) -> bool {
        claim.intent == Intent::Process && claim.interruptions >= self.alone_after_interruptions
    }

    /// Submits the documents of a list to their pools. A document leaves the list when it is in a pool. A document whose
    /// artefact cannot be read because of an outage is passed over, and stays in the list.
    async fn dispatch_all(&self, list: &RefCell<VecDeque<Claimed>>) -> Result<(), StageError> {
        let mut left = list.borrow().len();
        while left > 0 {
            let Some(first) = list.borrow().front().cloned() else { return Ok(()) };
            let began = Instant::now();
            let sent = match self.is_suspect(&first.claim) {
                true => self.dispatch_alone(first, list).await,
                false => self.dispatch(first, list).await,
            };
            left -= 1;
            let Err(error) = sent else {
                list.borrow_mut().pop_front();
                self.last_submission.set(Some((began, Instant::now())));
                self.context.outages.works(DISPATCH, began);
                continue;
            };
            let since = list.borrow_mut().pop_front().map(|mut first| {
                let since = *first.failing_since.get_or_insert_with(Instant::now);
                list.borrow_mut().push_back(first);
                since
            });
            let streak = Streak { failures: 0, lasts: since.map(|at| at.elapsed()).unwrap_or_default() };
            if error.class != ErrorClass::Unavailable || decide(&self.retry, &error, 0, streak) == Decision::Escalate {
                return Err(error);
            }
            self.context.outages.report(DISPATCH, &error);
        }
        Ok(())
    }

    /// Waits until a claim of this process has ended. If several processes share the state, waits until no claim of
    /// this process is left. Each query of a shared state costs money, and the longer wait makes such queries rarer.
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

    /// Returns whether no work is running and no more work will come.
    fn is_over(&self) -> bool {
        if self.claims_commands.get() {
            return false;
        }
        let batches_complete = self.batch_progress.as_ref().is_none_or(|o| o.is_complete());
        self.intake_finished.load(Ordering::Acquire) && self.context.claims.is_empty() && batches_complete
    }

    /// Processes a document alone, while this process works on no other document. The document is a suspect, because
    /// the process died repeatedly while processing it. If the process dies again, the document is certainly the
    /// cause.
    async fn dispatch_alone(&self, first: Claimed, list: &RefCell<VecDeque<Claimed>>) -> Result<(), StageError> {
        self.is_alone.set(true);
        // Deletions may run beside the document, but no other work.
        self.until(|claims| {
            let commands = self.commands.borrow();
            let processed = commands.iter().any(|command| command.claim.intent == Intent::Process);
            let waiting = self.claimed.borrow().len() + commands.len();
            !self.claims_commands.get() && !processed && claims.len() <= waiting
        })
        .await;
        let id = first.claim.key.id.clone();
        let sent = self.dispatch(first, list).await;
        if sent.is_ok() {
            self.until(|claims| !claims.holds(&id)).await;
        }
        self.is_alone.set(false);
        sent
    }

    /// Waits until the claims satisfy `wanted`, or the run is stopped.
    async fn until(&self, wanted: impl Fn(&Claims) -> bool) {
        let mut held = self.context.claims.watch();
        // The condition is checked after `watch`, so no change is missed.
        while !wanted(&self.context.claims) && !self.stop.load(Ordering::Acquire) {
            tokio::select! {
                _ = held.changed() => {}
                () = self.wake.notified() => {}
            }
        }
    }

    /// Submits the first claimed document to its pool. If the submission panics, the document is quarantined.
    async fn dispatch(&self, first: Claimed, list: &RefCell<VecDeque<Claimed>>) -> Result<(), StageError> {
        let claim = &first.claim;
        let span = trace::span(&claim.key.id, claim.key.version, claim.stage, claim.attempts + 1);
        match AssertUnwindSafe(self.send(first, list)).catch_unwind().instrument(span).await {
            Ok(sent) => sent,
            Err(_) => {
                let error = StageError::crash(
                    "dispatch_panicked",
                    "dispatching the document panicked; see the log for the location",
                );
                // The claim may have been renewed.
                let Some(Claimed { claim, .. }) = list.borrow().front().cloned() else { return Ok(()) };
                self.context.quarantine(&claim, claim.stage, &error, claim.attempts).await.map(drop)
            }
        }
    }

    async fn send(
        &self,
        Claimed { claim, failing_since }: Claimed,
        list: &RefCell<VecDeque<Claimed>>,
    ) -> Result<(), StageError> {
        if self.stop.load(Ordering::Acquire) {
            self.context.release(&claim, claim.stage).await?;
            return Ok(());
        }
        let kept = source::to_object(&claim.source).is_some_and(|(_, key)| is_quarantined(key));
        if claim.intent == Intent::Process && kept {
            return self.refuse(&claim).await;
        }
        let claim = if claim.intent == Intent::Process && claim.fingerprint != self.fingerprint {
            // The configuration has changed since the registration, so the results of earlier stages are no longer
            // valid.
            let store = &self.context.control;
            let renewed = retry_in_outage(&self.retry, || store.reversion(&claim.key, &self.fingerprint)).await;
            match renewed {
                Ok(renewed) => {
                    self.context.claims.begin(&renewed);
                    if let Some(first) = list.borrow_mut().front_mut() {
                        first.claim = renewed.clone();
                    }
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
                "the process died {} times while this document was in {}; fix the cause, then replay the document",
                claim.interruptions, claim.stage
            );
            self.context
                .quarantine(&claim, claim.stage, &StageError::crash("interrupted", text), claim.attempts)
                .await?;
            return Ok(());
        }
        failpoint::reach("dispatcher.resume", &claim.source);
        let failing = failing_since.map(|at| at.elapsed()).unwrap_or_default();
        let is_alone = self.retry.is_alone(failing, self.last_submission.get());
        let input = match self.context.artefacts.resume(&claim, is_alone).await {
            Ok(input) => input,
            Err(error) if matches!(error.class, ErrorClass::System | ErrorClass::Unavailable) => return Err(error),
            Err(error) => {
                self.context.quarantine(&claim, claim.stage, &error, claim.attempts).await?;
                return Ok(());
            }
        };
        self.submit(claim, input).await
    }

    /// Refuses a document whose source is a copy in the quarantine. Otherwise the copy itself could be copied to the
    /// quarantine. Intake does not register such sources, but another process may have registered one.
    async fn refuse(&self, claim: &Claim) -> Result<(), StageError> {
        let text = "the source lies in the quarantine, whose objects are never ingested; register the original instead";
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
            // An artefact was missing, so an earlier stage runs again. Failed attempts at the later stage do not
            // count for the earlier one.
            claim.attempts = 0;
        }
        let job = Job { claim: Arc::new(claim), input };
        if self.pools.of(stage).submit(spec(job.clone())).await.is_err() {
            self.context.release(&job.claim, job.claim.stage).await?;
        }
        Ok(())
    }
}
