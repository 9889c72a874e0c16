//! Implements message queues with Amazon SQS.

use std::time::Duration;

use async_trait::async_trait;
use docweir_aws::sqs::{self, Sqs};
use docweir_aws::{Fault, FaultKind};

use docweir_stores::queues::{DeadLetters, Queue, QueueError, Received};

pub struct SqsQueue(sqs::Queue);

impl SqsQueue {
    /// Opens a queue by its URL, or by its name in this account. Fails if the queue does not exist.
    pub async fn open(sqs: &Sqs, queue: &str) -> Result<Self, QueueError> {
        if queue.starts_with("http") {
            let opened = Self(sqs.at(queue));
            // A missing queue must be reported before anything starts.
            return opened.redrive().await.map(|_| opened);
        }
        match sqs.find(queue).await {
            Ok(Some(found)) => Ok(Self(found)),
            Ok(None) => Err(missing(queue, "no queue has this name".into())),
            Err(fault) => Err(told(queue, fault)),
        }
    }

    fn told(&self, fault: Fault) -> QueueError {
        told(self.name(), fault)
    }
}

/// Counts the messages in the dead-letter queue of `queue`. Returns `None` if there is no dead-letter queue.
pub async fn dead_letters(sqs: &Sqs, queue: &str) -> Result<Option<DeadLetters>, QueueError> {
    let Some((_, dead)) = with_dead_letters(sqs, queue).await? else { return Ok(None) };
    let state = dead.state().await.map_err(|fault| told(dead.name(), fault))?;
    let messages = state.map_or(0, |state| state.waiting + state.hidden);
    Ok(Some(DeadLetters { queue: dead.name().to_owned(), messages }))
}

/// Moves the messages that are in the dead-letter queue of `queue` now back to it. Returns their number. Messages that fail
/// again meanwhile are not moved twice, because receiving ends when as many messages were moved as there were. Fails if
/// `queue` has no dead-letter queue.
pub async fn redrive(sqs: &Sqs, queue: &str) -> Result<u64, QueueError> {
    const HIDDEN: Duration = Duration::from_secs(60);
    let Some((queue, dead)) = with_dead_letters(sqs, queue).await? else {
        let (queue, reason) = (queue.to_owned(), "it has no dead-letter queue".to_owned());
        return Err(QueueError::Broken { queue, reason, hint: "create one with `docweir infra apply`" });
    };
    let state = dead.state().await.map_err(|fault| told(dead.name(), fault))?;
    let (most, mut moved) = (state.map_or(0, |state| state.waiting + state.hidden), 0);
    loop {
        // The number of messages is approximate, and may be 0 although there are some.
        let messages = dead.receive(sqs::MOST, Duration::from_secs(1), HIDDEN).await;
        let messages = messages.map_err(|fault| told(dead.name(), fault))?;
        if messages.is_empty() {
            return Ok(moved);
        }
        for message in messages {
            queue.send(&message.body, Duration::ZERO).await.map_err(|fault| told(queue.name(), fault))?;
            let failed = dead.delete(&[message.receipt]).await.map_err(|fault| told(dead.name(), fault))?;
            if let Some((_, fault)) = failed.into_iter().next() {
                return Err(told(dead.name(), fault));
            }
            moved += 1;
        }
        if moved >= most {
            return Ok(moved);
        }
    }
}

/// Returns a queue and its dead-letter queue.
async fn with_dead_letters(sqs: &Sqs, queue: &str) -> Result<Option<(sqs::Queue, sqs::Queue)>, QueueError> {
    let SqsQueue(found) = SqsQueue::open(sqs, queue).await?;
    let state = found.state().await.map_err(|fault| told(queue, fault))?;
    let Some(redrive) = state.and_then(|state| state.redrive) else { return Ok(None) };
    let dead = sqs.dead_letters(&redrive).await.map_err(|fault| told(redrive.name(), fault))?;
    Ok(dead.map(|dead| (found, dead)))
}

fn missing(queue: &str, reason: String) -> QueueError {
    QueueError::Broken { queue: queue.to_owned(), reason, hint: "create the queue with `docweir infra apply`" }
}

fn told(queue: &str, fault: Fault) -> QueueError {
    let (queue, reason) = (queue.to_owned(), fault.to_string());
    match fault.kind {
        FaultKind::Condition => QueueError::Lost,
        FaultKind::NotFound => missing(&queue, reason),
        FaultKind::Denied => {
            let hint = "check the credentials and their permissions on the queue";
            QueueError::Denied { queue, reason, hint }
        }
        FaultKind::Invalid => QueueError::Broken { queue, reason, hint: "report this with the log" },
        FaultKind::Conflict | FaultKind::Throttled | FaultKind::Unreachable | FaultKind::Unknown => {
            QueueError::Busy { queue, reason }
        }
    }
}

#[async_trait]
impl Queue for SqsQueue {
    fn name(&self) -> &str {
        self.0.name()
    }

    async fn redrive(&self) -> Result<Option<u32>, QueueError> {
        match self.0.state().await {
            Ok(Some(state)) => Ok(state.redrive.map(|redrive| redrive.receives)),
            Ok(None) => Err(missing(self.name(), "no queue has this URL".into())),
            Err(fault) => Err(self.told(fault)),
        }
    }

    async fn receive(&self, most: usize, wait: Duration, hidden: Duration) -> Result<Vec<Received>, QueueError> {
        let received = self.0.receive(most, wait, hidden).await.map_err(|fault| self.told(fault))?;
        let message = |m: sqs::Message| Received { id: m.id, body: m.body, receipt: m.receipt, receives: m.receives };
        Ok(received.into_iter().map(message).collect())
    }

    async fn hide(&self, receipt: &str, hidden: Duration) -> Result<(), QueueError> {
        self.0.hide(receipt, hidden).await.map_err(|fault| self.told(fault))
    }

    async fn delete(&self, receipts: &[String]) -> Result<Vec<(String, QueueError)>, QueueError> {
        let failed = self.0.delete(receipts).await.map_err(|fault| self.told(fault))?;
        Ok(failed.into_iter().map(|(receipt, fault)| (receipt, self.told(fault))).collect())
    }

    async fn send(&self, body: &str, delay: Duration) -> Result<(), QueueError> {
        self.0.send(body, delay).await.map_err(|fault| self.told(fault))
    }
}
