//! What is owed to others because of a record: rows to the vector store, answers to the tables that records came from.
//!
//! Each is listed until it is said to be done, with the version that was meant: whoever does it may die in between, and
//! what has changed meanwhile stays listed.

use async_trait::async_trait;

use super::{HeldVersion, ItemId, Owed, Removal, Result, Sent, Space};

/// Changes of records that the vector store and the tables of the user's do not have yet.
#[async_trait]
pub trait RecordOutbox: Send + Sync + 'static {
    /// Lists rows that have to leave the vector store.
    async fn removals(&self, space: &Space, limit: usize) -> Result<Vec<Removal>>;

    /// Records that the vector store holds the tombstones of removals.
    async fn removed(&self, removals: Vec<Removal>) -> Result<()>;

    /// Lists records whose vector is stored and whose row is to be written anew.
    async fn to_refresh(&self, space: &Space, limit: usize) -> Result<Vec<Sent>>;

    /// Records that rows of these versions are written anew (`true`); or that there is no vector after all, and they
    /// are to be embedded (`false`).
    async fn refreshed(&self, items: Vec<(ItemId, u64, bool)>) -> Result<()>;

    /// Compares a collection with what the vector store says that it holds of it: an item whose row it does not hold is
    /// to be embedded again. For after an earlier snapshot was restored. Returns how many differ.
    async fn reconcile(&self, space: &Space, held: HeldVersion) -> Result<u64>;

    /// Lists records that came from tables and whose tables have not been told what became of them; without those of
    /// the tables in `except`.
    async fn untold(&self, space: &Space, except: &[String], limit: usize) -> Result<Vec<Owed>>;

    /// Records that tables were told: items with the marks of what that was.
    async fn told(&self, told: Vec<(ItemId, String)>) -> Result<()>;

    /// Deletes records that their tables have no more, or not as they were taken in: each if it still is of its
    /// version. Returns how many were.
    async fn forget(&self, items: Vec<(ItemId, u64)>) -> Result<u64>;
}
