//! Embeds records at once, without a batch.
//!
//! A live call claims waiting records under a name that begins with `live:`, as a batch does under its id. Its
//! results are recorded by [`BatchResults::made`](super::BatchResults::made).

use async_trait::async_trait;

use super::{ItemId, Result, Sent, Space};

/// Claims records for live calls and records the calls' failures.
#[async_trait]
pub trait LiveCalls: Send + Sync + 'static {
    /// Releases items that an earlier process claimed for live calls and abandoned, so that they are sent again.
    /// Returns their number.
    async fn forget_live(&self) -> Result<u64>;

    /// Returns whether any item of a space waits to be sent.
    async fn is_any_waiting(&self, space: &Space) -> Result<bool>;

    /// Claims waiting records for a live call, the oldest first: at least one, and no more than the limits allow.
    /// Returns the records with their inputs.
    async fn take_live(
        &self,
        name: &str,
        space: &Space,
        limit: usize,
        most_tokens: u64,
        most_bytes: usize,
    ) -> Result<Vec<(Sent, String)>>;

    /// Releases items after a failed live call, so that they are sent again.
    async fn give_back_live(&self, name: &str, items: Vec<ItemId>) -> Result<()>;

    /// Marks a record as failed that the provider refused individually.
    async fn fail_live(&self, name: &str, item: &ItemId, error: &str) -> Result<()>;

    /// Returns, for each item of a live call, whether it is unchanged since it was claimed.
    async fn held_live(&self, name: &str, items: Vec<ItemId>) -> Result<Vec<bool>>;
}
