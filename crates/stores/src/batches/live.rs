//! Records that are embedded at once, without a batch.
//!
//! A live call takes waiting records under a name that begins with `live:`, as a batch does under its id. Its results come in
//! by [`BatchResults::made`](super::BatchResults::made).

use async_trait::async_trait;

use super::{ItemId, Result, Sent, Space};

/// Live calls for records.
#[async_trait]
pub trait LiveCalls: Send + Sync + 'static {
    /// Sends items again that an earlier process took for live calls and left behind. Returns how many they are.
    async fn forget_live(&self) -> Result<u64>;

    /// Returns whether any item of a space waits to be sent.
    async fn is_any_waiting(&self, space: &Space) -> Result<bool>;

    /// Takes waiting records for a live call, the oldest first: one at least, and no more than the limits allow.
    /// Returns them with their inputs.
    async fn take_live(
        &self,
        name: &str,
        space: &Space,
        limit: usize,
        most_tokens: u64,
        most_bytes: usize,
    ) -> Result<Vec<(Sent, String)>>;

    /// Gives back what a live call had taken that came to nothing: it is to be sent again.
    async fn give_back_live(&self, name: &str, items: Vec<ItemId>) -> Result<()>;

    /// Marks a record as failed that was refused by itself.
    async fn fail_live(&self, name: &str, item: &ItemId, error: &str) -> Result<()>;

    /// Returns, of items that a live call took, whether each still is what was taken.
    async fn held_live(&self, name: &str, items: Vec<ItemId>) -> Result<Vec<bool>>;
}
