//! What a pool is asked to do, what comes of it, and the traits that give it meaning.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use docweir_core::cancel::Cancel;
use docweir_core::error::StageError;
use tracing::Span;

use super::Lane;

/// What a pool runs.
pub trait Stage: 'static {
    /// Shared with the worker: a worker that dies takes nothing with it.
    type Job: Send + Sync + 'static;
    /// What a job becomes.
    type Done: Send + 'static;
    /// What a parked job waits for.
    type Park: Send + 'static;

    /// One worker's own state. Called for each start; an error or a panic counts as the worker's death.
    fn worker(&self) -> Result<WorkOf<Self>, StageError>;

    /// Whether work that is dropped in the middle may leave a thread behind (`spawn_blocking`). Such threads are
    /// counted and limited; work that only waits, or whose child process dies with it, says `false`.
    fn may_leave_threads(&self) -> bool {
        true
    }
}

/// The state of one of a stage's workers.
pub type WorkOf<S> = Box<dyn Work<<S as Stage>::Job, <S as Stage>::Done, <S as Stage>::Park>>;

/// One worker's work on one job at a time. Dropping the future ends it.
#[async_trait(?Send)]
pub trait Work<J, D, P> {
    async fn run(&mut self, job: &Arc<J>, cancel: &Cancel) -> AttemptOutcome<D, P>;
}

/// What came of an attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum AttemptOutcome<D, P> {
    Done(D),
    Failed(StageError),
    /// Waits for something outside: durable, holding no worker and no memory.
    Parked {
        reason: String,
        resume: P,
    },
}

/// What is to become of a job; made durable by the [`OutcomeSink`] before the pool lets go of it.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict<D, P> {
    Done(D),
    Retry {
        error: StageError,
        wait: Duration,
        consumes_attempt: bool,
        /// Failed attempts that count, this one included if it does.
        failed_attempts: u32,
    },
    Quarantine {
        error: StageError,
        attempts: u32,
    },
    Parked {
        reason: String,
        resume: P,
    },
    /// Given back undone: the pool is draining.
    Released,
}

/// Whether an attempt may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    Go,
    /// The job is no longer ours: drop it.
    Drop,
}

/// What the durable side said of a verdict.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persisted {
    /// It is written: the pool lets go (or, after `Retry`, tries again).
    Release,
    /// The job is no longer ours: drop it, whatever the verdict was.
    Fenced,
}

/// The pool does not take jobs any more.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the pool is draining or gone")]
pub struct Closed;

/// Owner of the durable side of a pool's jobs. An error of `begin` or `persist` is the system's, never the job's: the
/// pool tries again and, past its limit, escalates.
#[async_trait(?Send)]
pub trait OutcomeSink<J, D, P> {
    /// What the log's lines about an attempt stand in: the attempt itself, and what is written of it.
    fn span(&self, _job: &Arc<J>, _failed_attempts: u32) -> Span {
        Span::none()
    }

    /// Before each attempt.
    async fn begin(&self, job: &Arc<J>, failed_attempts: u32) -> Result<Begin, StageError>;

    /// Makes the verdict durable. May be called again after an error: has to be idempotent.
    async fn persist(&self, job: &Arc<J>, verdict: &Verdict<D, P>) -> Result<Persisted, StageError>;

    /// Hands a done job on. May wait: that is back-pressure, and is measured.
    async fn forward(&self, job: &Arc<J>, done: D) -> Result<(), Closed>;
}

pub(super) type SharedSink<S> = Rc<dyn OutcomeSink<<S as Stage>::Job, <S as Stage>::Done, <S as Stage>::Park>>;

/// A job on its way into a pool.
#[derive(Debug)]
pub struct JobSpec<J> {
    pub payload: Arc<J>,
    /// For observers.
    pub id: String,
    pub tenant: Arc<str>,
    /// Share among tenants.
    pub weight: u32,
    /// Memory that the job holds while the pool has it.
    pub bytes: usize,
    pub lane: Lane,
    /// Attempts that failed before, in an earlier process.
    pub failed_attempts: u32,
}
