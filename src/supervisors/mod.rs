//! Runs supervised pools of workers with exact limits on jobs and memory. This microkernel knows nothing about
//! documents.
//!
//! ```text
//! Root ─┬─ pool (PoolSupervisor) ─┬─ Worker      one job at a time, outcome as data
//!       │                         └─ Worker …
//!       ├─ pool …
//!       └─ service (a supervised loop with an inbox)
//! ```
//! actix provides typed mailboxes and actors on one thread. The kernel adds exact limits on the number and the memory
//! of jobs, backpressure, reports of dead actors, and a limited number of restarts. It also adds retry and quarantine
//! by error class, deadlines after which work is dropped, resizing, fairness, and drain. Commands flow down the tree,
//! and facts flow up. No code outside this folder holds an actor address.
//!
//! | file | contents |
//! | --- | --- |
//! | `job` | the traits [`Stage`], [`Work`] and [`OutcomeSink`], and the types that they exchange |
//! | `shared` | the limits and the queue, shared by a pool's handles and its supervisor |
//! | `lanes` | the order of waiting jobs |
//! | `pool` (`workers`, `drain`), `worker` | the two actors: the supervisor of a pool, and a worker |
//! | `threads`, `attempt` | the thread of the actors, and the tasks on other threads that do the work |
//! | `root` | the top of the tree; restarts children or ends the process |
//! | `service` | loops that are restarted after a panic |
//! | `retry`, `restart`, `scaling` | decisions, as functions without I/O |

#![expect(clippy::disallowed_types, clippy::disallowed_methods, reason = "actor addresses are confined to this folder")]

mod attempt;
mod command;
mod handle;
mod job;
mod lanes;
pub mod metrics;
mod pool;
mod restart;
mod retry;
mod root;
mod scaling;
pub mod service;
mod shared;
mod stats;
pub mod testing;
pub mod threads;
mod worker;

#[cfg(test)]
mod tests;

pub use command::DrainMode;
pub use docweir_core::cancel::Cancel;
pub use handle::{PoolHandle, TrySubmit, start_pool};
pub use job::{AttemptOutcome, Begin, Closed, JobSpec, OutcomeSink, Persisted, Stage, Verdict, Work, WorkOf};
pub use lanes::{Lane, Lanes};
pub use pool::PoolOptions;
pub use restart::{Intensity, Restart, RestartOptions};
pub use retry::{Decision, RetryOptions, Streak, decide};
pub use root::{JobLine, RootHandle, ServiceStats, SystemFailure, Tree};
pub use scaling::{Sample, Scaler, ScalingOptions};
pub use shared::{InFlight, InFlightTable, Phase, cancel_job};
pub use stats::{Counts, PoolState, PoolStats};
