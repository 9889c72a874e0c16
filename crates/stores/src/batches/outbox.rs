//! Lists changes of records that other systems do not have yet: rows for the vector store, and outcomes for the
//! tables that records came from.
//!
//! Each change stays listed, with its version, until it is confirmed. The process that applies it may die in between,
//! and a later change stays listed.

use async_trait::async_trait;

use super::{HeldVersion, ItemId, PendingOutcome, Removal, Result, Sent, Space};

/// Lists and confirms changes that the vector store and the users' tables do not have yet.
#[async_trait]
pub trait RecordOutbox: Send + Sync + 'static {
    /// Lists rows that must be removed from the vector store.
    async fn removals(&self, space: &Space, limit: usize) -> Result<Vec<Removal>>;

    /// Records that the vector store holds the tombstones of these removals.
    async fn removed(&self, removals: Vec<Removal>) -> Result<()>;

    /// Lists records whose vector is stored but whose row must be rewritten.
    async fn to_refresh(&self, space: &Space, limit: usize) -> Result<Vec<Sent>>;

    /// Records the outcome of rewriting rows, each for a version. `true`: the row was written. `false`: there is no
    /// vector, so the record must be embedded.
    async fn refreshed(&self, items: Vec<(ItemId, u64, bool)>) -> Result<()>;

    /// Compares a collection with the rows in the vector store. An item whose row is missing or differs is embedded
    /// again. It is called after an earlier snapshot was restored. Returns the number of differences.
    async fn reconcile(&self, space: &Space, held: HeldVersion) -> Result<u64>;

    /// Lists records from tables whose outcome has not been written back yet, without those of the tables in
    /// `except`.
    async fn untold(&self, space: &Space, except: &[String], limit: usize) -> Result<Vec<PendingOutcome>>;

    /// Records that outcomes were written back: items with the marks of those outcomes.
    async fn told(&self, told: Vec<(ItemId, String)>) -> Result<()>;

    /// Deletes records that no longer exist, or have changed, in their tables. Each is deleted only if it still has
    /// the given version. Returns the number of deleted records.
    async fn forget(&self, items: Vec<(ItemId, u64)>) -> Result<u64>;
}
