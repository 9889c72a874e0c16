//! The life of a batch: packed, handed to the provider, watched, cancelled.
//!
//! One process at a time packs and hands over. What comes back, and the end, are in
//! [`BatchResults`](super::BatchResults).

use async_trait::async_trait;

use super::{Batch, Checked, Order, Packed, Request, Result, Space, Waiting};

/// Batches and what is known of each.
#[async_trait]
pub trait BatchLifecycle: Send + Sync + 'static {
    /// Makes this process the one that packs, sends and takes in, under an epoch above that of whoever did so before.
    /// What that one had begun is finished or undone, and what it still writes to a batch is refused.
    async fn take_over(&self, epoch: u64) -> Result<()>;

    /// Counts what waits to be sent, by space.
    async fn waiting(&self) -> Result<Vec<(Space, Waiting)>>;

    /// Takes waiting items of one space into a new batch, the oldest first, with its money reserved.
    async fn pack(&self, order: Order) -> Result<Packed>;

    /// Lists the requests of a batch that is not sent yet, in order, after one.
    async fn requests(&self, batch: &str, after: u64, limit: usize) -> Result<Vec<Request>>;

    /// Records that its file is at the provider.
    async fn uploaded(&self, batch: &str, file: &str) -> Result<()>;

    /// Records that the provider is about to be asked to take it.
    async fn asked(&self, batch: &str) -> Result<()>;

    /// Records that the provider certainly does not have it.
    async fn not_taken(&self, batch: &str) -> Result<()>;

    /// Records that its file is gone at the provider: it is sent anew.
    async fn file_lost(&self, batch: &str) -> Result<()>;

    /// Records that the provider has it, under this name.
    async fn taken_over(&self, batch: &str, provider_id: &str) -> Result<()>;

    /// Records what the provider says of it now.
    async fn checked(&self, batch: &str, checked: Checked) -> Result<()>;

    /// Records that somebody was told that it takes long.
    async fn warned(&self, batch: &str) -> Result<()>;

    /// Asks for it to be cancelled. Returns `false` where it has ended.
    async fn cancel(&self, batch: &str) -> Result<bool>;

    /// Lists batches that have not ended, the oldest first.
    async fn open(&self) -> Result<Vec<Batch>>;

    /// Sums the tokens of batches that have not ended.
    async fn queued_tokens(&self) -> Result<u64>;

    /// Lists batches, the newest first.
    async fn list(&self, limit: usize) -> Result<Vec<Batch>>;

    /// Finds a batch by its id or the provider's.
    async fn batch(&self, id: &str) -> Result<Option<Batch>>;
}
