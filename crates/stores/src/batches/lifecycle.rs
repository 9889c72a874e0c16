//! Manages the life of a batch: packing, submission, polling, cancellation.
//!
//! One process at a time packs and submits batches. The results and the end of a batch are recorded through
//! [`BatchResults`](super::BatchResults).

use async_trait::async_trait;

use super::{Batch, Checked, Order, Packed, Request, Result, Space, Waiting};

/// Records the steps of a batch's submission and its status at the provider.
#[async_trait]
pub trait BatchLifecycle: Send + Sync + 'static {
    /// Makes this process the leader for batches. `epoch` must be higher than the epoch of the previous leader. Steps
    /// that the previous leader began are finished or undone, and late writes of the previous leader to batches are
    /// refused.
    async fn take_over(&self, epoch: u64) -> Result<()>;

    /// Counts the waiting items of each space.
    async fn waiting(&self) -> Result<Vec<(Space, Waiting)>>;

    /// Packs waiting items of one space into a new batch, the oldest first, and reserves the money for the batch.
    async fn pack(&self, order: Order) -> Result<Packed>;

    /// Lists requests of a batch that has not been submitted yet. The list is in order, begins after position `after`,
    /// and contains at most `limit` requests.
    async fn requests(&self, batch: &str, after: u64, limit: usize) -> Result<Vec<Request>>;

    /// Records that the batch's file was uploaded to the provider.
    async fn uploaded(&self, batch: &str, file: &str) -> Result<()>;

    /// Records that this process is about to ask the provider to create the batch.
    async fn asked(&self, batch: &str) -> Result<()>;

    /// Records that the provider certainly did not create the batch.
    async fn not_taken(&self, batch: &str) -> Result<()>;

    /// Records that the provider did not confirm the creation of the batch, and does not list the batch. The batch will be
    /// created again, although it may still appear at the provider.
    async fn unconfirmed(&self, batch: &str) -> Result<()>;

    /// Records all duplicates of the batch at the provider whose cost is in the ledger.
    async fn twins(&self, batch: &str, ids: &[String]) -> Result<()>;

    /// Records that the provider has lost the batch's file. The file will be uploaded again.
    async fn file_lost(&self, batch: &str) -> Result<()>;

    /// Records that the provider created the batch, and the id that the provider gave to the batch.
    async fn taken_over(&self, batch: &str, provider_id: &str) -> Result<()>;

    /// Records the provider's latest status of the batch.
    async fn checked(&self, batch: &str, checked: Checked) -> Result<()>;

    /// Records that a warning about the batch's long duration was issued.
    async fn warned(&self, batch: &str) -> Result<()>;

    /// Requests cancellation of the batch. Returns `false` if the batch has already ended.
    async fn cancel(&self, batch: &str) -> Result<bool>;

    /// Lists batches that have not ended, the oldest first.
    async fn open(&self) -> Result<Vec<Batch>>;

    /// Returns the number of tokens in batches that have not ended.
    async fn queued_tokens(&self) -> Result<u64>;

    /// Lists at most `limit` batches, the newest first.
    async fn list(&self, limit: usize) -> Result<Vec<Batch>>;

    /// Finds a batch by its own id or by the provider's id.
    async fn batch(&self, id: &str) -> Result<Option<Batch>>;
}
