//! A supervised loop: an actor's other shape, for work that waits for many things at once (the committer gathering a
//! group, intake walking a tree, a heartbeat).
//!
//! Its inbox is bounded and outlives it: a loop that panics is started again, with intensity and backoff, and finds
//! the messages that it had not yet taken. What it had taken answers by its dropped reply, and is asked anew.

use std::cell::RefCell;
use std::future::Future;
use std::panic::AssertUnwindSafe;
use std::rc::Rc;
use std::sync::Arc;

use docweir_core::error::StageError;
use futures_util::FutureExt;
use tokio::sync::{Mutex, mpsc};
use tokio::task::JoinHandle;
use tokio::time::Instant;

use super::job::Closed;
use super::restart::{Intensity, Restart, RestartOptions};
use super::root::{Escalation, RootHandle, ServiceStats};
use super::testing::Alive;
use super::worker::panicked;

/// The receiving end, kept over restarts.
pub struct Inbox<M>(Mutex<mpsc::Receiver<M>>);

impl<M> Inbox<M> {
    /// The next message; `None` when all handles are gone.
    pub async fn receive(&self) -> Option<M> {
        self.0.lock().await.recv().await
    }

    /// A message that is already there.
    pub fn try_receive(&self) -> Option<M> {
        self.0.try_lock().ok()?.try_recv().ok()
    }
}

pub struct ServiceHandle<M> {
    inbox: mpsc::Sender<M>,
}

impl<M> Clone for ServiceHandle<M> {
    fn clone(&self) -> Self {
        Self { inbox: self.inbox.clone() }
    }
}

impl<M> ServiceHandle<M> {
    /// Waits for a place in the inbox.
    pub async fn send(&self, message: M) -> Result<(), Closed> {
        self.inbox.send(message).await.map_err(|_| Closed)
    }
}

/// A running service. Dropping it ends the loop at its next wait.
pub struct Running(JoinHandle<()>);

impl Running {
    /// Returns when the loop has ended by itself.
    pub async fn ended(&mut self) {
        let _ = (&mut self.0).await;
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// Starts `run` and starts it again when it panics. An error is the system's: it goes to the root at once. `Ok` ends
/// the service.
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
                Ok(Err(error)) => {
                    stats.borrow_mut().state = "failed";
                    root.escalate(Escalation::system(&name, error.to_string()));
                    return;
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
                    root.escalate(Escalation::system(&name, format!("it died too often, last: {error}")));
                    return;
                }
            }
        }
    });
    (ServiceHandle { inbox: sender }, Running(task))
}
