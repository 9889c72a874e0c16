//! Receives messages from a queue, passes each to a handler, and deletes the handled messages.
//!
//! No message is received while the backlog is too long. While a service is unavailable, only single
//! messages are received at growing intervals, to find out whether others can be handled. A message that waits stays
//! held, and hidden from other consumers, until the service is available again. This message is not returned to the
//! queue. Otherwise it would be received repeatedly, and the queue would finally move it to the dead-letter queue. A
//! message that cannot be handled is left to the queue, which delivers the message again and finally moves it to the
//! dead-letter queue.
//!
//! The queue limits how often a message can be received before the message moves to the dead-letter queue. If a
//! message must be returned after its last permitted receipt, a copy of the message is sent instead, and the original
//! is deleted. The queue counts the receipts of the copy from 0.

use std::future::Future;
use std::pin::Pin;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use docweir_core::backoff::Backoff;
use docweir_core::error::StageError;
use docweir_core::failpoint;
use docweir_stores::queues::{MOST, Queue, QueueError, Received};
use futures_util::stream::{FuturesUnordered, StreamExt};
use metrics::counter;
use tokio::sync::watch;
use tokio::time::{Instant, sleep, timeout};

use super::QueueOptions;
use super::backlog::Backlog;
use super::held::{HeldMessages, MAX_HELD, ReceivedMessage};
use crate::actors::outages::Outages;

/// Part of the process that deletes handled messages, in the list of outages.
const DELETIONS: &str = "deletion of messages";
/// Maximum time that held messages may take to finish after a stop.
const GRACE: Duration = Duration::from_secs(5);

/// Describes the outcome of handling a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageOutcome {
    /// The message was handled and can be deleted.
    Done,
    /// There is nothing to do for the message, and it can be deleted. No service was used.
    Ignored,
    /// The message cannot be handled and is left to the queue. The queue counts how often the message is received,
    /// and finally moves it to the dead-letter queue.
    Refused(String),
    /// Parts of the message cannot be handled; all other parts were handled. Each of these parts is sent as a message of
    /// its own, and the message is deleted.
    Split { bodies: Vec<String>, reason: String },
    /// A service is unavailable. The message is retried, and receiving is paused.
    Outage(String),
    /// Only this message cannot be handled at the moment. It is retried, and other messages are received.
    Alone(String),
    /// Another process is already doing the work. The message is returned to the queue, which delivers it again after
    /// the given time.
    Later(Duration),
}

/// Handles messages. A returned error means that the system failed. It never means that the message is invalid.
#[async_trait(?Send)]
pub trait Handler {
    async fn handle(&self, body: &str) -> Result<MessageOutcome, StageError>;
}

/// Consumes the messages of one queue.
pub struct Consumer {
    /// Name of this consumer, under which outages of the queue are reported.
    pub name: &'static str,
    pub queue: Arc<dyn Queue>,
    pub handler: Rc<dyn Handler>,
    pub options: QueueOptions,
    /// Maximum number of messages that are handled at the same time. Messages that wait for a service do not count.
    pub at_once: usize,
    /// Limit on the work that is received before earlier work is done; `None` means no limit.
    pub backlog: Option<Rc<dyn Backlog>>,
    pub outages: Arc<Outages>,
    /// True once no more messages may be received.
    pub stop: watch::Receiver<bool>,
}

/// Describes the event that ended a wait of the main loop.
enum Step {
    Received(Result<Vec<Received>, QueueError>),
    /// A message is finished. If the message must be deleted, contains its receipt.
    Finished(Result<Option<String>, StageError>),
    Deleted(Deletion),
    /// During an outage, the time has come to receive a single message.
    Probe,
    Look,
}

/// Counts consecutive failed calls to the queue.
#[derive(Default)]
struct Failures {
    in_a_row: u32,
    /// Number of consecutive failures which show that this process cannot use the queue. An example is a queue that
    /// does not exist. A failure of any other kind resets this number to 0.
    broken: u32,
}

impl Failures {
    /// Counts a failure. If the queue is only unavailable, or denies access, the call is retried forever. If this process
    /// cannot use the queue at all, the call fails ten times before an error is returned. Until then, someone may be
    /// creating the queue.
    fn count(&mut self, error: &QueueError) -> Result<(), StageError> {
        const MAX_BROKEN_CALLS: u32 = 10;
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.broken = if matches!(error, QueueError::Broken { .. }) { self.broken + 1 } else { 0 };
        if self.broken >= MAX_BROKEN_CALLS {
            return Err(StageError::system("queue", error.to_string()));
        }
        tracing::warn!(%error, failures = self.in_a_row, "queue call failed; retrying");
        Ok(())
    }
}

/// Describes the outcome of a call that deletes messages.
#[derive(Default)]
struct Deletion {
    /// Receipts of the messages that are still to be deleted.
    left: Vec<String>,
    /// Error of the call, or of the first message that was not deleted.
    error: Option<QueueError>,
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

impl Consumer {
    /// Runs until it is stopped, and then returns the unfinished messages to the queue.
    pub async fn run(&self) -> Result<(), StageError> {
        let hand = HeldMessages::new(self.redrive().await?, self.at_once);
        if hand.redrive.is_none() {
            let (queue, most) = (self.queue.name(), self.options.max_receives);
            tracing::warn!(queue, "no dead-letter queue; failing messages are deleted after {most} receipts");
        }
        let outcome = self.take(&hand).await;
        self.give_all_back(&hand).await;
        outcome
    }

    async fn take(&self, hand: &HeldMessages) -> Result<(), StageError> {
        let mut stop = self.stop.clone();
        let mut working: FuturesUnordered<Boxed<'_, Result<Option<String>, StageError>>> = FuturesUnordered::new();
        let mut receiving: Option<Boxed<'_, Result<Vec<Received>, QueueError>>> = None;
        let mut deleting: Option<Boxed<'_, Deletion>> = None;
        let mut done: Vec<String> = Vec::new();
        let (mut failures, mut failed_deletions) = (Failures::default(), 0);
        let mut stopping: Option<Boxed<'_, ()>> = None;
        let (mut probing, mut probes): (Option<Boxed<'_, ()>>, u32) = (None, 0);
        loop {
            if *stop.borrow_and_update() && stopping.is_none() {
                receiving = None;
                stopping = Some(Box::pin(sleep(GRACE)));
            }
            if stopping.is_some() && working.is_empty() && done.is_empty() && deleting.is_none() {
                return Ok(());
            }
            let active = working.len().saturating_sub(hand.waiting.get());
            let free = self.at_once.saturating_sub(active).min(MAX_HELD.saturating_sub(working.len() + done.len()));
            let may = receiving.is_none() && stopping.is_none() && free > 0;
            match hand.outage.get() {
                true if may && probing.is_none() => {
                    probes += 1;
                    probing = Some(Box::pin(sleep(self.backoff(probes))));
                }
                true => {}
                false => (probing, probes) = (None, 0),
            }
            if may && !hand.outage.get() {
                receiving = Some(Box::pin(self.receive(free, failures.in_a_row)));
            }
            // Messages that finish during a delete call are deleted by the next call.
            if deleting.is_none() && !done.is_empty() {
                let receipts = done.drain(..done.len().min(MOST)).collect();
                deleting = Some(Box::pin(self.delete(receipts, if stopping.is_none() { failed_deletions } else { 0 })));
            }
            let step = tokio::select! {
                Some(finished) = working.next(), if !working.is_empty() => Step::Finished(finished),
                received = next(&mut receiving) => Step::Received(received),
                deletion = next(&mut deleting) => Step::Deleted(deletion),
                () = next(&mut probing) => Step::Probe,
                () = hand.changed.notified() => Step::Look,
                () = next(&mut stopping) => return Ok(()),
                // The sender of the stop signal was dropped, so the run is ending.
                changed = stop.changed(), if stopping.is_none() => match changed {
                    Ok(()) => Step::Look,
                    Err(_) => return Ok(()),
                },
            };
            match step {
                Step::Received(Ok(messages)) => {
                    (receiving, failures) = (None, Failures::default());
                    for message in messages {
                        working.push(Box::pin(self.work(message, hand)));
                    }
                }
                Step::Received(Err(error)) => {
                    receiving = None;
                    failures.count(&error)?;
                    self.report(self.name, &error);
                }
                Step::Finished(finished) => done.extend(finished?),
                Step::Deleted(Deletion { left, error }) => {
                    deleting = None;
                    match error {
                        Some(error) => {
                            failed_deletions += 1;
                            tracing::warn!(%error, failures = failed_deletions, "handled message not deleted; retrying");
                            self.report(DELETIONS, &error);
                        }
                        None => failed_deletions = 0,
                    }
                    // After a stop, each message is tried once. The queue delivers the others again.
                    if stopping.is_none() {
                        done.extend(left);
                    }
                }
                Step::Probe => {
                    probing = None;
                    if may {
                        receiving = Some(Box::pin(self.receive(1, failures.in_a_row)));
                    }
                }
                Step::Look => {}
            }
        }
    }

    /// Receives messages. Waits first if the previous calls failed.
    async fn receive(&self, most: usize, failures: u32) -> Result<Vec<Received>, QueueError> {
        if failures > 0 {
            sleep(self.backoff(failures)).await;
        }
        if let Some(backlog) = &self.backlog {
            backlog.wait().await;
        }
        let (wait, hidden) = (Duration::from_secs(self.options.wait_seconds), self.hidden());
        let began = Instant::now();
        let received = self.queue.receive(most.min(MOST), wait, hidden).await;
        counter!("docweir_queue_receives_total", "queue" => self.queue.name().to_owned()).increment(1);
        if received.is_ok() {
            self.outages.works(self.name, began);
        }
        received
    }

    /// Reports a failed call to the queue as an outage that this part of the process sees.
    fn report(&self, part: &'static str, error: &QueueError) {
        self.outages.report(part, &StageError::unavailable("message_queue", error.to_string()));
    }

    async fn redrive(&self) -> Result<Option<u32>, StageError> {
        let mut failures = Failures::default();
        loop {
            match self.queue.redrive().await {
                Ok(redrive) => return Ok(redrive),
                Err(error) => {
                    failures.count(&error)?;
                    self.report(self.name, &error);
                    sleep(self.backoff(failures.in_a_row)).await;
                }
            }
        }
    }

    /// Handles a message until its outcome is known. Returns the message's receipt if the message is to be deleted.
    async fn work(&self, message: Received, hand: &HeldMessages) -> Result<Option<String>, StageError> {
        let Received { receipt, body, receives, .. } = message;
        let body: Rc<str> = body.into();
        hand.held.borrow_mut().insert(receipt.clone(), ReceivedMessage { receives, body: body.clone() });
        failpoint::reach("queue.received", &body);
        let handled = tokio::select! {
            biased;
            handled = self.handle(&body, hand) => handled?,
            never = self.keep_hidden(&receipt) => never,
        };
        failpoint::reach("queue.handled", &body);
        let outcome = match handled {
            MessageOutcome::Done => "done",
            MessageOutcome::Ignored => "ignored",
            MessageOutcome::Refused(_) => "refused",
            MessageOutcome::Split { .. } => "split",
            MessageOutcome::Outage(_) | MessageOutcome::Alone(_) | MessageOutcome::Later(_) => "given_back",
        };
        counter!("docweir_queue_messages_total", "queue" => self.queue.name().to_owned(), "outcome" => outcome)
            .increment(1);
        let delete = match handled {
            MessageOutcome::Done | MessageOutcome::Ignored => true,
            MessageOutcome::Refused(reason) => self.refuse(receives, &reason, hand),
            MessageOutcome::Split { bodies, reason } => self.split(&bodies, &reason).await,
            MessageOutcome::Later(wait) => self.give_back(&receipt, receives, &body, wait, hand.redrive).await,
            MessageOutcome::Outage(_) | MessageOutcome::Alone(_) => {
                self.give_back(&receipt, receives, &body, self.longest_backoff(), hand.redrive).await
            }
        };
        hand.held.borrow_mut().remove(&receipt);
        Ok(delete.then_some(receipt))
    }

    /// Passes a message to the handler. If a service is unavailable, retries until `hold_seconds` have passed.
    async fn handle(&self, body: &str, hand: &HeldMessages) -> Result<MessageOutcome, StageError> {
        let (since, mut failures) = (Instant::now(), 0);
        loop {
            let outcome = {
                // The semaphore is never closed, so this does not fail.
                let _permit = hand.permits.acquire().await;
                self.handler.handle(body).await?
            };
            let (reason, outage) = match &outcome {
                MessageOutcome::Outage(reason) => (reason, true),
                MessageOutcome::Alone(reason) => (reason, false),
                MessageOutcome::Done | MessageOutcome::Split { .. } => {
                    hand.handled();
                    return Ok(outcome);
                }
                MessageOutcome::Ignored | MessageOutcome::Refused(_) | MessageOutcome::Later(_) => return Ok(outcome),
            };
            failures += 1;
            let wait = self.backoff(failures);
            if since.elapsed() + wait >= Duration::from_secs(self.options.hold_seconds) {
                return Ok(outcome);
            }
            let _waits = hand.waits(since, outage);
            let (queue, wait_seconds, paused) = (self.queue.name(), wait.as_secs_f64(), hand.outage.get());
            tracing::warn!(queue, reason, wait_seconds, paused, "message waits until it can be handled");
            sleep(wait).await;
        }
    }

    async fn keep_hidden<T>(&self, receipt: &str) -> T {
        loop {
            sleep(self.hidden() / 3).await;
            match self.queue.hide(receipt, self.hidden()).await {
                Ok(()) => {}
                // The message is handled nevertheless, because handling a message twice does no harm.
                Err(QueueError::Lost) => tracing::debug!("message no longer hidden; another consumer may receive it"),
                Err(error) => tracing::warn!(%error, "visibility timeout of a message not extended; retrying"),
            }
        }
    }

    /// Leaves a failed message to the queue. The queue delivers the message again and counts how often it is
    /// received. Returns `true` if the caller must delete the message instead. This is the case if the queue has no
    /// dead-letter queue and the message was received the maximum number of times.
    fn refuse(&self, receives: u32, reason: &str, hand: &HeldMessages) -> bool {
        let queue = self.queue.name();
        if hand.redrive.is_none() && receives >= self.options.max_receives {
            tracing::warn!(
                queue,
                reason,
                receives,
                "message failed and was deleted, because there is no dead-letter queue"
            );
            return true;
        }
        tracing::warn!(queue, reason, receives, "message failed; the queue delivers it again");
        false
    }

    /// Sends each part of a message that cannot be handled as a message of its own. Only these parts then move to the
    /// dead-letter queue. Returns whether all were sent, and the message can be deleted.
    async fn split(&self, bodies: &[String], reason: &str) -> bool {
        let queue = self.queue.name();
        tracing::warn!(queue, reason, parts = bodies.len(), "parts of a message failed; each becomes a message");
        for body in bodies {
            if let Err(error) = self.queue.send(body, Duration::ZERO).await {
                tracing::warn!(%error, "part of a message not sent; the queue delivers the message again");
                return false;
            }
        }
        true
    }

    /// Returns a message to the queue. If the queue permits no further receipt of the message, sends a copy instead
    /// and returns `true`. The caller must then delete the message.
    async fn give_back(&self, receipt: &str, receives: u32, body: &str, wait: Duration, redrive: Option<u32>) -> bool {
        let last = redrive.is_some_and(|most| receives >= most);
        let given = match last {
            true => self.queue.send(body, wait).await,
            false => self.queue.hide(receipt, wait).await,
        };
        match given {
            Ok(()) => last,
            Err(error) => {
                tracing::debug!(%error, "message not returned to the queue; delivered again after its timeout");
                false
            }
        }
    }

    /// Returns all held messages to the queue. Called after a stop or a failure.
    async fn give_all_back(&self, hand: &HeldMessages) {
        let held: Vec<(String, ReceivedMessage)> = hand.held.borrow_mut().drain().collect();
        let giving = held.into_iter().map(|(receipt, ReceivedMessage { receives, body })| async move {
            if self.give_back(&receipt, receives, &body, Duration::ZERO, hand.redrive).await
                && let Some(error) = self.delete(vec![receipt], 0).await.error
            {
                tracing::warn!(%error, "message not deleted after a copy was sent; it is delivered twice");
            }
        });
        if timeout(GRACE, futures_util::future::join_all(giving)).await.is_err() {
            tracing::warn!(
                queue = self.queue.name(),
                "messages not returned to the queue; delivered again after their visibility timeout"
            );
        }
    }

    /// Deletes handled messages. Waits first if the previous calls failed. A message that is not deleted would be
    /// delivered again, and would finally move to the dead-letter queue although it was handled.
    async fn delete(&self, receipts: Vec<String>, failures: u32) -> Deletion {
        if failures > 0 {
            sleep(self.backoff(failures)).await;
        }
        let began = Instant::now();
        match self.queue.delete(&receipts).await {
            Ok(failed) => {
                let mut deletion = Deletion::default();
                for (receipt, error) in failed {
                    match error {
                        QueueError::Lost => {}
                        // The receipt is too old. The queue delivers the message again, and it is handled again.
                        QueueError::Broken { .. } => tracing::warn!(%error, "handled message cannot be deleted"),
                        error => {
                            deletion.left.push(receipt);
                            deletion.error.get_or_insert(error);
                        }
                    }
                }
                if deletion.left.is_empty() {
                    self.outages.works(DELETIONS, began);
                }
                deletion
            }
            Err(error) => Deletion { left: receipts, error: Some(error) },
        }
    }

    fn hidden(&self) -> Duration {
        Duration::from_secs(self.options.hidden_seconds)
    }

    fn longest_backoff(&self) -> Duration {
        Duration::from_secs_f64(self.options.backoff_max_seconds)
    }

    /// Returns the wait after the given number of consecutive failures. Half of the wait is random, so that replicas
    /// do not retry at the same time.
    fn backoff(&self, failures: u32) -> Duration {
        let (initial, max) = (self.options.backoff_initial_seconds, self.options.backoff_max_seconds);
        let backoff = Backoff::doubling_seconds(initial, max).with_jitter(0.5, 1.0);
        backoff.wait(failures.saturating_sub(1), fastrand::f64())
    }
}

/// Waits until the current call has ended. Waits forever if there is no current call.
async fn next<T>(under_way: &mut Option<Boxed<'_, T>>) -> T {
    match under_way {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
#[path = "consumer_tests.rs"]
mod tests;
