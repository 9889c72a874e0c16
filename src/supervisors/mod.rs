//! The microkernel: supervised pools of workers with exact bounds, and what keeps them alive. Knows no document.
//!
//! ```text
//! Root ─┬─ pool (PoolSupervisor) ─┬─ Worker      one job at a time, outcome as data
//!       │                         └─ Worker …
//!       ├─ pool …
//!       └─ service (a supervised loop with an inbox)
//! ```
//! actix gives typed mailboxes and actors on one thread; what it does not give is built here: a bound that holds
//! (permits in messages and bytes), back-pressure, a death notice, restart with intensity, retry and quarantine by the
//! error's class, deadlines that end the work, resizing, fairness, and a drain. Commands go down, facts come up, and
//! nobody outside holds a raw address.
//!
//! | file | what |
//! | --- | --- |
//! | `job` | the traits [`Stage`], [`Work`], [`OutcomeSink`] and what passes between them |
//! | `shared` | the bound and the queue that handles and supervisor share |
//! | `lanes` | the order in which jobs are taken |
//! | `pool` (`workers`, `drain`), `worker` | the two actors |
//! | `root` | the top of the tree and the end of the process |
//! | `service` | supervised loops |
//! | `retry`, `restart`, `scaling` | pure decisions |

#![expect(
    clippy::disallowed_types,
    clippy::disallowed_methods,
    reason = "raw addresses live here so that nobody else holds one"
)]

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
pub use retry::{Decision, RetryOptions, decide};
pub use root::{JobLine, RootHandle, ServiceStats, SystemFailure, Tree};
pub use scaling::{Sample, Scaler, ScalingOptions};
pub use shared::{InFlight, InFlightTable, Phase};
pub use stats::{Counts, PoolState, PoolStats};
