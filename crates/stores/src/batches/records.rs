//! Puts, deletes and counts the records of collections.
//!
//! Intake and the command line use this trait in any process. [`RecordOutbox`](super::RecordOutbox) handles the
//! records' rows in the vector store.

use async_trait::async_trait;
use docweir_core::model::ModelIdentity;

use super::{Counts, NewItem, Put, Result, Space};

/// Manages records that need a vector.
#[async_trait]
pub trait Records: Send + Sync + 'static {
    /// Returns the maximum number of bytes that the input and the display data of one item may have together. `None`
    /// means no limit.
    fn most_item_bytes(&self) -> Option<usize> {
        None
    }

    /// Puts records. A changed record gets a new version and is sent again. An unchanged record keeps its status,
    /// unless it comes from a user's table. A record from a table is always a request for an embedding. If such a
    /// record is unchanged and has failed, it is sent again. If it is unchanged and done, its outcome is written back
    /// to the table again.
    async fn put(&self, space: &Space, items: Vec<NewItem>) -> Result<Put>;

    /// Deletes records. Returns the number of records deleted.
    async fn delete(&self, space: &Space, keys: Vec<String>) -> Result<u64>;

    /// Removes deleted texts from the log of the store, where they would otherwise stay until the log is overwritten.
    ///
    /// # Errors
    /// Returns [`PaidError::Busy`](crate::paid::PaidError::Busy) if another process is reading or writing.
    async fn purge_log(&self) -> Result<()> {
        Ok(())
    }

    /// Makes failed records wait to be sent again. If `batch` is given, only the records that failed in this batch are
    /// affected. Returns the number of affected records.
    async fn retry(&self, batch: Option<&str>) -> Result<u64>;

    /// Returns whether the record has a vector for this input.
    async fn is_done(&self, collection: &str, key: &str, input: &str) -> Result<bool>;

    /// Counts the items of every space by status.
    async fn counts(&self) -> Result<Vec<Counts>>;

    /// Binds a collection to `model`, unless the collection is already bound to a model. Returns the model to which
    /// the collection is bound now.
    async fn bind(&self, collection: &str, model: &ModelIdentity) -> Result<ModelIdentity>;

    /// Lists all collections that ever held records, with their models.
    async fn collections(&self) -> Result<Vec<(String, ModelIdentity)>>;
}
