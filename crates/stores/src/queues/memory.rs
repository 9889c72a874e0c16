//! Implements a message queue in memory, for tests. The queue uses tokio's clock and fails on demand.

use std::collections::VecDeque;
use std::sync::{Mutex, MutexGuard, PoisonError};

use tokio::sync::Notify;
use tokio::time::{Instant, sleep_until, timeout_at};

use super::*;

#[derive(Default)]
pub struct MemoryQueue {
    state: Mutex<State>,
    sent: Notify,
}

#[derive(Default)]
struct State {
    messages: Vec<Waiting>,
    dead: Vec<String>,
    redrive: Option<u32>,
    next: u64,
    /// Errors that the next calls of the queue return, in order.
    failures: VecDeque<QueueError>,
    /// Number of times that `receive` has been called, whether or not it returned messages.
    receives: u64,
}

struct Waiting {
    id: u64,
    body: String,
    receipt: u64,
    receives: u32,
    visible_at: Instant,
}

impl MemoryQueue {
    pub fn new(redrive: Option<u32>) -> Self {
        let queue = Self::default();
        queue.state().redrive = redrive;
        queue
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub fn put(&self, body: impl Into<String>) {
        self.put_at(body.into(), Instant::now());
    }

    fn put_at(&self, body: String, visible_at: Instant) {
        let mut state = self.state();
        state.next += 1;
        let id = state.next;
        state.messages.push(Waiting { id, body, receipt: 0, receives: 0, visible_at });
        self.sent.notify_one();
    }

    /// Returns the bodies of all messages that are not deleted, including hidden ones.
    pub fn left(&self) -> Vec<String> {
        self.state().messages.iter().map(|m| m.body.clone()).collect()
    }

    pub fn dead(&self) -> Vec<String> {
        self.state().dead.clone()
    }

    /// Returns how often each remaining message was received, in the order in which the messages were sent.
    pub fn receives(&self) -> Vec<u32> {
        self.state().messages.iter().map(|m| m.receives).collect()
    }

    /// Returns the number of messages that can be received now.
    pub fn visible(&self) -> usize {
        let now = Instant::now();
        self.state().messages.iter().filter(|m| m.visible_at <= now).count()
    }

    /// Returns how often `receive` has been called.
    pub fn asked(&self) -> u64 {
        self.state().receives
    }

    pub fn fail(&self, errors: impl IntoIterator<Item = QueueError>) {
        self.state().failures.extend(errors);
    }

    fn may_fail(&self) -> Result<(), QueueError> {
        self.state().failures.pop_front().map_or(Ok(()), Err)
    }

    fn take(&self, most: usize, hidden: Duration) -> Vec<Received> {
        let mut state = self.state();
        let now = Instant::now();
        let State { messages, dead, redrive, next, .. } = &mut *state;
        messages.retain(|m| {
            let over = redrive.is_some_and(|most| m.receives >= most) && m.visible_at <= now;
            if over {
                dead.push(m.body.clone());
            }
            !over
        });
        let mut taken = Vec::new();
        for message in messages.iter_mut().filter(|m| m.visible_at <= now).take(most) {
            *next += 1;
            message.receipt = *next;
            message.receives += 1;
            message.visible_at = now + hidden;
            taken.push(Received {
                id: message.id.to_string(),
                body: message.body.clone(),
                receipt: message.receipt.to_string(),
                receives: message.receives,
            });
        }
        taken
    }

    fn next_visible(&self) -> Option<Instant> {
        self.state().messages.iter().map(|m| m.visible_at).min()
    }
}

#[async_trait]
impl Queue for MemoryQueue {
    fn name(&self) -> &str {
        "memory"
    }

    async fn redrive(&self) -> Result<Option<u32>, QueueError> {
        Ok(self.state().redrive)
    }

    async fn receive(&self, most: usize, wait: Duration, hidden: Duration) -> Result<Vec<Received>, QueueError> {
        self.state().receives += 1;
        self.may_fail()?;
        let until = Instant::now() + wait;
        loop {
            let taken = self.take(most.min(MOST), hidden);
            if !taken.is_empty() || Instant::now() >= until {
                return Ok(taken);
            }
            let next = self.next_visible().unwrap_or(until).min(until);
            let _ = timeout_at(until, async {
                tokio::select! {
                    () = self.sent.notified() => {}
                    () = sleep_until(next) => {}
                }
            })
            .await;
        }
    }

    async fn hide(&self, receipt: &str, hidden: Duration) -> Result<(), QueueError> {
        self.may_fail()?;
        let mut state = self.state();
        let found = state.messages.iter_mut().find(|m| m.receipt.to_string() == receipt);
        found.ok_or(QueueError::Lost)?.visible_at = Instant::now() + hidden;
        self.sent.notify_one();
        Ok(())
    }

    async fn delete(&self, receipts: &[String]) -> Result<Vec<(String, QueueError)>, QueueError> {
        self.may_fail()?;
        let mut state = self.state();
        let mut failed = Vec::new();
        for receipt in receipts {
            let before = state.messages.len();
            state.messages.retain(|m| m.receipt.to_string() != *receipt);
            if state.messages.len() == before {
                failed.push((receipt.clone(), QueueError::Lost));
            }
        }
        Ok(failed)
    }

    async fn send(&self, body: &str, delay: Duration) -> Result<(), QueueError> {
        self.may_fail()?;
        self.put_at(body.to_owned(), Instant::now() + delay);
        Ok(())
    }
}
