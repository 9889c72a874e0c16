//! Runs tests on a local set under a paused clock, and fails when an actor is left over at the end.

use std::cell::Cell;

thread_local! {
    static ALIVE: Cell<usize> = const { Cell::new(0) };
}

/// Counts an actor of the kernel from its creation to its drop.
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

/// Returns the number of kernel actors that are alive on this thread.
pub fn alive() -> usize {
    ALIVE.get()
}

/// Runs `body` on a clock that advances only when every task waits, and panics if an actor is left over.
#[cfg(test)]
pub fn universe<F: Future>(body: F) -> F::Output {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().start_paused(true).build().unwrap();
    let local = tokio::task::LocalSet::new();
    let output = local.block_on(&runtime, async {
        let output = body.await;
        // Actors that received a stop message end at their next turn.
        for _ in 0..100 {
            tokio::task::yield_now().await;
        }
        output
    });
    assert_eq!(alive(), 0, "actors left over");
    output
}
