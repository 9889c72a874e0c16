//! Accesses message queues: SQS, and a queue in memory for tests.
//!
//! A received message is hidden for a while and is delivered again unless it is deleted. Delivery is at least once,
//! in any order. The queue counts the deliveries of a message, and may move a message with too many to a dead-letter
//! queue.

#[cfg(any(test, feature = "testing"))]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "it is for tests")]
pub mod memory;

use std::time::Duration;

use async_trait::async_trait;

/// Maximum number of messages per call.
pub const MOST: usize = 10;

/// Holds a received message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    pub id: String,
    pub body: String,
    /// Handle of this delivery, used to hide or delete the message.
    pub receipt: String,
    /// Number of deliveries so far, including this one.
    pub receives: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// The queue is temporarily unavailable; a retry can succeed.
    #[error("queue {queue} is temporarily unavailable: {reason}")]
    Busy { queue: String, reason: String },
    /// Another consumer has the message now, or the message is deleted.
    #[error("the message was deleted or is held by another consumer")]
    Lost,
    /// The queue does not exist, or access is denied.
    #[error("queue {queue} can't be used: {reason}; {hint}")]
    Broken { queue: String, reason: String, hint: &'static str },
}

#[async_trait]
pub trait Queue: Send + Sync + 'static {
    fn name(&self) -> &str;

    /// Returns the number of deliveries after which the queue moves a message to its dead letters; `None` means
    /// never.
    async fn redrive(&self) -> Result<Option<u32>, QueueError>;

    /// Receives up to `most` messages (at most [`MOST`]) and hides them for `hidden`. Returns no messages if none
    /// arrive within `wait`. If the future is dropped early, messages may stay hidden for that time before they are
    /// delivered again.
    async fn receive(&self, most: usize, wait: Duration, hidden: Duration) -> Result<Vec<Received>, QueueError>;

    /// Hides a message for `hidden` from now on. With zero, the message can be received at once.
    async fn hide(&self, receipt: &str, hidden: Duration) -> Result<(), QueueError>;

    /// Deletes up to [`MOST`] messages. Returns those that could not be deleted; they will be delivered again.
    async fn delete(&self, receipts: &[String]) -> Result<Vec<(String, QueueError)>, QueueError>;

    async fn send(&self, body: &str, delay: Duration) -> Result<(), QueueError>;
}
