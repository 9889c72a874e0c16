//! Accesses message queues: SQS, and a queue in memory for tests.
//!
//! A received message is hidden for a while. If the message is not deleted in this time, it is delivered again. Each
//! message is delivered at least once, and messages arrive in any order. The queue counts the deliveries of each
//! message, and may move a message with too many deliveries to a dead-letter queue.

#[cfg(any(test, feature = "testing"))]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "used only in tests")]
pub mod memory;

use std::time::Duration;

use async_trait::async_trait;

/// Maximum number of messages that one call can receive or delete.
pub const MOST: usize = 10;

/// Holds a received message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    pub id: String,
    pub body: String,
    /// Handle of this delivery, used to hide or delete the message.
    pub receipt: String,
    /// Number of deliveries of the message so far, including this delivery.
    pub receives: u32,
}

/// Describes the dead-letter queue of a queue.
#[derive(Clone, Debug, PartialEq, Eq, serde::Serialize)]
pub struct DeadLetters {
    /// Name of the dead-letter queue.
    pub queue: String,
    pub messages: u64,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// The queue is temporarily unavailable; a retry can succeed.
    #[error("queue {queue} is temporarily unavailable: {reason}")]
    Busy { queue: String, reason: String },
    /// Another consumer holds the message now, or the message was deleted.
    #[error("the message was deleted or is held by another consumer")]
    Lost,
    /// The credentials are missing, expired or not allowed to use the queue. A process that has already used the queue
    /// waits until this is repaired.
    #[error("access to queue {queue} is denied: {reason}; {hint}")]
    Denied { queue: String, reason: String, hint: &'static str },
    /// The queue does not exist, or rejects the request.
    #[error("queue {queue} can't be used: {reason}; {hint}")]
    Broken { queue: String, reason: String, hint: &'static str },
}

#[async_trait]
pub trait Queue: Send + Sync + 'static {
    fn name(&self) -> &str;

    /// Returns the number of deliveries after which the queue moves a message to its dead-letter queue, or `None` if
    /// the queue never does this.
    async fn redrive(&self) -> Result<Option<u32>, QueueError>;

    /// Receives up to `most` messages (at most [`MOST`]) and hides them for `hidden`. If no message arrives within
    /// `wait`, the result is empty. If the future is dropped early, messages may stay hidden for `hidden` before they
    /// are delivered again.
    async fn receive(&self, most: usize, wait: Duration, hidden: Duration) -> Result<Vec<Received>, QueueError>;

    /// Hides a message for `hidden` from now on. If `hidden` is zero, the message can be received immediately.
    async fn hide(&self, receipt: &str, hidden: Duration) -> Result<(), QueueError>;

    /// Deletes up to [`MOST`] messages by their receipts. Returns the receipts of messages that could not be deleted,
    /// with the errors; these messages may be delivered again.
    async fn delete(&self, receipts: &[String]) -> Result<Vec<(String, QueueError)>, QueueError>;

    async fn send(&self, body: &str, delay: Duration) -> Result<(), QueueError>;
}
