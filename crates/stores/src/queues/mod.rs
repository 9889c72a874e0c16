//! Queues of messages: SQS, memory for tests.
//!
//! A message that is received is hidden for a while, and comes again unless it is deleted: at least once, in any order. The
//! queue counts how often, and may put one that came too often aside, among its dead letters.

#[cfg(any(test, feature = "testing"))]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "it is for tests")]
pub mod memory;

use std::time::Duration;

use async_trait::async_trait;

/// Most messages of one call.
pub const MOST: usize = 10;

/// A message in hand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Received {
    pub id: String,
    pub body: String,
    /// What it is hidden and deleted by, this time.
    pub receipt: String,
    /// Times that it was received, this one included.
    pub receives: u32,
}

#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum QueueError {
    /// May pass by itself.
    #[error("the queue {queue} is not to be had just now: {reason}")]
    Busy { queue: String, reason: String },
    /// Somebody else has the message now, or it is deleted.
    #[error("the message is in nobody's hands, or in somebody else's")]
    Lost,
    /// No such queue, or not for us.
    #[error("the queue {queue} can't be used: {reason}; {hint}")]
    Broken { queue: String, reason: String, hint: &'static str },
}

#[async_trait]
pub trait Queue: Send + Sync + 'static {
    fn name(&self) -> &str;

    /// Receipts after which the queue puts a message among its dead letters; `None` where it never does.
    async fn redrive(&self) -> Result<Option<u32>, QueueError>;

    /// Up to `most` messages (of [`MOST`]), hidden from others for so long; none where none came within `wait`. Whoever drops
    /// it half-way may leave messages hidden, which come again.
    async fn receive(&self, most: usize, wait: Duration, hidden: Duration) -> Result<Vec<Received>, QueueError>;

    /// Hides a message for so long from now on; for no time, it can be received at once.
    async fn hide(&self, receipt: &str, hidden: Duration) -> Result<(), QueueError>;

    /// Deletes up to [`MOST`] messages. Those that could not be deleted come again, and are told.
    async fn delete(&self, receipts: &[String]) -> Result<Vec<(String, QueueError)>, QueueError>;

    async fn send(&self, body: &str, delay: Duration) -> Result<(), QueueError>;
}
