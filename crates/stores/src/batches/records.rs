//! Records of collections: putting, deleting and looking them up.
//!
//! For intake and the command line, on any process. What becomes of their rows in the vector store is the concern of
//! [`RecordOutbox`](super::RecordOutbox).

use async_trait::async_trait;
use docweir_core::model::ModelIdentity;

use super::{Counts, NewItem, Put, Result, Space};

/// Records that a vector is wanted for.
#[async_trait]
pub trait Records: Send + Sync + 'static {
    /// Returns the size of the largest item that the store takes, in bytes of its input and of what is found of it;
    /// `None` without a limit.
    fn most_item_bytes(&self) -> Option<usize> {
        None
    }

    /// Puts records. One that is known and the same stays as it is, whatever its status; one that has changed gets a
    /// new version and is to be sent again. One from a table, which asks for it to be embedded, is to be sent again if it
    /// had failed; if it is done, its table is to be told again.
    async fn put(&self, space: &Space, items: Vec<NewItem>) -> Result<Put>;

    /// Deletes records; returns how many there were.
    async fn delete(&self, space: &Space, keys: Vec<String>) -> Result<u64>;

    /// Sends failed records again: those of one batch, or all. Returns how many they are.
    async fn retry(&self, batch: Option<&str>) -> Result<u64>;

    /// Returns whether a record with this input has its vector.
    async fn is_done(&self, collection: &str, key: &str, input: &str) -> Result<bool>;

    /// Counts every space's items by status.
    async fn counts(&self) -> Result<Vec<Counts>>;

    /// Binds a collection's records to a model; returns the model that it is bound to, which may be another.
    async fn bind(&self, collection: &str, model: &ModelIdentity) -> Result<ModelIdentity>;

    /// Lists collections that records were ever put into, and the models that they are bound to.
    async fn collections(&self) -> Result<Vec<(String, ModelIdentity)>>;
}
