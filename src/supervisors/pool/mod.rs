//! Defines the supervisor of a pool. The supervisor owns each job in the pool, from the admission of the job until
//! the job's outcome is durable.
//!
//! ```text
//! queued ──▶ running ──▶ persisting ──▶ forwarding ──▶ gone
//!    ▲                      │
//!    └── waiting for retry ◀┘
//! ```
//! Workers receive a shared copy of a job and report outcomes, but make no decisions. While a job is in the pool, the
//! job is in exactly one of these phases and holds its permits. After a job has left the pool, its state is durable
//! elsewhere. Both statements remain true no matter which actor dies.

mod drain;
mod workers;

use std::collections::HashMap;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use docweir_core::cancel::Cancel;
use docweir_core::error::{ErrorClass, StageError};
use docweir_core::memory::release_free_memory;
use futures_util::FutureExt;
use tokio::sync::oneshot;
use tokio::time::Instant;
use tracing::Instrument;

use crate::supervisors::command::{Command, DrainMode};
use crate::supervisors::job::{AttemptOutcome, Closed, Persisted, SharedSink, Stage, Verdict};
use crate::supervisors::metrics::PoolMetrics;
use crate::supervisors::restart::{Intensity, RestartOptions};
use crate::supervisors::retry::{Decision, RetryOptions, Streak, decide};
use crate::supervisors::root::{Escalation, RootHandle};
use crate::supervisors::scaling::{Scaler, ScalingOptions};
use crate::supervisors::shared::{Envelope, Phase, Shared};
use crate::supervisors::stats::{PoolState, PoolStats};
use crate::supervisors::testing::Alive;
use crate::supervisors::worker::{Attempt, Report, Run, Worker, WorkerId, panicked};

/// Memory of a finished job, in bytes, from which the freed memory is returned to the system.
const LARGE_JOB_BYTES: usize = 8 << 20;

/// Number of jobs that see an outage, from which on it is not the failure of a single document.
const FEW_JOBS: usize = 3;

/// Configures a pool.
#[derive(Clone, Debug)]
pub struct PoolOptions {
    pub name: String,
    pub min_workers: usize,
    pub max_workers: usize,
    /// Maximum number of jobs in the pool, in any phase.
    pub max_messages: usize,
    /// Maximum total memory of the jobs in the pool, in bytes.
    pub max_bytes: usize,
    /// Time limit of one attempt.
    pub deadline: Duration,
    pub retry: RetryOptions,
    pub restart: RestartOptions,
    pub scaling: ScalingOptions,
}

struct Busy<J> {
    envelope: Envelope<J>,
    cancel: Cancel,
    // The work ends when this sender is dropped.
    _kill: oneshot::Sender<()>,
}

pub(in crate::supervisors) struct PoolSupervisor<S: Stage> {
    options: PoolOptions,
    stage: Rc<S>,
    sink: SharedSink<S>,
    shared: Arc<Shared<S::Job>>,
    root: RootHandle,
    want: usize,
    next_worker: WorkerId,
    workers: HashMap<WorkerId, Addr<Worker<S>>>,
    idle: Vec<WorkerId>,
    busy: HashMap<WorkerId, Busy<S::Job>>,
    /// Number of restarts of workers that have been decided and wait for the end of their backoff.
    restarting: usize,
    waiting: HashMap<u64, Envelope<S::Job>>,
    persisting: usize,
    forwarding: usize,
    intensity: Intensity,
    /// Times at which the attempt began and ended that succeeded last.
    last_success: Option<(Instant, Instant)>,
    scaler: Scaler,
    draining: Option<DrainMode>,
    drained: Vec<oneshot::Sender<()>>,
    state: PoolState,
    metrics: PoolMetrics,
    guard: SupervisorGuard,
    _alive: Alive,
}

/// Notifies the root if the supervisor itself dies.
struct SupervisorGuard {
    name: Arc<str>,
    root: RootHandle,
    armed: bool,
}

impl Drop for SupervisorGuard {
    fn drop(&mut self) {
        if self.armed {
            self.root.died(&self.name);
        }
    }
}

impl<S: Stage> PoolSupervisor<S> {
    pub fn new(
        options: PoolOptions,
        stage: Rc<S>,
        sink: SharedSink<S>,
        shared: Arc<Shared<S::Job>>,
        root: RootHandle,
    ) -> Self {
        Self {
            want: options.min_workers,
            metrics: PoolMetrics::new(&shared.name),
            guard: SupervisorGuard { name: shared.name.clone(), root: root.clone(), armed: true },
            options,
            stage,
            sink,
            shared,
            root,
            next_worker: 0,
            workers: HashMap::new(),
            idle: Vec::new(),
            busy: HashMap::new(),
            restarting: 0,
            waiting: HashMap::new(),
            persisting: 0,
            forwarding: 0,
            intensity: Intensity::default(),
            last_success: None,
            scaler: Scaler::default(),
            draining: None,
            drained: Vec::new(),
            state: PoolState::Running,
            _alive: Alive::new(),
        }
    }

    /// Assigns waiting jobs to idle workers.
    fn pump(&mut self, ctx: &mut Context<Self>) {
        self.shared.woken();
        // Finished jobs wait for the next pool together with their results. No more jobs are started while the results
        // exceed the memory limit, or while at least as many finished jobs wait as there are workers.
        while !self.idle.is_empty() && self.forwarding < self.want && !self.shared.is_overdrawn() {
            let Some(mut envelope) = self.shared.lanes().pop() else { break };
            let Some(id) = self.idle.pop() else { break };
            let Some(worker) = self.workers.get(&id) else {
                self.requeue(envelope, ctx);
                continue;
            };
            let (kill, killed) = oneshot::channel();
            let cancel = Cancel::default();
            worker.do_send(Run {
                job: envelope.payload.clone(),
                failed_attempts: envelope.failed_attempts,
                cancel: cancel.clone(),
                deadline: self.options.deadline,
                grace: self.options.restart.grace(),
                kill: killed,
            });
            envelope.runs(&cancel);
            envelope.began = Instant::now();
            self.busy.insert(id, Busy { envelope, cancel, _kill: kill });
        }
        self.check_drained(ctx);
    }

    fn requeue(&mut self, envelope: Envelope<S::Job>, ctx: &mut Context<Self>) {
        if self.shared.queue(envelope) {
            ctx.notify(Command::Wake);
        }
    }

    fn ended(&mut self, id: WorkerId, attempt: Attempt<S>, took: Duration, ctx: &mut Context<Self>) {
        let Some(busy) = self.busy.remove(&id) else { return };
        self.metrics.job_seconds(took);
        let mut envelope = busy.envelope;
        let outcome = match attempt {
            Attempt::Outcome(outcome) => Some(outcome),
            Attempt::Fenced => None,
            Attempt::NotBegun(error) => Some(AttemptOutcome::Failed(error)),
            Attempt::Hung(error) => {
                self.hung(id, ctx);
                Some(AttemptOutcome::Failed(error))
            }
        };
        match outcome {
            None => self.metrics.fenced(),
            Some(AttemptOutcome::Done(done)) => {
                envelope.end_streak();
                self.last_success = Some((envelope.began, Instant::now()));
                envelope.recharge(&self.shared, self.stage.finished_bytes(&envelope.payload, &done));
                self.persist(envelope, Verdict::Done(done), ctx);
            }
            Some(AttemptOutcome::Parked { reason, resume }) => {
                self.persist(envelope, Verdict::Parked { reason, resume }, ctx)
            }
            Some(AttemptOutcome::Failed(error)) => self.failed(envelope, error, ctx),
        }
    }

    fn failed(&mut self, mut envelope: Envelope<S::Job>, error: StageError, ctx: &mut Context<Self>) {
        let streak = envelope.streak(error.class);
        let alone = error.class == ErrorClass::Unavailable && self.is_alone(streak.lasts);
        let error = if alone { StageError { class: ErrorClass::Transient, ..error } } else { error };
        if error.class == ErrorClass::Unavailable {
            self.sink.unavailable(&error);
        }
        let verdict = match decide(&self.options.retry, &error, envelope.failed_attempts, streak) {
            Decision::Retry { wait, consumes_attempt } => {
                if consumes_attempt {
                    envelope.failed_attempts += 1;
                    if !alone {
                        envelope.end_streak();
                    }
                } else {
                    envelope.in_a_row += 1;
                }
                self.metrics.failed(&error);
                Verdict::Retry { error, wait, consumes_attempt, failed_attempts: envelope.failed_attempts }
            }
            Decision::Quarantine => {
                self.metrics.failed(&error);
                Verdict::Quarantine { error, attempts: envelope.failed_attempts + 1 }
            }
            Decision::Escalate => {
                self.metrics.failed(&error);
                self.state = PoolState::Failed;
                self.root.escalate(Escalation::system(&self.shared.name, error.to_string()));
                Verdict::Released
            }
        };
        self.persist(envelope, verdict, ctx);
    }

    /// Returns whether few jobs see an outage: this one has failed for a long time, hardly any other job waits for the
    /// end of an outage, and a job that was started meanwhile has just succeeded.
    fn is_alone(&self, failing: Duration) -> bool {
        let others = || self.waiting.values().filter(|other| other.is_unavailable());
        self.options.retry.is_alone(failing, self.last_success) && others().count() < FEW_JOBS
    }

    /// Makes a verdict durable. The job is released, retried or forwarded only after that.
    fn persist(&mut self, envelope: Envelope<S::Job>, verdict: Verdict<S::Done, S::Park>, ctx: &mut Context<Self>) {
        self.persisting += 1;
        envelope.phase(Phase::Persisting);
        let (sink, options) = (self.sink.clone(), self.options.retry.clone());
        let failed_before = match &verdict {
            // `failed_attempts` already includes the current failure.
            Verdict::Retry { consumes_attempt: true, .. } => envelope.failed_attempts.saturating_sub(1),
            _ => envelope.failed_attempts,
        };
        let span = sink.span(&envelope.payload, failed_before);
        let persisting = async move {
            let persisted = persist_with_retries(&sink, &envelope, &verdict, &options).await;
            (envelope, verdict, persisted)
        };
        ctx.spawn(persisting.instrument(span).into_actor(self).map(|(envelope, verdict, persisted), pool, ctx| {
            pool.persisting -= 1;
            match persisted {
                Ok(Persisted::Fenced) => {
                    // Return the permits first. The check whether more jobs can start, or whether the pool is empty,
                    // follows, and no later event would repeat it.
                    drop(envelope);
                    pool.metrics.fenced();
                }
                Ok(Persisted::Release) => pool.persisted(envelope, verdict, ctx),
                Err(error) => {
                    // The stored state of the job is unchanged, so the next run resumes from there.
                    drop(envelope);
                    pool.state = PoolState::Failed;
                    pool.root.escalate(Escalation::system(&pool.shared.name, error.to_string()));
                }
            }
            pool.pump(ctx);
        }));
    }

    fn persisted(&mut self, envelope: Envelope<S::Job>, verdict: Verdict<S::Done, S::Park>, ctx: &mut Context<Self>) {
        match verdict {
            Verdict::Done(done) => self.forward(envelope, done, ctx),
            Verdict::Retry { wait, .. } => self.wait_for_retry(envelope, wait, ctx),
            Verdict::Quarantine { .. } => self.metrics.quarantined(),
            Verdict::Parked { .. } => self.metrics.parked(),
            Verdict::Released => self.metrics.released(),
        }
    }

    fn forward(&mut self, envelope: Envelope<S::Job>, done: S::Done, ctx: &mut Context<Self>) {
        self.metrics.done();
        self.forwarding += 1;
        envelope.phase(Phase::Forwarding);
        let sink = self.sink.clone();
        let span = sink.span(&envelope.payload, envelope.failed_attempts);
        let forwarding = async move {
            let started = Instant::now();
            let forwarded = AssertUnwindSafe(sink.forward(&envelope.payload, done)).catch_unwind().await;
            let large = envelope.charged_bytes() >= LARGE_JOB_BYTES;
            drop(envelope);
            if large {
                tokio::task::spawn_blocking(release_free_memory);
            }
            (forwarded, started.elapsed())
        };
        ctx.spawn(forwarding.instrument(span).into_actor(self).map(|(forwarded, took), pool, ctx| {
            pool.forwarding -= 1;
            pool.metrics.blocked_seconds(took);
            match forwarded {
                Ok(Ok(()) | Err(Closed)) => {}
                Err(panic) => {
                    let error = panicked(panic.as_ref());
                    pool.root.escalate(Escalation::system(&pool.shared.name, error.to_string()));
                }
            }
            pool.pump(ctx);
        }));
    }

    fn wait_for_retry(&mut self, envelope: Envelope<S::Job>, wait: Duration, ctx: &mut Context<Self>) {
        if self.draining == Some(DrainMode::Release) {
            self.persist(envelope, Verdict::Released, ctx);
            return;
        }
        envelope.phase(Phase::WaitingForRetry);
        let serial = envelope.serial;
        self.waiting.insert(serial, envelope);
        ctx.run_later(wait, move |pool, ctx| {
            if let Some(envelope) = pool.waiting.remove(&serial) {
                pool.requeue(envelope, ctx);
            }
        });
    }

    fn stats(&self) -> PoolStats {
        let (queued, oldest) = self.queue_age();
        PoolStats {
            name: self.shared.name.to_string(),
            state: self.state,
            workers: self.workers.len(),
            want: self.want,
            min: self.options.min_workers,
            max: self.options.max_workers,
            idle: self.idle.len(),
            busy: self.busy.len(),
            queued,
            queued_urgent: self.shared.lanes().urgent_len(),
            oldest_queued_seconds: oldest.map_or(0.0, |d| d.as_secs_f64()),
            retry_waiting: self.waiting.len(),
            persisting: self.persisting,
            forwarding: self.forwarding,
            in_flight: self.shared.held(),
            max_in_flight: self.options.max_messages,
            bytes: self.shared.bytes_held(),
            max_bytes: self.options.max_bytes,
            counts: self.metrics.counts.clone(),
        }
    }
}

/// Makes a verdict durable. During an outage, calls are retried up to its maximum duration. Other failed calls are retried
/// up to the limit on consecutive system failures.
async fn persist_with_retries<J, D, P>(
    sink: &Rc<dyn crate::supervisors::job::OutcomeSink<J, D, P>>,
    envelope: &Envelope<J>,
    verdict: &Verdict<D, P>,
    options: &RetryOptions,
) -> Result<Persisted, StageError> {
    let began = Instant::now();
    let (mut outages, mut failures) = (0, 0);
    loop {
        let answer = AssertUnwindSafe(sink.persist(&envelope.payload, verdict)).catch_unwind().await;
        let error = match answer {
            Ok(Ok(persisted)) => {
                if matches!(verdict, Verdict::Done(_)) {
                    sink.available(envelope.began);
                }
                return Ok(persisted);
            }
            Ok(Err(error)) => error,
            Err(panic) => panicked(panic.as_ref()),
        };
        let error = match error.class {
            ErrorClass::Unavailable => error,
            _ => StageError { class: ErrorClass::System, ..error },
        };
        let counter = if error.class == ErrorClass::Unavailable { &mut outages } else { &mut failures };
        if error.class == ErrorClass::Unavailable {
            sink.unavailable(&error);
        }
        match decide(options, &error, 0, Streak { failures: *counter, lasts: began.elapsed() }) {
            Decision::Retry { wait, .. } => tokio::time::sleep(wait).await,
            Decision::Quarantine | Decision::Escalate => return Err(error),
        }
        *counter += 1;
    }
}

impl<S: Stage> Actor for PoolSupervisor<S> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        self.fit_workers(ctx);
        let interval = Duration::from_secs_f64(self.options.scaling.interval_seconds);
        ctx.run_interval(interval, |pool, ctx| {
            if pool.draining.is_none() && pool.state == PoolState::Running {
                pool.want = pool.scale();
                pool.fit_workers(ctx);
            }
            pool.metrics.gauges(&pool.stats());
        });
    }
}

impl<S: Stage> Handler<Command> for PoolSupervisor<S> {
    type Result = ();

    fn handle(&mut self, command: Command, ctx: &mut Context<Self>) {
        match command {
            Command::Wake => self.pump(ctx),
            Command::Observe(answer) => {
                let _ = answer.send(self.stats());
            }
            Command::Resize { min, max } => {
                self.options.min_workers = min;
                self.options.max_workers = max.max(min);
                self.want = self.want.clamp(min, max.max(min));
                self.fit_workers(ctx);
            }
            Command::Drain(mode, done) => self.drain(mode, done, ctx),
            Command::Halt => self.halt(ctx),
            Command::Restart => {
                self.intensity.forgive();
                self.metrics.escalated();
                if self.state == PoolState::Escalated {
                    self.state = if self.draining.is_some() { PoolState::Draining } else { PoolState::Running };
                }
                self.fit_workers(ctx);
            }
        }
    }
}

impl<S: Stage> Handler<Report<S>> for PoolSupervisor<S> {
    type Result = ();

    fn handle(&mut self, report: Report<S>, ctx: &mut Context<Self>) {
        match report {
            Report::Ready { worker } => self.free(worker),
            Report::Ended { worker, attempt, took } => {
                self.ended(worker, attempt, took, ctx);
                self.free(worker);
            }
            Report::Died { worker, reason } => self.died(worker, reason, ctx),
        }
        self.pump(ctx);
    }
}
