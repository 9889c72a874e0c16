//! Lets callers that need the same object wait for each other, while callers that need other objects go on.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use tokio::sync::OwnedMutexGuard;

/// Holds one lock per key. A lock exists only while somebody holds it or waits for it.
#[derive(Default)]
pub struct Turns {
    locks: Mutex<HashMap<String, Weak<tokio::sync::Mutex<()>>>>,
}

impl Turns {
    /// Waits until no other caller holds the lock of `key`. The lock is released when the returned guard is dropped.
    pub async fn take(&self, key: &str) -> OwnedMutexGuard<()> {
        self.lock(key).lock_owned().await
    }

    fn lock(&self, key: &str) -> Arc<tokio::sync::Mutex<()>> {
        let mut locks = self.locks.lock().unwrap_or_else(PoisonError::into_inner);
        locks.retain(|_, lock| lock.strong_count() > 0);
        if let Some(lock) = locks.get(key).and_then(Weak::upgrade) {
            return lock;
        }
        let lock = Arc::new(tokio::sync::Mutex::new(()));
        locks.insert(key.to_owned(), Arc::downgrade(&lock));
        lock
    }
}

#[cfg(test)]
mod tests {
    use std::pin::pin;
    use std::task::{Context, Poll, Waker};

    use super::*;

    #[test]
    fn callers_wait_only_for_the_same_key() {
        let turns = Turns::default();
        let mut context = Context::from_waker(Waker::noop());
        let (mut a, mut b, mut again) = (pin!(turns.take("a")), pin!(turns.take("b")), pin!(turns.take("a")));
        let Poll::Ready(held) = a.as_mut().poll(&mut context) else { panic!("nobody holds the lock") };
        assert!(b.as_mut().poll(&mut context).is_ready());
        assert!(again.as_mut().poll(&mut context).is_pending());
        drop(held);
        assert!(again.as_mut().poll(&mut context).is_ready());
        drop(turns.lock("c"));
        assert_eq!(turns.locks.lock().unwrap().len(), 1, "locks that nobody uses are removed");
    }
}
