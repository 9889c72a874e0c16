//! Defines a pool's jobs and their outcomes, and the traits that a stage implements.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use docweir_core::cancel::Cancel;
use docweir_core::error::StageError;
use tokio::time::Instant;
use tracing::Span;

use super::Lane;

/// Describes the work that a pool does, and creates the workers of the pool.
pub trait Stage: 'static {
    /// Input of an attempt. The supervisor shares the input with the worker, so no job is lost if the worker dies.
    type Job: Send + Sync + 'static;
    /// Result of a job that succeeded.
    type Done: Send + 'static;
    /// The event or the time that a parked job waits for.
    type Park: Send + 'static;

    /// Creates the state of one worker. The pool calls this function whenever it starts a worker. An error or a panic
    /// counts as the death of that worker.
    fn worker(&self) -> Result<WorkOf<Self>, StageError>;

    /// Returns the memory of a finished job in bytes: its input and its result, which wait until the next pool accepts
    /// them. The charge of the job changes to this number when the job is finished.
    fn finished_bytes(&self, job: &Self::Job, done: &Self::Done) -> usize;

    /// Returns whether a running thread may remain after an attempt was dropped. Such threads are counted and
    /// limited. Returns `true` for work that uses `spawn_blocking`. Returns `false` for work that only waits, and for
    /// work in a child process that is killed when the attempt is dropped.
    fn may_leave_threads(&self) -> bool {
        true
    }
}

/// Names the trait object that holds the state of a stage's worker.
pub type WorkOf<S> = Box<dyn Work<<S as Stage>::Job, <S as Stage>::Done, <S as Stage>::Park>>;

/// Runs the jobs of one worker, one job at a time. Each attempt is a task of its own, outside the actors' thread.
/// Dropping the future ends the work.
#[async_trait]
pub trait Work<J, D, P>: Send {
    async fn run(&mut self, job: &Arc<J>, cancel: &Cancel) -> AttemptOutcome<D, P>;
}

/// Describes the outcome of one attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum AttemptOutcome<D, P> {
    Done(D),
    Failed(StageError),
    /// The job waits for an external event. Meanwhile the job is stored durably and occupies no worker and no memory.
    Parked {
        reason: String,
        resume: P,
    },
}

/// Describes what happens to a job after an attempt. The [`OutcomeSink`] makes this verdict durable before the pool
/// releases the job.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict<D, P> {
    Done(D),
    Retry {
        error: StageError,
        wait: Duration,
        consumes_attempt: bool,
        /// Number of failed attempts that count towards the limit. The current attempt is included if it counts
        /// itself.
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
    /// The job is returned unfinished, because the pool drains or a system failure stopped it.
    Released,
}

/// Tells the pool whether an attempt may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    Go,
    /// The attempt must not begin, because another process now owns the job. The pool drops the job.
    Drop,
}

/// Describes the result of making a verdict durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persisted {
    /// The verdict is durable. The pool now releases the job, or runs it again if the verdict is `Retry`.
    Release,
    /// The verdict was refused, because another process now owns the job. The pool drops the job, whatever the
    /// verdict was.
    Fenced,
}

/// Reports that a pool or service accepts no more jobs or messages.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the pool or service is draining or has ended")]
pub struct Closed;

/// Makes the outcomes of a pool's jobs durable. An error of `begin` or `persist` is a system failure and never a
/// failure of the job. The pool retries a call that failed in this way, and escalates when the limit on system
/// failures is reached.
#[async_trait(?Send)]
pub trait OutcomeSink<J, D, P> {
    /// Returns the log span of an attempt. The span covers the attempt and the storing of its outcome.
    fn span(&self, _job: &Arc<J>, _failed_attempts: u32) -> Span {
        Span::none()
    }

    /// Records that an attempt begins. The pool calls this function before each attempt.
    async fn begin(&self, job: &Arc<J>, failed_attempts: u32) -> Result<Begin, StageError>;

    /// Makes a verdict durable. This function must be idempotent, because the pool calls it again after an error.
    async fn persist(&self, job: &Arc<J>, verdict: &Verdict<D, P>) -> Result<Persisted, StageError>;

    /// Reports that a store or service is unavailable.
    fn unavailable(&self, _error: &StageError) {}

    /// Reports that the stores and services of the stage worked for an attempt that began at this time, and whose outcome
    /// is durable.
    fn available(&self, _began: Instant) {}

    /// Submits a finished job to the next pool, and waits while that pool is full. The wait is backpressure, and its
    /// duration is measured.
    async fn forward(&self, job: &Arc<J>, done: D) -> Result<(), Closed>;
}

pub(super) type SharedSink<S> = Rc<dyn OutcomeSink<<S as Stage>::Job, <S as Stage>::Done, <S as Stage>::Park>>;

/// Describes a job that is submitted to a pool.
#[derive(Debug)]
pub struct JobSpec<J> {
    pub payload: Arc<J>,
    /// Identifier of the job in statistics and in the supervision tree.
    pub id: String,
    pub tenant: Arc<str>,
    /// Weight of the tenant: a tenant with weight 2 gets twice as much worker time as a tenant with weight 1.
    pub weight: u32,
    /// Memory that the job occupies while it is in the pool, in bytes: its input, and all that an attempt makes from it.
    pub bytes: usize,
    pub lane: Lane,
    /// Number of attempts that failed in earlier processes.
    pub failed_attempts: u32,
}
