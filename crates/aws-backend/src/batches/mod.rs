//! Items and batches in DynamoDB, for any number of processes.
//!
//! All put items down and read; one at a time packs, sends and takes in, under a lease whose epoch every write to a batch's
//! record is conditional on.
//!
//! # What is where
//! One table, whose items are each written by itself, on condition that nobody has written it since it was read:
//!
//! | `pk` | `sk` | what |
//! | --- | --- | --- |
//! | `record#COLLECTION#KEY` | `item` | a record |
//! | `text#SPACE#DOCUMENT` | the text's hash | a text of a document |
//! | `document#DOCUMENT` | `waits` | that a document waits for texts |
//! | `batch#ID` | `record` | a batch |
//! | `provider#NAME` | `batch` | which batch has this name at the provider |
//! | `collections`, `spaces` | a name | collections and their models; spaces that have items |
//!
//! Two indexes say what is to be done ([`item::WORK_INDEX`], sparse: what is done costs nothing there) and what there is
//! by status ([`item::LIST_INDEX`], for counts). An index is a moment behind: what it names is read again before anything is
//! done with it, and what this process has put a moment ago it looks at itself.
//!
//! # Layout
//! - [`item`] an item, and where it stands; `apply` what the rules of every store make of it; `store` reading, deciding,
//!   writing
//! - `records`, `documents` those who want vectors; `packing`, `lifecycle`, `record`, `requests` a batch; `harvest` results
//!   and its end; `tables` records that came from tables of the user's

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
use store::Told;

/// The table of items and batches.
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

/// An item of DynamoDB holds 400 KB: here with its key, its hash and its past.
const MOST_ITEM_BYTES: usize = 380_000;

#[async_trait]
impl Records for DynamoBatches {
    fn most_item_bytes(&self) -> Option<usize> {
        Some(MOST_ITEM_BYTES)
    }

    async fn put(&self, space: &Space, items: Vec<NewItem>) -> Told<Put> {
        self.put_records(space, items).await
    }

    async fn delete(&self, space: &Space, keys: Vec<String>) -> Told<u64> {
        self.delete_records(space, keys).await
    }

    async fn retry(&self, batch: Option<&str>) -> Told<u64> {
        self.retry_failed(batch).await
    }

    async fn is_done(&self, collection: &str, key: &str, input: &str) -> Told<bool> {
        self.has_vector(collection, key, input).await
    }

    async fn counts(&self) -> Told<Vec<Counts>> {
        self.counts_by_space().await
    }

    async fn bind(&self, collection: &str, model: &ModelIdentity) -> Told<ModelIdentity> {
        self.bind_model(collection, model).await
    }

    async fn collections(&self) -> Told<Vec<(String, ModelIdentity)>> {
        self.bound_collections().await
    }
}

#[async_trait]
impl RecordOutbox for DynamoBatches {
    async fn removals(&self, space: &Space, limit: usize) -> Told<Vec<Removal>> {
        self.rows_to_remove(space, limit).await
    }

    async fn removed(&self, removals: Vec<Removal>) -> Told<()> {
        self.rows_removed(removals).await
    }

    async fn to_refresh(&self, space: &Space, limit: usize) -> Told<Vec<Sent>> {
        self.rows_to_refresh(space, limit).await
    }

    async fn refreshed(&self, items: Vec<(ItemId, u64, bool)>) -> Told<()> {
        self.rows_refreshed(items).await
    }

    async fn reconcile(&self, space: &Space, held: HeldVersion) -> Told<u64> {
        self.reconcile_with(space, held).await
    }

    async fn untold(&self, space: &Space, except: &[String], limit: usize) -> Told<Vec<Owed>> {
        self.owed_to_tables(space, except, limit).await
    }

    async fn told(&self, told: Vec<(ItemId, String)>) -> Told<()> {
        self.tables_were_told(told).await
    }

    async fn forget(&self, items: Vec<(ItemId, u64)>) -> Told<u64> {
        self.forget_versions(items).await
    }
}

#[async_trait]
impl DocumentTexts for DynamoBatches {
    async fn ask(&self, document: &str, space: &Space, texts: Vec<Text>) -> Told<Answer> {
        self.ask_for(document, space, texts).await
    }

    async fn taken(&self, document: &str) -> Told<()> {
        self.has_taken(document).await
    }

    async fn made_live(&self, document: &str, space: &Space, made: Vec<(Sha256Hex, Vec<f32>)>) -> Told<()> {
        self.keep_live(document, space, made).await
    }

    async fn strangers(&self, space: Option<&Space>, limit: usize) -> Told<Vec<String>> {
        self.of_other_models(space, limit).await
    }

    async fn ready(&self, after: &str, limit: usize) -> Told<Vec<String>> {
        self.may_go_on(after, limit).await
    }

    async fn is_waiting(&self, document: &str) -> Told<bool> {
        self.waits(document).await
    }

    async fn send_live(&self, space: &Space) -> Told<u64> {
        self.send_documents_live(space).await
    }
}

#[async_trait]
impl BatchLifecycle for DynamoBatches {
    async fn take_over(&self, epoch: u64) -> Told<()> {
        self.taken_over_by(epoch).await
    }

    async fn waiting(&self) -> Told<Vec<(Space, Waiting)>> {
        self.waiting_by_space().await
    }

    async fn pack(&self, order: Order) -> Told<Packed> {
        self.pack_batch(order).await
    }

    async fn requests(&self, batch: &str, after: u64, limit: usize) -> Told<Vec<Request>> {
        self.requests_of(batch, after, limit).await
    }

    async fn uploaded(&self, batch: &str, file: &str) -> Told<()> {
        self.happened(batch, &Event::Uploaded { file }).await
    }

    async fn asked(&self, batch: &str) -> Told<()> {
        self.happened(batch, &Event::Asked).await
    }

    async fn not_taken(&self, batch: &str) -> Told<()> {
        self.happened(batch, &Event::NotTaken).await
    }

    async fn file_lost(&self, batch: &str) -> Told<()> {
        self.happened(batch, &Event::FileLost).await
    }

    async fn taken_over(&self, batch: &str, provider_id: &str) -> Told<()> {
        self.provider_has(batch, provider_id).await
    }

    async fn checked(&self, batch: &str, checked: Checked) -> Told<()> {
        self.happened(batch, &Event::Checked(&checked)).await
    }

    async fn warned(&self, batch: &str) -> Told<()> {
        self.happened(batch, &Event::Warned).await
    }

    async fn cancel(&self, batch: &str) -> Told<bool> {
        self.ask_to_cancel(batch).await
    }

    async fn open(&self) -> Told<Vec<Batch>> {
        self.open_batches().await
    }

    async fn queued_tokens(&self) -> Told<u64> {
        Ok(self.open_batches().await?.iter().map(|batch| batch.tokens).sum())
    }

    async fn list(&self, limit: usize) -> Told<Vec<Batch>> {
        self.newest(limit).await
    }

    async fn batch(&self, id: &str) -> Told<Option<Batch>> {
        self.batch_of(id).await
    }
}

#[async_trait]
impl BatchResults for DynamoBatches {
    async fn sent(&self, batch: &str, keys: Vec<String>) -> Told<Vec<Option<Sent>>> {
        self.still_sent(batch, keys).await
    }

    async fn made(&self, batch: &str, made: Vec<Made>) -> Told<()> {
        self.keep(batch, made).await
    }

    async fn refused(&self, batch: &str, refusals: Vec<Refusal>, most_attempts: u32) -> Told<()> {
        self.refuse(batch, refusals, most_attempts).await
    }

    async fn blame(&self, batch: &str, lines: &[u64], error: &str) -> Told<u64> {
        self.blame_lines(batch, lines, error).await
    }

    async fn end(&self, batch: &str, ending: Ending) -> Told<()> {
        self.end_batch(batch, ending).await
    }
}

#[async_trait]
impl LiveCalls for DynamoBatches {
    async fn forget_live(&self) -> Told<u64> {
        self.live_left().await
    }

    async fn is_any_waiting(&self, space: &Space) -> Told<bool> {
        self.any_waits(space).await
    }

    async fn take_live(
        &self,
        name: &str,
        space: &Space,
        limit: usize,
        most_tokens: u64,
        most_bytes: usize,
    ) -> Told<Vec<(Sent, String)>> {
        self.take_for_live(name, space, limit, most_tokens, most_bytes).await
    }

    async fn give_back_live(&self, name: &str, items: Vec<ItemId>) -> Told<()> {
        self.give_live_back(name, items).await
    }

    async fn fail_live(&self, name: &str, item: &ItemId, error: &str) -> Told<()> {
        self.live_failed(name, item, error).await
    }

    async fn held_live(&self, name: &str, items: Vec<ItemId>) -> Told<Vec<bool>> {
        self.still_live(name, items).await
    }
}
