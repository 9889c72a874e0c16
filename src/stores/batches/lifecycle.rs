//! A batch from its packing to its acceptance, and what the provider says of it.

use std::sync::Arc;

use rusqlite::{OptionalExtension, params};

use super::{BATCH, Batch, Batches, Space, Status, batch, signed, to_json, unsigned};
use crate::clock::timestamp;
use crate::money::Nanodollars;
use crate::stages::model::ModelIdentity;
use crate::stores::ledger::{self, Asked, Budget, Mode, Period, Spend};
use crate::stores::sqlite::Failure;

/// Of a key and an input.
pub type LineBytes = Arc<dyn Fn(&str, &str) -> u64 + Send + Sync>;

/// What a batch may hold, and who pays for it.
#[derive(Clone)]
pub struct Order {
    pub id: String,
    pub space: Space,
    /// Of its vectors, and the endpoint that is to have it.
    pub model: ModelIdentity,
    pub endpoint: String,
    pub most_requests: usize,
    /// Bytes of its file.
    pub most_bytes: u64,
    /// Tokens that the provider still takes: its limit less those of open batches.
    pub most_tokens: u64,
    /// Bytes of a request's line, of its key and its input.
    pub line_bytes: LineBytes,
    /// Its subject, tokens and cost are filled in.
    pub spend: Spend,
    pub usd_per_million_tokens: f64,
    pub budget: Budget,
}

/// What packing came to.
#[derive(Clone, Debug, PartialEq)]
pub enum Packed {
    /// Nothing waits.
    Nothing,
    /// The provider takes no more at a time.
    Full,
    /// The budget is used up.
    Refused { period: Period, spent: Nanodollars, limit: Nanodollars },
    /// Recorded, with its money set aside.
    Batch(Box<Batch>, ledger::Reservation),
}

/// One line of a batch's file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    pub item: i64,
    /// The `custom_id`.
    pub key: String,
    pub input: String,
}

/// What the provider said of a batch.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Checked {
    pub status: Status,
    pub done: u64,
    /// What it has charged so far, if it says.
    pub charged_tokens: Option<u64>,
    pub output_file_id: Option<String>,
    pub error_file_id: Option<String>,
    pub expires_at: Option<String>,
    pub error: Option<String>,
    /// Lines of its file that it names as wrong.
    pub error_lines: Vec<u64>,
}

impl Batches {
    /// Takes waiting items of one space into a new batch, the oldest first.
    pub async fn pack(&self, order: Order) -> std::result::Result<Packed, Failure> {
        let now = self.clock.now();
        self.database
            .write(move |tx| {
                let space = order.space.name();
                let (mut items, mut bytes, mut tokens, mut last) = (0u64, 0, 0, None);
                // As many as the budget allows; where it allows none, the reservation says so.
                let room = ledger::room(tx, &order.spend.run, order.budget, now)?;
                let affordable = room.map_or(u64::MAX, |room| room.tokens_at(order.usd_per_million_tokens));
                {
                    let sql = "SELECT id, key, input, tokens FROM items WHERE space = ?1 AND status = 'NONE' \
                        AND deleted = 0 AND reuse = 0 ORDER BY id LIMIT ?2";
                    let mut statement = tx.prepare_cached(sql)?;
                    let mut rows = statement.query(params![space, order.most_requests as i64])?;
                    while let Some(row) = rows.next()? {
                        let line = (order.line_bytes)(row.get_ref(1)?.as_str()?, row.get_ref(2)?.as_str()?);
                        let more = unsigned(row.get(3)?);
                        if bytes + line > order.most_bytes || tokens + more > order.most_tokens {
                            if items == 0 {
                                return Ok(Packed::Full);
                            }
                            break;
                        }
                        if items > 0 && tokens + more > affordable {
                            break;
                        }
                        (items, bytes, tokens, last) = (items + 1, bytes + line, tokens + more, Some(row.get(0)?));
                    }
                }
                let Some(last): Option<i64> = last else { return Ok(Packed::Nothing) };
                let cost = Nanodollars::of_tokens(tokens, order.usd_per_million_tokens);
                let spend = Spend { mode: Mode::Batch, subject: order.id.clone(), tokens, cost, ..order.spend };
                let reservation = match ledger::reserve(tx, &spend, order.budget, now)? {
                    Asked::Given(reservation) => reservation,
                    Asked::Refused { period, spent, limit } => return Ok(Packed::Refused { period, spent, limit }),
                };
                let sql = "UPDATE items SET status = 'PENDING', batch = ?2, sent_sha256 = input_sha256, \
                    attempts = attempts + 1 WHERE space = ?1 AND status = 'NONE' AND deleted = 0 AND reuse = 0 AND id <= ?3";
                tx.prepare_cached(sql)?.execute(params![space, order.id, last])?;
                let sql = "INSERT INTO batches (id, space, status, items, tokens, entry, created_at, model, endpoint) \
                    VALUES (?1, ?2, 'PENDING', ?3, ?4, ?5, ?6, ?7, ?8)";
                let (items, tokens, model) = (signed(items), signed(tokens), to_json(&order.model)?);
                let (entry, at) = (ledger::number(&reservation.id), timestamp(now));
                let values = params![order.id, space, items, tokens, entry, at, model, order.endpoint];
                tx.prepare_cached(sql)?.execute(values)?;
                let record = tx.query_row(&format!("SELECT {BATCH} FROM batches WHERE id = ?1"), [&order.id], batch)?;
                Ok(Packed::Batch(Box::new(record), reservation))
            })
            .await
    }

    /// The requests of a batch that is not sent yet, in order, after an item.
    pub async fn requests(&self, batch: &str, after: i64, limit: usize) -> std::result::Result<Vec<Request>, Failure> {
        let batch = batch.to_owned();
        let sql = "SELECT id, key, input FROM items WHERE batch = ?1 AND status = 'PENDING' AND id > ?2 \
            AND input <> '' ORDER BY id LIMIT ?3";
        self.database
            .read(move |tx| {
                let one =
                    |row: &rusqlite::Row<'_>| Ok(Request { item: row.get(0)?, key: row.get(1)?, input: row.get(2)? });
                tx.prepare_cached(sql)?.query_map(params![batch, after, limit as i64], one)?.collect()
            })
            .await
    }

    /// Its file is at the provider.
    pub async fn uploaded(&self, batch: &str, file: &str) -> std::result::Result<(), Failure> {
        self.update("UPDATE batches SET input_file_id = ?2 WHERE id = ?1", batch, file).await
    }

    /// The provider is about to be asked to take it.
    pub async fn asked(&self, batch: &str) -> std::result::Result<(), Failure> {
        let now = timestamp(self.clock.now());
        self.update("UPDATE batches SET asked_at = ?2 WHERE id = ?1", batch, &now).await
    }

    /// The provider certainly does not have it.
    pub async fn not_taken(&self, batch: &str) -> std::result::Result<(), Failure> {
        self.update("UPDATE batches SET asked_at = NULL WHERE id = ?1 AND ?2 = ''", batch, "").await
    }

    /// Its file is gone at the provider: it is sent anew.
    pub async fn file_lost(&self, batch: &str) -> std::result::Result<(), Failure> {
        self.update("UPDATE batches SET input_file_id = NULL WHERE id = ?1 AND ?2 = ''", batch, "").await
    }

    /// The provider has it, under this name.
    pub async fn taken_over(&self, batch: &str, provider_id: &str) -> std::result::Result<(), Failure> {
        let (batch, provider_id, now) = (batch.to_owned(), provider_id.to_owned(), timestamp(self.clock.now()));
        let sql = "UPDATE batches SET provider_id = ?2, submitted_at = ?3, asked_at = coalesce(asked_at, ?3), \
            status = 'VALIDATING' WHERE id = ?1";
        self.database.write(move |tx| tx.execute(sql, params![batch, provider_id, now]).map(drop)).await
    }

    /// What the provider says of it now.
    pub async fn checked(&self, batch: &str, checked: Checked) -> std::result::Result<(), Failure> {
        let (batch, now) = (batch.to_owned(), timestamp(self.clock.now()));
        let sql = "UPDATE batches SET status = ?2, done = ?3, output_file_id = ?4, error_file_id = ?5, \
            expires_at = ?6, error = coalesce(?7, error), checked_at = ?8, charged_tokens = coalesce(?9, charged_tokens), \
            error_lines = ?10 WHERE id = ?1 AND ended_at IS NULL";
        self.database
            .write(move |tx| {
                let c = checked;
                let values = params![
                    batch,
                    c.status.name(),
                    signed(c.done),
                    c.output_file_id,
                    c.error_file_id,
                    c.expires_at,
                    c.error,
                    now,
                    c.charged_tokens.map(signed),
                    to_json(&c.error_lines)?
                ];
                tx.execute(sql, values).map(drop)
            })
            .await
    }

    /// Somebody was told that it takes long.
    pub async fn warned(&self, batch: &str) -> std::result::Result<(), Failure> {
        self.update("UPDATE batches SET warned = 1 WHERE id = ?1 AND ?2 = ''", batch, "").await
    }

    /// Wants it cancelled. `false` where it has ended.
    pub async fn cancel(&self, batch: &str) -> std::result::Result<bool, Failure> {
        let batch = batch.to_owned();
        let sql = "UPDATE batches SET cancel = 1 WHERE id = ?1 AND ended_at IS NULL";
        self.database.write(move |tx| Ok(tx.execute(sql, [batch])? > 0)).await
    }

    async fn update(&self, sql: &'static str, batch: &str, value: &str) -> std::result::Result<(), Failure> {
        let (batch, value) = (batch.to_owned(), value.to_owned());
        self.database.write(move |tx| tx.execute(sql, params![batch, value]).map(drop)).await
    }

    /// Batches that have not ended, the oldest first.
    pub async fn open(&self) -> std::result::Result<Vec<Batch>, Failure> {
        let sql = format!("SELECT {BATCH} FROM batches WHERE ended_at IS NULL ORDER BY created_at, id");
        self.database.read(move |tx| tx.prepare_cached(&sql)?.query_map([], batch)?.collect()).await
    }

    /// Tokens in batches that have not ended.
    pub async fn queued_tokens(&self) -> std::result::Result<u64, Failure> {
        let sql = "SELECT coalesce(sum(tokens), 0) FROM batches WHERE ended_at IS NULL";
        self.database.read(move |tx| tx.query_row(sql, [], |row| Ok(unsigned(row.get(0)?)))).await
    }

    /// The newest first.
    pub async fn list(&self, limit: usize) -> std::result::Result<Vec<Batch>, Failure> {
        let sql = format!("SELECT {BATCH} FROM batches ORDER BY created_at DESC, id DESC LIMIT ?1");
        self.database.read(move |tx| tx.prepare_cached(&sql)?.query_map([limit as i64], batch)?.collect()).await
    }

    /// By its id or the provider's.
    pub async fn batch(&self, id: &str) -> std::result::Result<Option<Batch>, Failure> {
        let id = id.to_owned();
        let sql = format!(
            "SELECT {BATCH} FROM batches WHERE id = ?1 UNION ALL SELECT {BATCH} FROM batches WHERE provider_id = ?1 LIMIT 1"
        );
        self.database.read(move |tx| tx.prepare_cached(&sql)?.query_row([id], batch).optional()).await
    }
}
