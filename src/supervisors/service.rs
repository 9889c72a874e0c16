//! Runs services, which are supervised loops. Unlike a pool's worker, a service can wait for several events at once.
//! Examples are the committer that gathers a group, intake that walks a folder, and the heartbeat.
//!
//! The inbox of a service is bounded and outlives the loop. A loop that panics is restarted after a backoff, up to a
//! limit. The new loop receives the messages that the old loop had not yet received. If the old loop had already
//! received a message, the sender of this message notices that the reply channel was dropped, and sends the message
//! again.

use std::cell::RefCell;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;

use docweir_core::error::{ErrorClass, StageError};
use futures_util::FutureExt;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::job::Closed;
use super::restart::{Intensity, Restart, RestartOptions};
use super::root::{Escalation, RootHandle, ServiceStats};
use super::testing::Alive;
use super::worker::panicked;

/// Receives the messages of a service. The inbox survives restarts of the service.
pub struct Inbox<M>(Mutex<mpsc::Receiver<M>>);

impl<M> Inbox<M> {
    /// Waits for the next message. Returns `None` when all handles are dropped.
    pub async fn receive(&self) -> Option<M> {
        self.0.lock().await.recv().await
    }

    /// Returns the next message if it has already arrived; otherwise `None`.
    pub fn try_receive(&self) -> Option<M> {
        self.0.try_lock().ok()?.try_recv().ok()
    }
}

/// Sends messages to a service. Clones refer to the same inbox.
pub struct ServiceHandle<M> {
    inbox: mpsc::Sender<M>,
}

impl<M> Clone for ServiceHandle<M> {
    fn clone(&self) -> Self {
        Self { inbox: self.inbox.clone() }
    }
}

impl<M> ServiceHandle<M> {
    /// Sends a message, and waits while the inbox is full.
    pub async fn send(&self, message: M) -> Result<(), Closed> {
        self.inbox.send(message).await.map_err(|_| Closed)
    }
}

/// Owns a running service. If this value is dropped, the service ends at its next wait.
pub struct Running(JoinHandle<()>);

impl Running {
    /// Waits until the service has ended.
    pub async fn ended(&mut self) {
        let _ = (&mut self.0).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts `run` as a service. If `run` panics or returns an error, the service is started again after a backoff. If this
/// happens too often, the last error is escalated to the root. `run` itself waits for the end of an outage, so an error
/// that says a store is unavailable is escalated at once. If `run` returns `Ok`, the service ends.
pub fn start_service<M, F, Fut>(
    name: &str,
    capacity: usize,
    options: RestartOptions,
    root: &RootHandle,
    mut run: F,
) -> (ServiceHandle<M>, Running)
where
    M: 'static,
    F: FnMut(Rc<Inbox<M>>) -> Fut + 'static,
    Fut: Future<Output = Result<(), StageError>> + 'static,
{
    let (sender, receiver) = mpsc::channel(capacity.max(1));
    let inbox = Rc::new(Inbox(Mutex::new(receiver)));
    let name: Arc<str> = name.into();
    let stats = Rc::new(RefCell::new(ServiceStats { state: "running", ..Default::default() }));
    root.adopt_service(&name, stats.clone());
    let root = root.clone();
    let task = tokio::task::spawn_local(async move {
        let _alive = Alive::new();
        let mut intensity = Intensity::default();
        loop {
            let error = match AssertUnwindSafe(run(inbox.clone())).catch_unwind().await {
                Ok(Ok(())) => {
                    root.ended(&name);
                    return;
                }
                Ok(Err(error)) if error.class == ErrorClass::Unavailable => {
                    // The service has waited as long as an outage may last.
                    stats.borrow_mut().state = "failed";
                    root.escalate(Escalation::system(&name, error.to_string()));
                    return;
                }
                Ok(Err(error)) => {
                    tracing::warn!(service = &*name, %error, "service failed");
                    error
                }
                Err(panic) => panicked(panic.as_ref()),
            };
            match intensity.died(Instant::now(), options.max_escalations, &options) {
                Restart::After(wait) => {
                    stats.borrow_mut().restarts += 1;
                    tokio::time::sleep(wait).await;
                }
                Restart::Escalate => {
                    stats.borrow_mut().state = "failed";
                    let restarts = stats.borrow().restarts;
                    root.escalate(Escalation::system(&name, format!("{error}; restarted {restarts} times in vain")));
                    return;
                }
            }
        }
    });
    (ServiceHandle { inbox: sender }, Running(task))
}
