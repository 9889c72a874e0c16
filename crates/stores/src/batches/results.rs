//! What comes back of a batch, and its end.
//!
//! A result finds its item by key, batch and the hash of what was sent; where one of them does not fit it is stale. Each
//! call may be repeated: done again it changes nothing.

use async_trait::async_trait;

use super::{Ending, Made, Refusal, Result, Sent};

/// Results of a batch's items.
#[async_trait]
pub trait BatchResults: Send + Sync + 'static {
    /// Finds, for keys in a batch's answer, the items that are still what was sent: `None` is stale, or was answered
    /// before.
    async fn sent(&self, batch: &str, keys: Vec<String>) -> Result<Vec<Option<Sent>>>;

    /// Records that vectors are kept: their items are done. `batch` may be the name of a live call.
    async fn made(&self, batch: &str, made: Vec<Made>) -> Result<()>;

    /// Sends items that were refused again, or marks them as failed.
    async fn refused(&self, batch: &str, refusals: Vec<Refusal>, most_attempts: u32) -> Result<()>;

    /// Marks items as failed whose lines of the batch's file, from 1, the provider names as wrong. Returns how many
    /// they are.
    async fn blame(&self, batch: &str, lines: &[u64], error: &str) -> Result<u64>;

    /// Ends a batch: items without an answer go back or have failed, the money is settled.
    async fn end(&self, batch: &str, ending: Ending) -> Result<()>;
}
