//! Runs tests of actors under a paused clock. A test fails if an actor is still running when the test ends.

use std::cell::Cell;

thread_local! {
    static ALIVE: Cell<usize> = const { Cell::new(0) };
}

/// Counts as one living actor of the kernel until this value is dropped.
pub(super) struct Alive(());

impl Alive {
    pub fn new() -> Self {
        ALIVE.set(ALIVE.get() + 1);
        Self(())
    }
}

impl Drop for Alive {
    fn drop(&mut self) {
        ALIVE.set(ALIVE.get().saturating_sub(1));
    }
}

/// Returns the number of the kernel's actors that are alive on this thread.
pub fn alive() -> usize {
    ALIVE.get()
}

/// Runs `body` on a clock that advances only when every task waits. Panics if an actor is still alive at the end.
#[cfg(test)]
pub fn universe<F: Future>(body: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let local = tokio::task::LocalSet::new();
    let output = local.block_on(&runtime, async {
        let output = body.await;
        // An actor that received a stop message ends the next time it is scheduled.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        output
    });
    assert_eq!(alive(), 0, "actors are still alive");
    output
}
