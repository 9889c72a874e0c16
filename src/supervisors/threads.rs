//! Runs actors on one thread, and the attempts of their workers on others.
//!
//! There are two runtimes. A single one of several threads could run both, but its `block_on` waits on a token of the
//! thread, which `try_recv` of a channel may take while another thread sends (tokio 1.54). The wake-up of the actors is
//! then lost, and the process hangs.

use std::cell::RefCell;
use std::future::Future;
use std::time::{Duration, Instant};

use tokio::runtime::{Builder, Handle};
use tokio::task::{JoinHandle, LocalSet};

/// Maximum time that blocking work may take after the actors have ended.
const SHUTDOWN_WAIT: Duration = Duration::from_secs(1);

thread_local! {
    /// Runtime that runs the attempts of this thread's workers.
    static ATTEMPTS: RefCell<Option<Handle>> = const { RefCell::new(None) };
}

/// Runs `work` with actors. The calling thread runs the actors. Other threads run the attempts of workers, connections
/// and blocking calls, so that nothing of this delays an actor.
///
/// When `work` has ended, all tasks end, and blocking work that still runs gets one second to finish.
///
/// # Errors
/// Returns an error if the system does not provide what a runtime needs.
pub fn with_actors<T>(work: impl Future<Output = T>) -> std::io::Result<T> {
    // With two threads, connections are served while one of them computes.
    let threads = std::thread::available_parallelism().map_or(2, |processors| processors.get().max(2));
    let attempts = Builder::new_multi_thread().worker_threads(threads).enable_all().build()?;
    let runtime = Builder::new_current_thread().enable_all().build()?;
    ATTEMPTS.set(Some(attempts.handle().clone()));
    let actors = LocalSet::new();
    let output = actors.block_on(&runtime, work);
    {
        // Ends all remaining actors. Their attempts end with them, and so do child processes.
        let _runtime = runtime.enter();
        drop(actors);
    }
    ATTEMPTS.set(None);
    let until = Instant::now() + SHUTDOWN_WAIT;
    attempts.shutdown_timeout(SHUTDOWN_WAIT);
    runtime.shutdown_timeout(until.saturating_duration_since(Instant::now()));
    Ok(output)
}

/// Starts an attempt as a task. Within [`with_actors`], the task runs on another thread. Elsewhere, for example in tests
/// with a paused clock, it runs on the current runtime.
pub(super) fn spawn<F>(attempt: F) -> JoinHandle<F::Output>
where
    F: Future + Send + 'static,
    F::Output: Send,
{
    ATTEMPTS.with_borrow(|runtime| match runtime {
        Some(runtime) => runtime.spawn(attempt),
        None => tokio::spawn(attempt),
    })
}
