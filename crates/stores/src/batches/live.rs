//! Embeds records at once, without a batch.
//!
//! A live call claims waiting records under a name that begins with `live:`, just as a batch claims items under its
//! id. The results of a live call are recorded by [`BatchResults::made`](super::BatchResults::made).

use async_trait::async_trait;

use super::{ItemId, Result, Sent, Space};

/// Claims records for live calls and records the calls' failures.
#[async_trait]
pub trait LiveCalls: Send + Sync + 'static {
    /// Releases items that a process claimed for live calls before the process died. The released items are sent
    /// again. Returns the number of released items.
    async fn forget_live(&self) -> Result<u64>;

    /// Returns whether any item of a space waits to be sent.
    async fn is_any_waiting(&self, space: &Space) -> Result<bool>;

    /// Claims waiting records for a live call, the oldest first, as many as the limits allow. The first record is
    /// claimed even if it alone exceeds `most_tokens` or `most_bytes`. Returns the records with their inputs.
    async fn take_live(
        &self,
        name: &str,
        space: &Space,
        limit: usize,
        most_tokens: u64,
        most_bytes: usize,
    ) -> Result<Vec<(Sent, String)>>;

    /// Releases the items of a failed live call, so that these items are sent again.
    async fn give_back_live(&self, name: &str, items: Vec<ItemId>) -> Result<()>;

    /// Handles a record of a live call that could not be embedded. The record waits to be sent again if it has had fewer
    /// than `most_attempts` attempts. Otherwise it is marked as failed. Returns whether the record has failed.
    async fn fail_live(&self, name: &str, item: &ItemId, error: &str, most_attempts: u32) -> Result<bool>;

    /// Returns, for each of the items of a live call, whether the item is unchanged since the call claimed it.
    async fn held_live(&self, name: &str, items: Vec<ItemId>) -> Result<Vec<bool>>;
}
