//! Defines a pool's jobs and their outcomes, and the traits that a stage implements.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use docweir_core::cancel::Cancel;
use docweir_core::error::StageError;
use tracing::Span;

use super::Lane;

/// Describes the work of a pool and creates its workers.
pub trait Stage: 'static {
    /// Input of an attempt. The supervisor shares it with the worker, so a worker that dies loses no job.
    type Job: Send + Sync + 'static;
    /// Result of a job that succeeded.
    type Done: Send + 'static;
    /// Event or time that a parked job waits for.
    type Park: Send + 'static;

    /// Creates the state of one worker. Called at each start of a worker; an error or a panic counts as the worker's
    /// death.
    fn worker(&self) -> Result<WorkOf<Self>, StageError>;

    /// Returns whether work that is dropped halfway may leave a thread behind (`spawn_blocking`). Such threads are
    /// counted and limited. Work that only waits, and work whose child process dies with it, returns `false`.
    fn may_leave_threads(&self) -> bool {
        true
    }
}

/// Holds the state of one worker of a stage.
pub type WorkOf<S> = Box<dyn Work<<S as Stage>::Job, <S as Stage>::Done, <S as Stage>::Park>>;

/// Runs one job at a time for one worker. Dropping the future ends the work.
#[async_trait(?Send)]
pub trait Work<J, D, P> {
    async fn run(&mut self, job: &Arc<J>, cancel: &Cancel) -> AttemptOutcome<D, P>;
}

/// Describes the outcome of one attempt.
#[derive(Clone, Debug, PartialEq)]
pub enum AttemptOutcome<D, P> {
    Done(D),
    Failed(StageError),
    /// The job waits for an outside event. It is stored durably and occupies no worker and no memory.
    Parked {
        reason: String,
        resume: P,
    },
}

/// Describes what happens to a job after an attempt. The [`OutcomeSink`] makes it durable before the pool releases
/// the job.
#[derive(Clone, Debug, PartialEq)]
pub enum Verdict<D, P> {
    Done(D),
    Retry {
        error: StageError,
        wait: Duration,
        consumes_attempt: bool,
        /// Number of failed attempts that count. Includes the current attempt if it consumes one.
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
    /// The job is returned unfinished because the pool is draining.
    Released,
}

/// Answers the question whether an attempt may begin.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    Go,
    /// Another process owns the job now; the pool drops it.
    Drop,
}

/// Describes the result of making a verdict durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Persisted {
    /// The verdict is durable. The pool releases the job; after `Retry` it runs the job again.
    Release,
    /// Another process owns the job now. The pool drops it, whatever the verdict was.
    Fenced,
}

/// Reports that a pool no longer accepts jobs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the pool is draining or has ended")]
pub struct Closed;

/// Stores the outcomes of a pool's jobs. An error of `begin` or `persist` is a failure of the system, never of the
/// job. The pool retries the call and escalates when its limit is reached.
#[async_trait(?Send)]
pub trait OutcomeSink<J, D, P> {
    /// Returns the log span of an attempt. It covers the attempt and the writing of its outcome.
    fn span(&self, _job: &Arc<J>, _failed_attempts: u32) -> Span {
        Span::none()
    }

    /// Records that an attempt begins. Called before each attempt.
    async fn begin(&self, job: &Arc<J>, failed_attempts: u32) -> Result<Begin, StageError>;

    /// Makes the verdict durable. Must be idempotent, because it is called again after an error.
    async fn persist(&self, job: &Arc<J>, verdict: &Verdict<D, P>) -> Result<Persisted, StageError>;

    /// Submits a finished job to the next pool. May wait; that wait is backpressure and is measured.
    async fn forward(&self, job: &Arc<J>, done: D) -> Result<(), Closed>;
}

pub(super) type SharedSink<S> = Rc<dyn OutcomeSink<<S as Stage>::Job, <S as Stage>::Done, <S as Stage>::Park>>;

/// Describes a job to the pool that takes it.
#[derive(Debug)]
pub struct JobSpec<J> {
    pub payload: Arc<J>,
    /// Identifier that is shown in statistics and in the supervision tree.
    pub id: String,
    pub tenant: Arc<str>,
    /// Share of worker time relative to other tenants.
    pub weight: u32,
    /// Memory, in bytes, that the job holds while it is in the pool.
    pub bytes: usize,
    pub lane: Lane,
    /// Number of attempts that failed in earlier processes.
    pub failed_attempts: u32,
}
