//! A pool from outside. The only way to reach one: raw addresses stay in this folder.

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

/// Why a job was not taken at once.
#[derive(Debug)]
pub enum TrySubmit<J> {
    /// The pool is full: try again after the wait.
    Busy {
        job: JobSpec<J>,
        retry_after: Duration,
    },
    Closed(JobSpec<J>),
}

pub struct PoolHandle<J> {
    shared: Arc<Shared<J>>,
    commands: Recipient<Command>,
}

impl<J> Clone for PoolHandle<J> {
    fn clone(&self) -> Self {
        Self { shared: self.shared.clone(), commands: self.commands.clone() }
    }
}

/// Starts a pool under the root. Must be called on a local set (or an actix system).
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

    /// Waits for a place: this is how back-pressure travels upstream.
    pub async fn submit(&self, job: JobSpec<J>) -> Result<(), Closed> {
        let envelope = self.shared.admit(job).await?;
        if self.shared.queue(envelope) {
            self.commands.do_send(Command::Wake);
        }
        Ok(())
    }

    /// Takes the job now or gives it back.
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

    /// `None` once the pool has ended.
    pub async fn observe(&self) -> Option<PoolStats> {
        observe(&self.commands).await
    }

    /// New bounds for the number of workers, at once; running work is not disturbed.
    pub fn resize(&self, min: usize, max: usize) {
        self.commands.do_send(Command::Resize { min, max });
    }

    /// Returns when the pool is empty and has ended.
    pub async fn drain(&self, mode: DrainMode) {
        let (done, drained) = oneshot::channel();
        self.commands.do_send(Command::Drain(mode, done));
        let _ = drained.await;
    }

    /// Ends at once; running work is dropped, and goes on in the next run.
    pub fn halt(&self) {
        self.commands.do_send(Command::Halt);
    }
}
