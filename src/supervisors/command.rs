//! What a pool can be told, whoever tells it.

use actix::prelude::*;
use tokio::sync::oneshot;

use super::stats::PoolStats;

/// How a pool comes to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DrainMode {
    /// Takes no more jobs and finishes those it has.
    Finish,
    /// Takes no more jobs, finishes the running ones and gives the waiting ones back.
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
    /// Ends at once: running work is dropped.
    Halt,
    /// The root gives the pool another chance after an escalation.
    Restart,
}

/// Asks a pool for its figures; `None` once it has ended.
pub(super) async fn observe(commands: &Recipient<Command>) -> Option<PoolStats> {
    let (answer, stats) = oneshot::channel();
    commands.do_send(Command::Observe(answer));
    stats.await.ok()
}
