//! Implements message queues with Amazon SQS.

use std::time::Duration;

use async_trait::async_trait;
use docweir_aws::sqs::{self, Sqs};
use docweir_aws::{Fault, FaultKind};

use docweir_stores::queues::{Queue, QueueError, Received};

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
