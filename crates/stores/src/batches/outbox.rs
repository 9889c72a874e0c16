//! Lists changes that are not yet in the vector store or in the users' tables. The vector store must get the changed
//! rows of records; each user's table must get the outcomes of its records.
//!
//! Each change stays listed, with its version, until that version is confirmed. A change is therefore not lost if the
//! process that applies the change dies, or if the record changes again before the confirmation.

use async_trait::async_trait;

use super::{HeldVersion, ItemId, PendingOutcome, Removal, Result, Sent, Space};

/// Lists the changes that are not yet in the vector store or the users' tables, and marks a change as done once it is
/// there.
#[async_trait]
pub trait RecordOutbox: Send + Sync + 'static {
    /// Lists rows that must be removed from the vector store.
    async fn removals(&self, space: &Space, limit: usize) -> Result<Vec<Removal>>;

    /// Marks `removals` as done. Call this once the vector store holds a tombstone for each removed row.
    async fn removed(&self, removals: Vec<Removal>) -> Result<()>;

    /// Lists records whose display data have changed but whose text has not. The rows of these records in the vector
    /// store must be rewritten with the vectors that the vector store already holds.
    async fn to_refresh(&self, space: &Space, limit: usize) -> Result<Vec<Sent>>;

    /// Records the outcome of rewriting rows. Each tuple holds an item, its version and whether the row was written.
    /// If the row was not written, the vector is missing and the record must be embedded.
    async fn refreshed(&self, items: Vec<(ItemId, u64, bool)>) -> Result<()>;

    /// Compares each item of a collection with the item's row in the vector store. If the row is missing or has
    /// another version, the item is embedded again. Call this after the vector store was rolled back to an earlier
    /// version. Returns the number of differences.
    async fn reconcile(&self, space: &Space, held: HeldVersion) -> Result<u64>;

    /// Lists outcomes that have not been written back to the users' tables yet. Outcomes for the tables in `except`
    /// are omitted.
    async fn untold(&self, space: &Space, except: &[String], limit: usize) -> Result<Vec<PendingOutcome>>;

    /// Marks outcomes as written back to the users' tables. Each tuple holds an item and the `mark` of the outcome
    /// that was written for this item.
    async fn told(&self, told: Vec<(ItemId, String)>) -> Result<()>;

    /// Deletes records, because the users' tables no longer contain them or contain them in a changed form. Each tuple
    /// holds a record and a version. The record is deleted only if it still has this version. Returns the number of
    /// deleted records.
    async fn forget(&self, items: Vec<(ItemId, u64)>) -> Result<u64>;
}
