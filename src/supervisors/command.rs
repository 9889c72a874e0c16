//! Defines the commands that a pool accepts from its handles, from the root and from itself.

use actix::prelude::*;
use tokio::sync::oneshot;

use super::stats::PoolStats;

/// Selects how a pool is drained.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainMode {
    /// The pool accepts no more jobs and finishes all jobs that it holds.
    Finish,
    /// The pool accepts no more jobs, finishes the running jobs and releases the waiting jobs.
    Release,
}

#[derive(Message)]
#[rtype(result = "()")]
pub(super) enum Command {
    Wake,
    Observe(oneshot::Sender<PoolStats>),
    Resize {
        min: usize,
        max: usize,
    },
    Drain(DrainMode, oneshot::Sender<()>),
    /// Ends the pool immediately. Work that is running is dropped.
    Halt,
    /// Starts workers again after an escalation. Only the root sends this command.
    Restart,
}

/// Requests the statistics of a pool, and waits for the pool's answer. Returns `None` if the pool has ended.
pub(super) async fn observe(commands: &Recipient<Command>) -> Option<PoolStats> {
    let (answer, stats) = oneshot::channel();
    commands.do_send(Command::Observe(answer));
    stats.await.ok()
}
