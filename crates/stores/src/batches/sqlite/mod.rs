//! Stores items and batches in SQLite.
//!
//! # Layout
//! - `records`, `outbox`, `texts`, `lifecycle`, `results`, `live`: each implements one trait
//! - `state`: reads and writes single items in the form that the rules use
//! - `statements`: implements rules as SQL statements for many items

mod lifecycle;
mod live;
mod outbox;
mod records;
mod results;
mod state;
mod statements;
mod texts;

use docweir_core::clock::SharedClock;
use rusqlite::{Error, Row};
use serde::Serialize;

use super::*;
use crate::ledger::EntryId;
use crate::sqlite::Database;

type Result<T> = std::result::Result<T, Error>;
/// Result of a store operation. Each operation is one transaction.
type StoreResult<T> = std::result::Result<T, PaidError>;

/// Stores items and batches in an SQLite file. Clones are cheap and share the file.
#[derive(Clone)]
pub struct SqliteBatches {
    database: Database,
    clock: SharedClock,
}

impl SqliteBatches {
    /// Creates the store on a database that [`crate::paid::open`] has opened.
    pub fn new(database: Database, clock: SharedClock) -> Self {
        Self { database, clock }
    }
}

/// Returns the row number of an item. For an invalid id, returns a number that no row has.
fn row_of(item: &ItemId) -> i64 {
    item.as_str().parse().unwrap_or(-1)
}

fn item_id(row: i64) -> ItemId {
    ItemId::new(row.to_string())
}

const BATCH: &str = "id, space, status, model, endpoint, items, tokens, entry, created_at, input_file_id, asked_at, provider_id, \
    submitted_at, checked_at, output_file_id, error_file_id, expires_at, done, cancel, warned, unconfirmed, twins, stored, failed, stale, \
    returned, charged_tokens, error, error_lines, ended_at";

fn batch(row: &Row<'_>) -> Result<Batch> {
    let status: String = row.get("status")?;
    let number = |name: &str| -> Result<u64> { Ok(unsigned(row.get(name)?)) };
    Ok(Batch {
        id: row.get("id")?,
        space: Space::parse(&row.get::<_, String>("space")?),
        // The table allows no other value.
        status: BatchStatus::ALL.into_iter().find(|s| s.name() == status).unwrap_or(BatchStatus::Pending),
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
        unconfirmed: row.get("unconfirmed")?,
        twins: json(row.get_ref("twins")?.as_str()?)?,
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

/// Columns of a [`Sent`]. In the query, the table of items has the alias `i`.
const SENT: &str = "i.id, i.key, i.version, i.shown, i.tokens, i.origin";
/// Number of columns in [`SENT`]. Further columns of a query begin at this index.
const SENT_COLUMNS: usize = 6;

fn sent(row: &Row<'_>) -> Result<Sent> {
    let shown = row.get_ref(3)?.as_str()?;
    let bytes = shown.len();
    let shown = if shown.is_empty() { None } else { Some(json(shown)?) };
    let (version, tokens) = (unsigned(row.get(2)?), unsigned(row.get(4)?));
    let origin = row.get_ref(5)?.as_str_or_null()?.map(json).transpose()?;
    Ok(Sent { item: item_id(row.get(0)?), key: row.get(1)?, version, shown, tokens, bytes, origin })
}

/// Parses a column that holds JSON.
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

/// Encodes a vector as little-endian bytes.
fn blob(vector: &[f32]) -> Vec<u8> {
    vector.iter().flat_map(|x| x.to_le_bytes()).collect()
}

fn floats(blob: &[u8]) -> Vec<f32> {
    blob.as_chunks::<4>().0.iter().map(|b| f32::from_le_bytes(*b)).collect()
}
