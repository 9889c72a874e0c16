//! Stores items and batches in DynamoDB, for any number of processes.
//!
//! All processes enqueue items and read results. One process at a time, the leader, packs and sends batches and
//! imports their results. The leader holds a lease, and every write to a batch's record is conditional on the epoch
//! of this lease.
//!
//! # Table
//! One table holds all data of this module. Each item is written on its own, on condition that it is unchanged since
//! it was read.
//!
//! | `pk` | `sk` | content |
//! | --- | --- | --- |
//! | `record#COLLECTION#KEY` | `item` | a record |
//! | `text#SPACE#DOCUMENT` | the text's hash | a text of a document |
//! | `document#DOCUMENT` | `waits` | a marker that the document waits for texts |
//! | `batch#ID` | `record` | a batch |
//! | `provider#ID` | `batch` | the batch that has this id at the provider |
//! | `collections`, `spaces` | a name | collections and their models; spaces that have items |
//!
//! A space is a set of items with one purpose: either all texts of documents for one model, or all records of one
//! collection.
//!
//! The table has two indexes. [`item::WORK_INDEX`] lists the work that is due. This index does not contain finished
//! items, so finished items add nothing to its cost. [`item::LIST_INDEX`] lists items by status, for counts. The
//! indexes lag slightly. Items that an index lists are therefore read again before they are used, and each process
//! remembers the items that it wrote recently.
//!
//! # Layout
//! - [`item`] – an item and its keys in the indexes
//! - `apply`: applies the shared rules to an item
//! - `store`: reads, decides and writes
//! - `records`, `documents`: items of records and of documents
//! - `packing`, `lifecycle`, `record`, `requests`: batches
//! - `harvest`: results of a batch, and its end
//! - `tables`: records that came from users' tables

mod apply;
mod documents;
mod harvest;
pub mod item;
mod lifecycle;
mod packing;
mod record;
mod records;
mod requests;
mod store;
mod tables;

#[cfg(test)]
mod tests;

use async_trait::async_trait;
use docweir_aws::dynamo::table::{Index, Key, Table};

pub use store::DynamoBatches;

use docweir_aws::DynamoOptions;
use docweir_core::documents::Sha256Hex;
use docweir_core::model::ModelIdentity;
use docweir_stores::batches::rules::batch::Event;
use docweir_stores::batches::*;
use item::{AT, FORGET_AT, LIST, LIST_INDEX, WORK, WORK_INDEX};
use store::StoreResult;

/// Describes the table of items and batches.
pub fn table(options: &DynamoOptions) -> Table {
    let key = |hash, range| Key { hash, range: Some(range) };
    Table {
        name: options.batches_table.clone(),
        key: key("pk", "sk"),
        indexes: vec![
            Index { name: WORK_INDEX, key: key(WORK, AT), holds: &["space", "tokens"] },
            Index { name: LIST_INDEX, key: key(LIST, AT), holds: &[] },
        ],
        expires: Some(FORGET_AT),
    }
}

/// Maximum size of an item, in bytes. This is DynamoDB's limit of 400 KB minus space for key, hash and history.
const MOST_ITEM_BYTES: usize = 380_000;

#[async_trait]
impl Records for DynamoBatches {
    fn most_item_bytes(&self) -> Option<usize> {
        Some(MOST_ITEM_BYTES)
    }

    async fn put(&self, space: &Space, items: Vec<NewItem>) -> StoreResult<Put> {
        self.put_records(space, items).await
    }

    async fn delete(&self, space: &Space, keys: Vec<String>) -> StoreResult<u64> {
        self.delete_records(space, keys).await
    }

    async fn retry(&self, batch: Option<&str>) -> StoreResult<u64> {
        self.retry_failed(batch).await
    }

    async fn is_done(&self, collection: &str, key: &str, input: &str) -> StoreResult<bool> {
        self.has_vector(collection, key, input).await
    }

    async fn counts(&self) -> StoreResult<Vec<Counts>> {
        self.counts_by_space().await
    }

    async fn bind(&self, collection: &str, model: &ModelIdentity) -> StoreResult<ModelIdentity> {
        self.bind_model(collection, model).await
    }

    async fn collections(&self) -> StoreResult<Vec<(String, ModelIdentity)>> {
        self.bound_collections().await
    }
}

#[async_trait]
impl RecordOutbox for DynamoBatches {
    async fn removals(&self, space: &Space, limit: usize) -> StoreResult<Vec<Removal>> {
        self.rows_to_remove(space, limit).await
    }

    async fn removed(&self, removals: Vec<Removal>) -> StoreResult<()> {
        self.rows_removed(removals).await
    }

    async fn to_refresh(&self, space: &Space, limit: usize) -> StoreResult<Vec<Sent>> {
        self.rows_to_refresh(space, limit).await
    }

    async fn refreshed(&self, items: Vec<(ItemId, u64, bool)>) -> StoreResult<()> {
        self.rows_refreshed(items).await
    }

    async fn reconcile(&self, space: &Space, held: HeldVersion) -> StoreResult<u64> {
        self.reconcile_with(space, held).await
    }

    async fn untold(&self, space: &Space, except: &[String], limit: usize) -> StoreResult<Vec<PendingOutcome>> {
        self.owed_to_tables(space, except, limit).await
    }

    async fn told(&self, told: Vec<(ItemId, String)>) -> StoreResult<()> {
        self.tables_were_told(told).await
    }

    async fn forget(&self, items: Vec<(ItemId, u64)>) -> StoreResult<u64> {
        self.forget_versions(items).await
    }
}

#[async_trait]
impl DocumentTexts for DynamoBatches {
    async fn ask(&self, document: &str, space: &Space, texts: Vec<Text>) -> StoreResult<TextLookup> {
        self.ask_for(document, space, texts).await
    }

    async fn taken(&self, document: &str) -> StoreResult<()> {
        self.has_taken(document).await
    }

    async fn made_live(&self, document: &str, space: &Space, made: Vec<(Sha256Hex, Vec<f32>)>) -> StoreResult<()> {
        self.keep_live(document, space, made).await
    }

    async fn documents_of_other_models(&self, space: Option<&Space>, limit: usize) -> StoreResult<Vec<String>> {
        self.of_other_models(space, limit).await
    }

    async fn ready(&self, after: &str, limit: usize) -> StoreResult<Vec<String>> {
        self.may_go_on(after, limit).await
    }

    async fn is_waiting(&self, document: &str) -> StoreResult<bool> {
        self.waits(document).await
    }

    async fn send_live(&self, space: &Space) -> StoreResult<u64> {
        self.send_documents_live(space).await
    }
}

#[async_trait]
impl BatchLifecycle for DynamoBatches {
    async fn take_over(&self, epoch: u64) -> StoreResult<()> {
        self.taken_over_by(epoch).await
    }

    async fn waiting(&self) -> StoreResult<Vec<(Space, Waiting)>> {
        self.waiting_by_space().await
    }

    async fn pack(&self, order: Order) -> StoreResult<Packed> {
        self.pack_batch(order).await
    }

    async fn requests(&self, batch: &str, after: u64, limit: usize) -> StoreResult<Vec<Request>> {
        self.requests_of(batch, after, limit).await
    }

    async fn uploaded(&self, batch: &str, file: &str) -> StoreResult<()> {
        self.happened(batch, &Event::Uploaded { file }).await
    }

    async fn asked(&self, batch: &str) -> StoreResult<()> {
        self.happened(batch, &Event::Asked).await
    }

    async fn not_taken(&self, batch: &str) -> StoreResult<()> {
        self.happened(batch, &Event::NotTaken).await
    }

    async fn unconfirmed(&self, batch: &str) -> StoreResult<()> {
        self.happened(batch, &Event::Unconfirmed).await
    }

    async fn twins(&self, batch: &str, ids: &[String]) -> StoreResult<()> {
        self.happened(batch, &Event::Twins(ids)).await
    }

    async fn file_lost(&self, batch: &str) -> StoreResult<()> {
        self.happened(batch, &Event::FileLost).await
    }

    async fn taken_over(&self, batch: &str, provider_id: &str) -> StoreResult<()> {
        self.provider_has(batch, provider_id).await
    }

    async fn checked(&self, batch: &str, checked: Checked) -> StoreResult<()> {
        self.happened(batch, &Event::Checked(&checked)).await
    }

    async fn warned(&self, batch: &str) -> StoreResult<()> {
        self.happened(batch, &Event::Warned).await
    }

    async fn cancel(&self, batch: &str) -> StoreResult<bool> {
        self.ask_to_cancel(batch).await
    }

    async fn open(&self) -> StoreResult<Vec<Batch>> {
        self.open_batches().await
    }

    async fn queued_tokens(&self) -> StoreResult<u64> {
        Ok(self.open_batches().await?.iter().map(|batch| batch.tokens).sum())
    }

    async fn list(&self, limit: usize) -> StoreResult<Vec<Batch>> {
        self.newest(limit).await
    }

    async fn batch(&self, id: &str) -> StoreResult<Option<Batch>> {
        self.batch_of(id).await
    }
}

#[async_trait]
impl BatchResults for DynamoBatches {
    async fn sent(&self, batch: &str, keys: Vec<String>) -> StoreResult<Vec<Option<Sent>>> {
        self.still_sent(batch, keys).await
    }

    async fn made(&self, batch: &str, made: Vec<StoredVector>) -> StoreResult<()> {
        self.keep(batch, made).await
    }

    async fn refused(&self, batch: &str, refusals: Vec<Refusal>, most_attempts: u32) -> StoreResult<()> {
        self.refuse(batch, refusals, most_attempts).await
    }

    async fn end(&self, batch: &str, ending: Ending) -> StoreResult<()> {
        self.end_batch(batch, ending).await
    }
}

#[async_trait]
impl LiveCalls for DynamoBatches {
    async fn forget_live(&self) -> StoreResult<u64> {
        self.live_left().await
    }

    async fn is_any_waiting(&self, space: &Space) -> StoreResult<bool> {
        self.any_waits(space).await
    }

    async fn take_live(
        &self,
        name: &str,
        space: &Space,
        limit: usize,
        most_tokens: u64,
        most_bytes: usize,
    ) -> StoreResult<Vec<(Sent, String)>> {
        self.take_for_live(name, space, limit, most_tokens, most_bytes).await
    }

    async fn give_back_live(&self, name: &str, items: Vec<ItemId>) -> StoreResult<()> {
        self.give_live_back(name, items).await
    }

    async fn fail_live(&self, name: &str, item: &ItemId, error: &str, most_attempts: u32) -> StoreResult<bool> {
        self.live_failed(name, item, error, most_attempts).await
    }

    async fn held_live(&self, name: &str, items: Vec<ItemId>) -> StoreResult<Vec<bool>> {
        self.still_live(name, items).await
    }
}
