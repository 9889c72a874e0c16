//! A batch from its packing to its acceptance, and what the provider says of it.

use docweir_core::clock::timestamp;
use docweir_core::money::Nanodollars;
use rusqlite::{OptionalExtension, params};

use super::{BATCH, Batch, Checked, Done, Order, Packed, Request, SqliteBatches, batch, signed, to_json, unsigned};
use crate::ledger::{self, Asked, Mode, Spend};

impl SqliteBatches {
    pub(super) async fn pack(&self, order: Order) -> Done<Packed> {
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

    pub(super) async fn requests(&self, batch: &str, after: u64, limit: usize) -> Done<Vec<Request>> {
        let batch = batch.to_owned();
        let sql = "SELECT id, key, input FROM items WHERE batch = ?1 AND status = 'PENDING' AND id > ?2 \
            AND input <> '' ORDER BY id LIMIT ?3";
        self.database
            .read(move |tx| {
                let one = |row: &rusqlite::Row<'_>| {
                    Ok(Request { at: unsigned(row.get(0)?), key: row.get(1)?, input: row.get(2)? })
                };
                tx.prepare_cached(sql)?.query_map(params![batch, signed(after), limit as i64], one)?.collect()
            })
            .await
    }

    pub(super) async fn uploaded(&self, batch: &str, file: &str) -> Done<()> {
        self.update("UPDATE batches SET input_file_id = ?2 WHERE id = ?1", batch, file).await
    }

    pub(super) async fn asked(&self, batch: &str) -> Done<()> {
        let now = timestamp(self.clock.now());
        self.update("UPDATE batches SET asked_at = ?2 WHERE id = ?1", batch, &now).await
    }

    pub(super) async fn not_taken(&self, batch: &str) -> Done<()> {
        self.update("UPDATE batches SET asked_at = NULL WHERE id = ?1 AND ?2 = ''", batch, "").await
    }

    pub(super) async fn file_lost(&self, batch: &str) -> Done<()> {
        self.update("UPDATE batches SET input_file_id = NULL WHERE id = ?1 AND ?2 = ''", batch, "").await
    }

    pub(super) async fn taken_over(&self, batch: &str, provider_id: &str) -> Done<()> {
        let (batch, provider_id, now) = (batch.to_owned(), provider_id.to_owned(), timestamp(self.clock.now()));
        let sql = "UPDATE batches SET provider_id = ?2, submitted_at = ?3, asked_at = coalesce(asked_at, ?3), \
            status = 'VALIDATING' WHERE id = ?1";
        self.database.write(move |tx| tx.execute(sql, params![batch, provider_id, now]).map(drop)).await
    }

    pub(super) async fn checked(&self, batch: &str, checked: Checked) -> Done<()> {
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

    pub(super) async fn warned(&self, batch: &str) -> Done<()> {
        self.update("UPDATE batches SET warned = 1 WHERE id = ?1 AND ?2 = ''", batch, "").await
    }

    pub(super) async fn cancel(&self, batch: &str) -> Done<bool> {
        let batch = batch.to_owned();
        let sql = "UPDATE batches SET cancel = 1 WHERE id = ?1 AND ended_at IS NULL";
        self.database.write(move |tx| Ok(tx.execute(sql, [batch])? > 0)).await
    }

    async fn update(&self, sql: &'static str, batch: &str, value: &str) -> Done<()> {
        let (batch, value) = (batch.to_owned(), value.to_owned());
        self.database.write(move |tx| tx.execute(sql, params![batch, value]).map(drop)).await
    }

    pub(super) async fn open(&self) -> Done<Vec<Batch>> {
        let sql = format!("SELECT {BATCH} FROM batches WHERE ended_at IS NULL ORDER BY created_at, id");
        self.database.read(move |tx| tx.prepare_cached(&sql)?.query_map([], batch)?.collect()).await
    }

    pub(super) async fn queued_tokens(&self) -> Done<u64> {
        let sql = "SELECT coalesce(sum(tokens), 0) FROM batches WHERE ended_at IS NULL";
        self.database.read(move |tx| tx.query_row(sql, [], |row| Ok(unsigned(row.get(0)?)))).await
    }

    pub(super) async fn list(&self, limit: usize) -> Done<Vec<Batch>> {
        let sql = format!("SELECT {BATCH} FROM batches ORDER BY created_at DESC, id DESC LIMIT ?1");
        self.database.read(move |tx| tx.prepare_cached(&sql)?.query_map([limit as i64], batch)?.collect()).await
    }

    pub(super) async fn batch(&self, id: &str) -> Done<Option<Batch>> {
        let id = id.to_owned();
        let sql = format!(
            "SELECT {BATCH} FROM batches WHERE id = ?1 UNION ALL SELECT {BATCH} FROM batches WHERE provider_id = ?1 LIMIT 1"
        );
        self.database.read(move |tx| tx.prepare_cached(&sql)?.query_row([id], batch).optional()).await
    }
}
