//! Records the results and the end of a batch.
//!
//! A result is matched to its item by the item's key, the batch and the hash of the sent text. If one of these values
//! does not match, the result is stale. Each call may be repeated; a repeated call changes nothing.

use async_trait::async_trait;

use super::{Ending, Refusal, Result, Sent, StoredVector};

/// Records results of a batch's items.
#[async_trait]
pub trait BatchResults: Send + Sync + 'static {
    /// Finds, for each key in a batch's results, the item that was sent with this key. Returns `None` for a key whose
    /// result is stale or was already recorded.
    async fn sent(&self, batch: &str, keys: Vec<String>) -> Result<Vec<Option<Sent>>>;

    /// Marks items as done, because their vectors are stored. `batch` is the id of a batch or the name of a live call.
    async fn made(&self, batch: &str, made: Vec<StoredVector>) -> Result<()>;

    /// Handles items that the provider refused. An item waits to be sent again if the refusal allows this and the item
    /// has had fewer than `most_attempts` attempts. Otherwise the item is marked as failed.
    async fn refused(&self, batch: &str, refusals: Vec<Refusal>, most_attempts: u32) -> Result<()>;

    /// Ends a batch and settles its money. An item without an answer waits to be sent again if the item has had fewer
    /// than [`Ending::most_attempts`] attempts. Otherwise the item is marked as failed.
    async fn end(&self, batch: &str, ending: Ending) -> Result<()>;
}
