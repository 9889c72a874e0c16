//! Defines the worker, an actor that runs one job at a time and reports the outcome as data.
//!
//! A panic inside the work is caught and reported like any other failure, and the worker gets a fresh state. A panic
//! outside the work, for example in a destructor, kills the actor. The actor owns a guard that then reports the
//! death. In both cases the supervisor still owns the job, so no job is lost.

use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use docweir_core::cancel::Cancel;
use docweir_core::error::{ErrorClass, StageError};
use futures_util::FutureExt;
use tokio::sync::oneshot;
use tokio::time::{Instant, timeout};
use tracing::Instrument;

use super::attempt::RunningAttempt;
use super::job::{AttemptOutcome, Begin, SharedSink, Stage, WorkOf};
use super::testing::Alive;

pub(super) type WorkerId = u64;

/// Reports an event of a worker to its supervisor.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) enum Report<S: Stage> {
    /// The worker has created its state and waits for a job.
    Ready {
        worker: WorkerId,
    },
    Ended {
        worker: WorkerId,
        attempt: Attempt<S>,
        took: Duration,
    },
    /// The worker has ended permanently. `reason` is `None` after a panic, because the panic hook has logged it.
    Died {
        worker: WorkerId,
        reason: Option<StageError>,
    },
}

/// Describes how an attempt at a job ended.
pub(super) enum Attempt<S: Stage> {
    Outcome(AttemptOutcome<S::Done, S::Park>),
    /// The attempt was not started, because another process now owns the job.
    Fenced,
    /// The attempt was not started, because `begin` failed.
    NotBegun(StageError),
    /// The attempt exceeded its deadline and the grace period, and its work was dropped.
    Hung(StageError),
}

#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Run<J> {
    pub job: Arc<J>,
    pub failed_attempts: u32,
    pub cancel: Cancel,
    pub deadline: Duration,
    pub grace: Duration,
    /// Channel whose closing ends the work immediately. The channel closes when the supervisor dies or is halted.
    pub kill: oneshot::Receiver<()>,
}

/// Ends an idle worker. This message is never sent to a busy worker.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Retire;

pub(super) struct Worker<S: Stage> {
    id: WorkerId,
    stage: Rc<S>,
    sink: SharedSink<S>,
    supervisor: Recipient<Report<S>>,
    work: Option<WorkOf<S>>,
    // This field is dropped last, so the report is sent after every other field is dropped.
    guard: DeathGuard<S>,
    _alive: Alive,
}

/// Reports the death of the worker when this guard is dropped, wherever the worker dies. The guard's `drop` must never
/// panic.
struct DeathGuard<S: Stage> {
    worker: WorkerId,
    supervisor: Recipient<Report<S>>,
    armed: bool,
}

impl<S: Stage> Drop for DeathGuard<S> {
    fn drop(&mut self) {
        if self.armed {
            self.supervisor.do_send(Report::Died { worker: self.worker, reason: None });
        }
    }
}

impl<S: Stage> Worker<S> {
    pub fn new(id: WorkerId, stage: Rc<S>, sink: SharedSink<S>, supervisor: Recipient<Report<S>>) -> Self {
        let guard = DeathGuard { worker: id, supervisor: supervisor.clone(), armed: true };
        Self { id, stage, sink, supervisor, work: None, guard, _alive: Alive::new() }
    }

    /// Creates a fresh state of the worker. If the creation fails, the worker ends and reports the reason. Returns
    /// whether the creation succeeded.
    fn renew(&mut self, ctx: &mut Context<Self>) -> bool {
        match std::panic::catch_unwind(AssertUnwindSafe(|| self.stage.worker())) {
            Ok(Ok(work)) => {
                self.work = Some(work);
                true
            }
            Ok(Err(error)) => self.leave(Some(error), ctx),
            Err(_) => self.leave(None, ctx),
        }
    }

    fn leave(&mut self, reason: Option<StageError>, ctx: &mut Context<Self>) -> bool {
        self.guard.armed = false;
        self.supervisor.do_send(Report::Died { worker: self.id, reason });
        ctx.stop();
        false
    }
}

impl<S: Stage> Actor for Worker<S> {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Context<Self>) {
        if self.renew(ctx) {
            self.supervisor.do_send(Report::Ready { worker: self.id });
        }
    }
}

impl<S: Stage> Handler<Retire> for Worker<S> {
    type Result = ();

    fn handle(&mut self, _: Retire, ctx: &mut Context<Self>) {
        self.guard.armed = false;
        ctx.stop();
    }
}

impl<S: Stage> Handler<Run<S::Job>> for Worker<S> {
    type Result = AtomicResponse<Self, ()>;

    fn handle(&mut self, run: Run<S::Job>, _: &mut Context<Self>) -> Self::Result {
        let work = self.work.take();
        let sink = self.sink.clone();
        let span = sink.span(&run.job, run.failed_attempts);
        let attempt = async move {
            let started = Instant::now();
            let Some(work) = work else {
                let error = StageError::crash("worker_without_state", "the worker has no state");
                return (None, Attempt::Outcome(AttemptOutcome::Failed(error)), Duration::ZERO);
            };
            let Run { job, failed_attempts, cancel, deadline, grace, mut kill } = run;
            match begin(&sink, &job, failed_attempts).await {
                Ok(Begin::Go) => {}
                Ok(Begin::Drop) => return (Some(work), Attempt::Fenced, started.elapsed()),
                Err(error) => return (Some(work), Attempt::NotBegun(error), started.elapsed()),
            }
            let mut running = RunningAttempt::start(work, job, cancel.clone());
            let in_time = tokio::select! {
                biased;
                ended = timeout(deadline, running.ended()) => ended,
                _ = &mut kill => {
                    cancel.cancel();
                    running.stop().await;
                    let text = "the attempt was stopped because the process is ending";
                    let halted = AttemptOutcome::Failed(StageError::timeout("halted", text));
                    return (None, Attempt::Outcome(halted), started.elapsed());
                }
            };
            let ended = match in_time {
                Ok(ended) => Ok(ended),
                Err(_) => {
                    cancel.cancel();
                    timeout(grace, running.ended()).await
                }
            };
            match ended {
                Ok((work, Ok(outcome))) => (work, Attempt::Outcome(outcome), started.elapsed()),
                // The state may be inconsistent after the panic, so it is dropped.
                Ok((_, Err(error))) => (None, Attempt::Outcome(AttemptOutcome::Failed(error)), started.elapsed()),
                Err(_) => {
                    running.stop().await;
                    (None, Attempt::Hung(late(deadline)), started.elapsed())
                }
            }
        };
        AtomicResponse::new(Box::pin(attempt.instrument(span).into_actor(self).map(
            |(work, attempt, took), worker, ctx| {
                let hung = matches!(attempt, Attempt::Hung(_));
                worker.work = work;
                worker.supervisor.do_send(Report::Ended { worker: worker.id, attempt, took });
                if hung {
                    // The supervisor has already replaced this worker.
                    worker.guard.armed = false;
                    ctx.stop();
                } else if worker.work.is_none() {
                    worker.renew(ctx);
                }
            },
        )))
    }
}

/// Calls `begin` of the sink. A panic of `begin` is converted to a system failure.
async fn begin<J, D, P>(
    sink: &Rc<dyn super::job::OutcomeSink<J, D, P>>,
    job: &Arc<J>,
    failed_attempts: u32,
) -> Result<Begin, StageError> {
    match AssertUnwindSafe(sink.begin(job, failed_attempts)).catch_unwind().await {
        Ok(answer) => answer,
        Err(panic) => Err(StageError { class: ErrorClass::System, ..panicked(panic.as_ref()) }),
    }
}

fn late(deadline: Duration) -> StageError {
    let text = format!("the attempt did not end within its deadline of {} s", deadline.as_secs_f64());
    StageError::timeout("deadline", text)
}

/// Converts a panic to an error. The panic's message is cut at the first quotation mark, because panics of string
/// operations quote their input. This input may be text of a document.
pub(super) fn panicked(panic: &(dyn std::any::Any + Send)) -> StageError {
    let message = panic.downcast_ref::<&str>().map(ToString::to_string).or_else(|| panic.downcast_ref().cloned());
    let message = message.unwrap_or_else(|| "no message".into());
    let unquoted: String = message.split(['`', '"', '\'']).next().unwrap_or_default().chars().take(200).collect();
    StageError::crash("panic", format!("the worker panicked: {}", unquoted.trim_end()))
}
