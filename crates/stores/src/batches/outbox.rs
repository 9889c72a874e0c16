//! Lists changes of records that other systems do not have yet: rows for the vector store, and outcomes for the
//! tables that records came from.
//!
//! Each change stays listed, with its version, until that version is confirmed. No change is lost if the process that
//! applies it dies, or if a record changes again in between.

use async_trait::async_trait;

use super::{HeldVersion, ItemId, PendingOutcome, Removal, Result, Sent, Space};

/// Lists and confirms changes that the vector store and the users' tables do not have yet.
#[async_trait]
pub trait RecordOutbox: Send + Sync + 'static {
    /// Lists rows that must be removed from the vector store.
    async fn removals(&self, space: &Space, limit: usize) -> Result<Vec<Removal>>;

    /// Confirms that the vector store holds the tombstones of these removals.
    async fn removed(&self, removals: Vec<Removal>) -> Result<()>;

    /// Lists records whose display data have changed but whose text has not. Their rows in the vector store must be
    /// rewritten with the vectors that are already stored.
    async fn to_refresh(&self, space: &Space, limit: usize) -> Result<Vec<Sent>>;

    /// Records the outcome of rewriting rows. Each tuple holds an item, its version and whether the row was written.
    /// If the row was not written, the vector is missing and the record must be embedded.
    async fn refreshed(&self, items: Vec<(ItemId, u64, bool)>) -> Result<()>;

    /// Compares a collection with the rows in the vector store. An item whose row is missing or has another version is
    /// embedded again. Call this after the vector store was rolled back to an earlier version. Returns the number of
    /// differences.
    async fn reconcile(&self, space: &Space, held: HeldVersion) -> Result<u64>;

    /// Lists records whose outcome has not been written back to their table yet. Records of the tables in `except` are
    /// omitted.
    async fn untold(&self, space: &Space, except: &[String], limit: usize) -> Result<Vec<PendingOutcome>>;

    /// Confirms that outcomes were written back to the tables. Each outcome is given by its item and its `mark`.
    async fn told(&self, told: Vec<(ItemId, String)>) -> Result<()>;

    /// Deletes records that no longer exist in their tables or have changed there. A record is deleted only if it
    /// still has the given version. Returns the number of deleted records.
    async fn forget(&self, items: Vec<(ItemId, u64)>) -> Result<u64>;
}
