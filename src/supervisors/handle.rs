//! Defines the handle of a pool. Code outside this folder accesses pools only through handles, and never through
//! actor addresses.

use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use actix::prelude::*;
use tokio::sync::oneshot;

use super::command::{Command, DrainMode, observe};
use super::job::{Closed, JobSpec, OutcomeSink, Stage};
use super::pool::{PoolOptions, PoolSupervisor};
use super::root::RootHandle;
use super::shared::Shared;
use super::stats::PoolStats;

/// Describes why a job was not accepted immediately.
#[derive(Debug)]
pub enum TrySubmit<J> {
    /// The pool is full. The caller should try again after `retry_after`.
    Busy {
        job: JobSpec<J>,
        retry_after: Duration,
    },
    Closed(JobSpec<J>),
}

/// Submits jobs to one pool and sends commands to it. Clones refer to the same pool.
pub struct PoolHandle<J> {
    shared: Arc<Shared<J>>,
    commands: Recipient<Command>,
}

impl<J> Clone for PoolHandle<J> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), commands: self.commands.clone() }
    }
}

/// Starts a pool under the root. This function must be called on a local task set or in an actix system.
pub fn start_pool<S: Stage>(
    options: PoolOptions,
    stage: S,
    sink: Rc<dyn OutcomeSink<S::Job, S::Done, S::Park>>,
    root: &RootHandle,
) -> PoolHandle<S::Job> {
    let shared =
        Arc::new(Shared::new(&options.name, options.max_messages, options.max_bytes, root.in_flight_table().clone()));
    let supervisor = PoolSupervisor::new(options, Rc::new(stage), sink, shared.clone(), root.clone());
    let commands = supervisor.start().recipient();
    root.adopt(&shared.name, commands.clone());
    PoolHandle { shared, commands }
}

impl<J> PoolHandle<J> {
    pub fn name(&self) -> &str {
        &self.shared.name
    }

    /// Submits a job, and waits while the pool is full. This wait is the backpressure that slows down the caller.
    pub async fn submit(&self, job: JobSpec<J>) -> Result<(), Closed> {
        let envelope = self.shared.admit(job).await?;
        if self.shared.queue(envelope) {
            self.commands.do_send(Command::Wake);
        }
        Ok(())
    }

    /// Submits a job if the pool has room now. Otherwise returns an error that contains the job.
    pub fn try_submit(&self, job: JobSpec<J>) -> Result<(), TrySubmit<J>> {
        match self.shared.try_admit(job) {
            Ok(envelope) => {
                if self.shared.queue(envelope) {
                    self.commands.do_send(Command::Wake);
                }
                Ok(())
            }
            Err(job) if self.shared.is_closed() => Err(TrySubmit::Closed(job)),
            Err(job) => Err(TrySubmit::Busy { job, retry_after: Duration::from_secs(1) }),
        }
    }

    /// Returns the statistics of the pool, or `None` once the pool has ended.
    pub async fn observe(&self) -> Option<PoolStats> {
        observe(&self.commands).await
    }

    /// Changes the minimum and maximum number of workers with immediate effect. Running work is not interrupted.
    pub fn resize(&self, min: usize, max: usize) {
        self.commands.do_send(Command::Resize { min, max });
    }

    /// Drains the pool. Returns when the pool has no more jobs and has ended.
    pub async fn drain(&self, mode: DrainMode) {
        let (done, drained) = oneshot::channel();
        self.commands.do_send(Command::Drain(mode, done));
        let _ = drained.await;
    }

    /// Ends the pool immediately. Running work is dropped, and the next run repeats it.
    pub fn halt(&self) {
        self.commands.do_send(Command::Halt);
    }
}
