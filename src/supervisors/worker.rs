//! A worker: an actor that does one job at a time and reports the outcome as data.
//!
//! A panic inside the work is caught and reported like any other failure, and the worker gets a fresh state. A panic
//! outside of it (in `started`, in a drop) kills the actor; the guard in its fields reports the death. Either way the
//! job is the supervisor's, and nothing is lost.

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

use super::job::{AttemptOutcome, Begin, SharedSink, Stage, WorkOf};
use super::testing::Alive;

pub(super) type WorkerId = u64;

/// What a worker tells its supervisor.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) enum Report<S: Stage> {
    /// Has its state and waits for work.
    Ready {
        worker: WorkerId,
    },
    Ended {
        worker: WorkerId,
        attempt: Attempt<S>,
        took: Duration,
    },
    /// Gone for good. `reason` is empty after a panic: the panic hook has logged it.
    Died {
        worker: WorkerId,
        reason: Option<StageError>,
    },
}

/// How an attempt ended.
pub(super) enum Attempt<S: Stage> {
    Outcome(AttemptOutcome<S::Done, S::Park>),
    /// `begin` said that the job is no longer ours.
    Fenced,
    /// `begin` failed: nothing was tried.
    NotBegun(StageError),
    /// The deadline passed and the work did not end by itself; it was dropped.
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
    /// Ends the work at once when its sender drops: the supervisor is gone or was halted.
    pub kill: oneshot::Receiver<()>,
}

/// Leaves when it has nothing to do; only idle workers are told.
#[derive(Message)]
#[rtype(result = "()")]
pub(super) struct Retire;

pub(super) struct Worker<S: Stage> {
    id: WorkerId,
    stage: Rc<S>,
    sink: SharedSink<S>,
    supervisor: Recipient<Report<S>>,
    work: Option<WorkOf<S>>,
    // Dropped last: its report is sent when everything else is gone.
    guard: DeathGuard<S>,
    _alive: Alive,
}

/// Reports the worker's death from wherever it dies. Must not panic itself.
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

    /// A fresh state; without one the worker leaves and says why.
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
            let Some(mut work) = work else {
                let error = StageError::crash("worker_without_state", "the worker had lost its state");
                return (None, Attempt::Outcome(AttemptOutcome::Failed(error)), Duration::ZERO);
            };
            let Run { job, failed_attempts, cancel, deadline, grace, mut kill } = run;
            match begin(&sink, &job, failed_attempts).await {
                Ok(Begin::Go) => {}
                Ok(Begin::Drop) => return (Some(work), Attempt::Fenced, started.elapsed()),
                Err(error) => return (Some(work), Attempt::NotBegun(error), started.elapsed()),
            }
            let ended = {
                let running = AssertUnwindSafe(work.run(&job, &cancel)).catch_unwind();
                let mut running = std::pin::pin!(running);
                let in_time = tokio::select! {
                    biased;
                    ended = timeout(deadline, &mut running) => ended,
                    _ = &mut kill => {
                        cancel.cancel();
                        Ok(Ok(AttemptOutcome::Failed(StageError::timeout("halted", "the work was stopped with the process"))))
                    }
                };
                match in_time {
                    Ok(ended) => Ok(ended),
                    Err(_) => {
                        cancel.cancel();
                        timeout(grace, &mut running).await.map_err(|_| late(deadline))
                    }
                }
            };
            match ended {
                Ok(Ok(outcome)) => (Some(work), Attempt::Outcome(outcome), started.elapsed()),
                // What the panic left of the state is not trusted.
                Ok(Err(panic)) => {
                    (None, Attempt::Outcome(AttemptOutcome::Failed(panicked(panic.as_ref()))), started.elapsed())
                }
                Err(error) => (None, Attempt::Hung(error), started.elapsed()),
            }
        };
        AtomicResponse::new(Box::pin(attempt.instrument(span).into_actor(self).map(
            |(work, attempt, took), worker, ctx| {
                let hung = matches!(attempt, Attempt::Hung(_));
                worker.work = work;
                worker.supervisor.do_send(Report::Ended { worker: worker.id, attempt, took });
                if hung {
                    // The supervisor has put a new worker in this one's place.
                    worker.guard.armed = false;
                    ctx.stop();
                } else if worker.work.is_none() {
                    worker.renew(ctx);
                }
            },
        )))
    }
}

/// A panic in `begin` is the system's failure like any other of it.
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
    let text = format!("the work did not end within its deadline of {} s", deadline.as_secs_f64());
    StageError::timeout("deadline", text)
}

/// The message of a panic is the code's own up to the first quotation: what a string operation quotes after it is the
/// string itself, which may be a document's.
pub(super) fn panicked(panic: &(dyn std::any::Any + Send)) -> StageError {
    let message = panic.downcast_ref::<&str>().map(ToString::to_string).or_else(|| panic.downcast_ref().cloned());
    let message = message.unwrap_or_else(|| "no message".into());
    let unquoted: String = message.split(['`', '"', '\'']).next().unwrap_or_default().chars().take(200).collect();
    StageError::crash("panic", format!("the worker panicked: {}", unquoted.trim_end()))
}
