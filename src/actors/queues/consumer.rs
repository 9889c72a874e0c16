//! Takes messages from a queue, has each handled, and deletes it when it is done.
//!
//! Nothing is received while there is no room for what it brings, nor while what is in hand can't be done because a service
//! is not to be had: such a message stays in hand, hidden, until the service is back. A queue counts each receipt and puts a
//! message aside after a few, so giving it back again and again would lose it for what is not its fault. What *is* its fault
//! is left to the queue: it comes again after a while, and goes to the dead letters in the end.
//!
//! A message whose next receipt would be its last goes back as a copy, with nothing counted against it.

use std::cell::{Cell, RefCell};
use std::collections::HashMap;
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

/// How long what is in hand may take to come to its end when nothing more is to be taken.
const GRACE: Duration = Duration::from_secs(5);

/// What became of a message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MessageOutcome {
    /// It is deleted.
    Done,
    /// It can't be done, and that counts: the queue puts it aside in the end.
    Refused(String),
    /// A service is not to be had. It is tried again, and nothing else is taken meanwhile.
    Outage(String),
    /// Somebody else is at it: given back for so long.
    Later(Duration),
}

/// Does what a message asks. An error is the system's.
#[async_trait(?Send)]
pub trait Handler {
    async fn handle(&self, body: &str) -> Result<MessageOutcome, StageError>;
}

/// What tells whether there is room; `None` where there always is.
pub type Room = Option<watch::Receiver<bool>>;

pub struct Consumer {
    pub queue: Arc<dyn Queue>,
    pub handler: Rc<dyn Handler>,
    pub options: QueueOptions,
    /// Messages in hand at once.
    pub at_once: usize,
    pub room: Room,
    /// Nothing more is to be taken.
    pub stop: watch::Receiver<bool>,
}

/// What a round of the loop came to.
enum Step {
    Received(Result<Vec<Received>, QueueError>),
    /// A message has come to its end; with its receipt where it is to be deleted.
    Finished(Result<Option<String>, StageError>),
    Deleted,
    Look,
}

/// A message that is in hand.
struct ReceivedMessage {
    receives: u32,
    body: Rc<str>,
}

/// What all messages in hand share.
struct Hand {
    held: RefCell<HashMap<String, ReceivedMessage>>,
    /// Those that wait for a service.
    waiting: Cell<usize>,
    /// Receipts after which the queue puts a message aside.
    redrive: Option<u32>,
}

/// Counts a message that waits for a service, as long as it does.
struct Waits<'a>(&'a Cell<usize>);

impl<'a> Waits<'a> {
    fn begin(count: &'a Cell<usize>) -> Self {
        count.set(count.get() + 1);
        Self(count)
    }
}

impl Drop for Waits<'_> {
    fn drop(&mut self) {
        self.0.set(self.0.get().saturating_sub(1));
    }
}

/// Failures of the queue in a row.
#[derive(Default)]
struct Failures {
    in_a_row: u32,
    /// Those, at the end of them, in which the queue could not be used.
    broken: u32,
}

impl Failures {
    /// One that is not to be had is waited for; one that can't be used, for a while: somebody may be changing what we may do.
    fn count(&mut self, error: &QueueError) -> Result<(), StageError> {
        const PATIENCE: u32 = 10;
        self.in_a_row = self.in_a_row.saturating_add(1);
        self.broken = if matches!(error, QueueError::Broken { .. }) { self.broken + 1 } else { 0 };
        if self.broken >= PATIENCE {
            return Err(StageError::system("queue", error.to_string()));
        }
        tracing::warn!(%error, failures = self.in_a_row, "the queue did not answer; it is asked again");
        Ok(())
    }
}

type Boxed<'a, T> = Pin<Box<dyn Future<Output = T> + 'a>>;

impl Consumer {
    /// Runs until it is told to stop, and gives back what is in hand then.
    pub async fn run(&self) -> Result<(), StageError> {
        let hand = Hand { held: RefCell::default(), waiting: Cell::new(0), redrive: self.redrive().await? };
        if hand.redrive.is_none() {
            let (queue, most) = (self.queue.name(), self.options.max_receives);
            tracing::warn!(queue, "it has no dead letters: what can't be done is deleted after {most} receipts");
        }
        let outcome = self.take(&hand).await;
        self.give_all_back(&hand).await;
        outcome
    }

    async fn take(&self, hand: &Hand) -> Result<(), StageError> {
        let (mut room, mut stop) = (self.room.clone(), self.stop.clone());
        let mut working: FuturesUnordered<Boxed<'_, Result<Option<String>, StageError>>> = FuturesUnordered::new();
        let mut receiving: Option<Boxed<'_, Result<Vec<Received>, QueueError>>> = None;
        let mut deleting: Option<Boxed<'_, ()>> = None;
        let mut done: Vec<String> = Vec::new();
        let mut failures = Failures::default();
        let mut stopping: Option<Boxed<'_, ()>> = None;
        loop {
            if *stop.borrow_and_update() && stopping.is_none() {
                receiving = None;
                stopping = Some(Box::pin(sleep(GRACE)));
            }
            if stopping.is_some() && working.is_empty() && done.is_empty() && deleting.is_none() {
                return Ok(());
            }
            let free = self.at_once.saturating_sub(working.len());
            let has_room = room.as_mut().is_none_or(|room| *room.borrow_and_update());
            let may = stopping.is_none() && free > 0 && has_room && hand.waiting.get() == 0;
            if receiving.is_none() && may {
                receiving = Some(Box::pin(self.receive(free, failures.in_a_row)));
            }
            // What has come to its end while the last call was under way goes with the next.
            if deleting.is_none() && !done.is_empty() {
                let receipts = done.drain(..done.len().min(MOST)).collect();
                deleting = Some(Box::pin(self.delete(receipts)));
            }
            let step = tokio::select! {
                Some(finished) = working.next(), if !working.is_empty() => Step::Finished(finished),
                received = next(&mut receiving) => Step::Received(received),
                () = next(&mut deleting) => Step::Deleted,
                () = next(&mut stopping) => return Ok(()),
                changed = changed(&mut room) => match changed {
                    Ok(()) => Step::Look,
                    // Whoever makes room is gone: the run is at its end.
                    Err(_) => return Ok(()),
                },
                // Whoever may stop it is gone.
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
                }
                Step::Finished(finished) => done.extend(finished?),
                Step::Deleted => deleting = None,
                Step::Look => {}
            }
        }
    }

    /// After so many failures in a row it is waited first.
    async fn receive(&self, most: usize, failures: u32) -> Result<Vec<Received>, QueueError> {
        if failures > 0 {
            sleep(self.backoff(failures)).await;
        }
        let (wait, hidden) = (Duration::from_secs(self.options.wait_seconds), self.hidden());
        let received = self.queue.receive(most.min(MOST), wait, hidden).await;
        counter!("docweir_queue_receives_total", "queue" => self.queue.name().to_owned()).increment(1);
        received
    }

    async fn redrive(&self) -> Result<Option<u32>, StageError> {
        let mut failures = Failures::default();
        loop {
            match self.queue.redrive().await {
                Ok(redrive) => return Ok(redrive),
                Err(error) => {
                    failures.count(&error)?;
                    sleep(self.backoff(failures.in_a_row)).await;
                }
            }
        }
    }

    /// A message from its receipt to its end. Returns its receipt where it is to be deleted.
    async fn work(&self, message: Received, hand: &Hand) -> Result<Option<String>, StageError> {
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
            MessageOutcome::Refused(_) => "refused",
            MessageOutcome::Outage(_) | MessageOutcome::Later(_) => "given_back",
        };
        counter!("docweir_queue_messages_total", "queue" => self.queue.name().to_owned(), "outcome" => outcome)
            .increment(1);
        let delete = match handled {
            MessageOutcome::Done => true,
            MessageOutcome::Refused(reason) => self.refuse(receives, &reason, hand),
            MessageOutcome::Later(wait) => self.give_back(&receipt, receives, &body, wait, hand.redrive).await,
            MessageOutcome::Outage(_) => {
                self.give_back(&receipt, receives, &body, self.longest_backoff(), hand.redrive).await
            }
        };
        hand.held.borrow_mut().remove(&receipt);
        Ok(delete.then_some(receipt))
    }

    /// Again and again while a service is not to be had, as long as the message may be held.
    async fn handle(&self, body: &str, hand: &Hand) -> Result<MessageOutcome, StageError> {
        let (since, mut failures) = (Instant::now(), 0);
        loop {
            let outcome = self.handler.handle(body).await?;
            let MessageOutcome::Outage(reason) = &outcome else { return Ok(outcome) };
            failures += 1;
            let wait = self.backoff(failures);
            if since.elapsed() + wait >= Duration::from_secs(self.options.hold_seconds) {
                return Ok(outcome);
            }
            let _waits = Waits::begin(&hand.waiting);
            tracing::warn!(
                queue = self.queue.name(),
                reason,
                wait_seconds = wait.as_secs_f64(),
                "a message waits for a service, and no other is taken"
            );
            sleep(wait).await;
        }
    }

    async fn keep_hidden<T>(&self, receipt: &str) -> T {
        loop {
            sleep(self.hidden() / 3).await;
            match self.queue.hide(receipt, self.hidden()).await {
                Ok(()) => {}
                // What it asks for is done all the same: doing it twice does no harm.
                Err(QueueError::Lost) => tracing::debug!("a message was in hand for too long and is somebody else's"),
                Err(error) => tracing::warn!(%error, "no sign of life could be given for a message"),
            }
        }
    }

    /// Leaves a message to the queue, which counts, until its time is over. Returns whether it is to be deleted instead.
    fn refuse(&self, receives: u32, reason: &str, hand: &Hand) -> bool {
        let queue = self.queue.name();
        if hand.redrive.is_none() && receives >= self.options.max_receives {
            tracing::warn!(
                queue,
                reason,
                receives,
                "a message can't be done and is deleted: there are no dead letters"
            );
            return true;
        }
        tracing::warn!(queue, reason, receives, "a message can't be done and comes again");
        false
    }

    /// Returns whether it is to be deleted, because a copy of it waits in its place.
    async fn give_back(&self, receipt: &str, receives: u32, body: &str, wait: Duration, redrive: Option<u32>) -> bool {
        let last = redrive.is_some_and(|most| receives >= most);
        let given = match last {
            true => self.queue.send(body, wait).await,
            false => self.queue.hide(receipt, wait).await,
        };
        match given {
            Ok(()) => last,
            Err(error) => {
                tracing::debug!(%error, "a message comes again when its time is over");
                false
            }
        }
    }

    /// What is in hand when it is stopped, or fails.
    async fn give_all_back(&self, hand: &Hand) {
        let held: Vec<(String, ReceivedMessage)> = hand.held.borrow_mut().drain().collect();
        let giving = held.into_iter().map(|(receipt, ReceivedMessage { receives, body })| async move {
            if self.give_back(&receipt, receives, &body, Duration::ZERO, hand.redrive).await {
                self.delete(vec![receipt]).await;
            }
        });
        if timeout(GRACE, futures_util::future::join_all(giving)).await.is_err() {
            tracing::warn!(queue = self.queue.name(), "not all messages were given back; they come again");
        }
    }

    async fn delete(&self, receipts: Vec<String>) {
        match self.queue.delete(&receipts).await {
            Ok(failed) => {
                for (_, error) in failed.iter().filter(|(_, error)| *error != QueueError::Lost) {
                    tracing::warn!(%error, "a message that is done was not deleted and comes again");
                }
            }
            Err(error) => tracing::warn!(%error, "messages that are done were not deleted and come again"),
        }
    }

    fn hidden(&self) -> Duration {
        Duration::from_secs(self.options.hidden_seconds)
    }

    fn longest_backoff(&self) -> Duration {
        Duration::from_secs_f64(self.options.backoff_max_seconds)
    }

    /// Returns the wait after so many failures: half of it is random, so that replicas don't come at once.
    fn backoff(&self, failures: u32) -> Duration {
        let (initial, max) = (self.options.backoff_initial_seconds, self.options.backoff_max_seconds);
        let backoff = Backoff::doubling_seconds(initial, max).with_jitter(0.5, 1.0);
        backoff.wait(failures.saturating_sub(1), fastrand::f64())
    }
}

/// What is under way; for ever where nothing is.
async fn next<T>(under_way: &mut Option<Boxed<'_, T>>) -> T {
    match under_way {
        Some(future) => future.await,
        None => std::future::pending().await,
    }
}

async fn changed(room: &mut Room) -> Result<(), watch::error::RecvError> {
    match room {
        Some(room) => room.changed().await,
        None => std::future::pending().await,
    }
}

#[cfg(test)]
#[path = "consumer_tests.rs"]
mod tests;
