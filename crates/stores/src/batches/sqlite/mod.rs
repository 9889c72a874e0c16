//! Items and batches in SQLite.

mod documents;
mod harvest;
mod items;
mod lifecycle;
mod tables;

use async_trait::async_trait;
use docweir_core::clock::SharedClock;
use docweir_core::documents::Sha256Hex;
use docweir_core::model::ModelIdentity;
use rusqlite::{Error, Row};
use serde::Serialize;

use super::*;
use crate::ledger::EntryId;
use crate::sqlite::{Database, Failure};

type Result<T> = std::result::Result<T, Error>;
/// What an operation of the store comes to.
type Done<T> = std::result::Result<T, Failure>;
/// What its caller is told.
type Told<T> = std::result::Result<T, PaidError>;

/// Cheap to clone.
#[derive(Clone)]
pub struct SqliteBatches {
    database: Database,
    clock: SharedClock,
}

impl SqliteBatches {
    /// In the file of [`crate::paid`].
    pub fn new(database: Database, clock: SharedClock) -> Self {
        Self { database, clock }
    }
}

/// The row of an item. No row has the number of a name that is none.
fn row_of(item: &ItemId) -> i64 {
    item.as_str().parse().unwrap_or(-1)
}

fn item_id(row: i64) -> ItemId {
    ItemId::new(row.to_string())
}

/// Each is an operation of the same name, in one transaction.
#[async_trait]
impl Records for SqliteBatches {
    async fn put(&self, space: &Space, items: Vec<NewItem>) -> Told<Put> {
        Ok(self.put(space, items).await?)
    }

    async fn delete(&self, space: &Space, keys: Vec<String>) -> Told<u64> {
        Ok(self.delete(space, keys).await?)
    }

    async fn retry(&self, batch: Option<&str>) -> Told<u64> {
        Ok(self.retry(batch).await?)
    }

    async fn is_done(&self, collection: &str, key: &str, input: &str) -> Told<bool> {
        Ok(self.is_done(collection, key, input).await?)
    }

    async fn counts(&self) -> Told<Vec<Counts>> {
        Ok(self.counts().await?)
    }

    async fn bind(&self, collection: &str, model: &ModelIdentity) -> Told<ModelIdentity> {
        Ok(self.bind(collection, model).await?)
    }

    async fn collections(&self) -> Told<Vec<(String, ModelIdentity)>> {
        Ok(self.collections().await?)
    }
}

#[async_trait]
impl RecordOutbox for SqliteBatches {
    async fn removals(&self, space: &Space, limit: usize) -> Told<Vec<Removal>> {
        Ok(self.removals(space, limit).await?)
    }

    async fn removed(&self, removals: Vec<Removal>) -> Told<()> {
        Ok(self.removed(removals).await?)
    }

    async fn to_refresh(&self, space: &Space, limit: usize) -> Told<Vec<Sent>> {
        Ok(self.to_refresh(space, limit).await?)
    }

    async fn refreshed(&self, items: Vec<(ItemId, u64, bool)>) -> Told<()> {
        Ok(self.refreshed(items).await?)
    }

    async fn reconcile(&self, space: &Space, held: HeldVersion) -> Told<u64> {
        Ok(self.reconcile(space, held).await?)
    }

    async fn untold(&self, space: &Space, except: &[String], limit: usize) -> Told<Vec<Owed>> {
        Ok(self.untold(space, except, limit).await?)
    }

    async fn told(&self, told: Vec<(ItemId, String)>) -> Told<()> {
        Ok(self.told(told).await?)
    }

    async fn forget(&self, items: Vec<(ItemId, u64)>) -> Told<u64> {
        Ok(self.forget(items).await?)
    }
}

#[async_trait]
impl DocumentTexts for SqliteBatches {
    async fn ask(&self, document: &str, space: &Space, texts: Vec<Text>) -> Told<Answer> {
        Ok(self.ask(document, space, texts).await?)
    }

    async fn taken(&self, document: &str) -> Told<()> {
        Ok(self.taken(document).await?)
    }

    async fn made_live(&self, _: &str, space: &Space, made: Vec<(Sha256Hex, Vec<f32>)>) -> Told<()> {
        Ok(self.made_live(space, made).await?)
    }

    async fn strangers(&self, space: Option<&Space>, limit: usize) -> Told<Vec<String>> {
        Ok(self.strangers(space, limit).await?)
    }

    async fn ready(&self, after: &str, limit: usize) -> Told<Vec<String>> {
        Ok(self.ready(after, limit).await?)
    }

    async fn is_waiting(&self, document: &str) -> Told<bool> {
        Ok(self.is_waiting(document).await?)
    }

    async fn send_live(&self, space: &Space) -> Told<u64> {
        Ok(self.send_live(space).await?)
    }
}

#[async_trait]
impl BatchLifecycle for SqliteBatches {
    /// Whoever has the folder's lock is the only one.
    async fn take_over(&self, _: u64) -> Told<()> {
        Ok(())
    }

    async fn waiting(&self) -> Told<Vec<(Space, Waiting)>> {
        Ok(self.waiting().await?)
    }

    async fn pack(&self, order: Order) -> Told<Packed> {
        Ok(self.pack(order).await?)
    }

    async fn requests(&self, batch: &str, after: u64, limit: usize) -> Told<Vec<Request>> {
        Ok(self.requests(batch, after, limit).await?)
    }

    async fn uploaded(&self, batch: &str, file: &str) -> Told<()> {
        Ok(self.uploaded(batch, file).await?)
    }

    async fn asked(&self, batch: &str) -> Told<()> {
        Ok(self.asked(batch).await?)
    }

    async fn not_taken(&self, batch: &str) -> Told<()> {
        Ok(self.not_taken(batch).await?)
    }

    async fn file_lost(&self, batch: &str) -> Told<()> {
        Ok(self.file_lost(batch).await?)
    }

    async fn taken_over(&self, batch: &str, provider_id: &str) -> Told<()> {
        Ok(self.taken_over(batch, provider_id).await?)
    }

    async fn checked(&self, batch: &str, checked: Checked) -> Told<()> {
        Ok(self.checked(batch, checked).await?)
    }

    async fn warned(&self, batch: &str) -> Told<()> {
        Ok(self.warned(batch).await?)
    }

    async fn cancel(&self, batch: &str) -> Told<bool> {
        Ok(self.cancel(batch).await?)
    }

    async fn open(&self) -> Told<Vec<Batch>> {
        Ok(self.open().await?)
    }

    async fn queued_tokens(&self) -> Told<u64> {
        Ok(self.queued_tokens().await?)
    }

    async fn list(&self, limit: usize) -> Told<Vec<Batch>> {
        Ok(self.list(limit).await?)
    }

    async fn batch(&self, id: &str) -> Told<Option<Batch>> {
        Ok(self.batch(id).await?)
    }
}

#[async_trait]
impl BatchResults for SqliteBatches {
    async fn sent(&self, batch: &str, keys: Vec<String>) -> Told<Vec<Option<Sent>>> {
        Ok(self.sent(batch, keys).await?)
    }

    async fn made(&self, batch: &str, made: Vec<Made>) -> Told<()> {
        Ok(self.made(batch, made).await?)
    }

    async fn refused(&self, batch: &str, refusals: Vec<Refusal>, most_attempts: u32) -> Told<()> {
        Ok(self.refused(batch, refusals, most_attempts).await?)
    }

    async fn blame(&self, batch: &str, lines: &[u64], error: &str) -> Told<u64> {
        Ok(self.blame(batch, lines, error).await?)
    }

    async fn end(&self, batch: &str, ending: Ending) -> Told<()> {
        Ok(self.end(batch, ending).await?)
    }
}

#[async_trait]
impl LiveCalls for SqliteBatches {
    async fn forget_live(&self) -> Told<u64> {
        Ok(self.forget_live().await?)
    }

    async fn is_any_waiting(&self, space: &Space) -> Told<bool> {
        Ok(self.is_any_waiting(space).await?)
    }

    async fn take_live(
        &self,
        name: &str,
        space: &Space,
        limit: usize,
        most_tokens: u64,
        most_bytes: usize,
    ) -> Told<Vec<(Sent, String)>> {
        Ok(self.take_live(name, space, limit, most_tokens, most_bytes).await?)
    }

    async fn give_back_live(&self, name: &str, _: Vec<ItemId>) -> Told<()> {
        Ok(self.give_back_live(name).await?)
    }

    async fn fail_live(&self, name: &str, item: &ItemId, error: &str) -> Told<()> {
        Ok(self.fail_live(name, item, error).await?)
    }

    async fn held_live(&self, name: &str, items: Vec<ItemId>) -> Told<Vec<bool>> {
        Ok(self.held_live(name, items).await?)
    }
}

const BATCH: &str = "id, space, status, model, endpoint, items, tokens, entry, created_at, input_file_id, asked_at, provider_id, \
    submitted_at, checked_at, output_file_id, error_file_id, expires_at, done, cancel, warned, stored, failed, stale, \
    returned, charged_tokens, error, error_lines, ended_at";

fn batch(row: &Row<'_>) -> Result<Batch> {
    let status: String = row.get("status")?;
    let number = |name: &str| -> Result<u64> { Ok(unsigned(row.get(name)?)) };
    Ok(Batch {
        id: row.get("id")?,
        space: Space::parse(&row.get::<_, String>("space")?),
        // The table allows no other.
        status: Status::ALL.into_iter().find(|s| s.name() == status).unwrap_or(Status::Pending),
        model: json(row.get_ref("model")?.as_str()?)?,
        endpoint: row.get("endpoint")?,
        items: number("items")?,
        tokens: number("tokens")?,
        entry: EntryId::new(row.get::<_, i64>("entry")?.to_string()),
        created_at: row.get("created_at")?,
        input_file_id: row.get("input_file_id")?,
        asked_at: row.get("asked_at")?,
        provider_id: row.get("provider_id")?,
        submitted_at: row.get("submitted_at")?,
        checked_at: row.get("checked_at")?,
        output_file_id: row.get("output_file_id")?,
        error_file_id: row.get("error_file_id")?,
        expires_at: row.get("expires_at")?,
        done: number("done")?,
        cancel: row.get("cancel")?,
        warned: row.get("warned")?,
        stored: number("stored")?,
        failed: number("failed")?,
        stale: number("stale")?,
        returned: number("returned")?,
        charged_tokens: row.get::<_, Option<i64>>("charged_tokens")?.map(unsigned),
        error: row.get("error")?,
        error_lines: json(row.get_ref("error_lines")?.as_str()?)?,
        ended_at: row.get("ended_at")?,
    })
}

/// What stands in a column as JSON.
fn json<T: serde::de::DeserializeOwned>(text: &str) -> Result<T> {
    serde_json::from_str(text).map_err(|e| Error::FromSqlConversionFailure(0, rusqlite::types::Type::Text, Box::new(e)))
}

fn to_json(value: &impl Serialize) -> Result<String> {
    serde_json::to_string(value).map_err(|e| Error::ToSqlConversionFailure(Box::new(e)))
}

fn unsigned(n: i64) -> u64 {
    u64::try_from(n).unwrap_or_default()
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// Little-endian.
fn blob(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn floats(blob: &[u8]) -> Vec<f32> {
    blob.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}
