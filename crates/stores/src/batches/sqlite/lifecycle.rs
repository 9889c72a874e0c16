//! Implements [`BatchLifecycle`] in SQLite.

use async_trait::async_trait;
use docweir_core::clock::{UnixMicros, timestamp};
use rusqlite::{OptionalExtension, ToSql, Transaction, params, params_from_iter};

use super::statements::{self, IN_BATCH, WAITING};
use super::{
    BATCH, Batch, BatchLifecycle, Checked, Order, Packed, Request, Result, Space, SqliteBatches, StoreResult, Waiting,
    batch, signed, to_json, unsigned,
};
use crate::batches::rules::batch::{Event, Value, changes, packed};
use crate::batches::rules::packing::{Offer, Selection, spend};
use crate::ledger::{self, ReservationOutcome};

#[async_trait]
impl BatchLifecycle for SqliteBatches {
    /// Does nothing, because there is never another leader. Only the process that holds the state folder's lock works
    /// on batches.
    async fn take_over(&self, _: u64) -> StoreResult<()> {
        Ok(())
    }

    async fn waiting(&self) -> StoreResult<Vec<(Space, Waiting)>> {
        let sql = format!("SELECT space, count(*), sum(tokens) FROM items WHERE {WAITING} GROUP BY space");
        let waiting = self.database.read(move |tx| {
            let one = |row: &rusqlite::Row<'_>| {
                let waiting = Waiting { items: unsigned(row.get(1)?), tokens: unsigned(row.get(2)?) };
                Ok((Space::parse(row.get_ref(0)?.as_str()?), waiting))
            };
            tx.prepare_cached(&sql)?.query_map([], one)?.collect()
        });
        Ok(waiting.await?)
    }

    async fn pack(&self, order: Order) -> StoreResult<Packed> {
        let now = self.clock.now();
        Ok(self.database.write(move |tx| pack(tx, &order, now)).await?)
    }

    async fn requests(&self, batch: &str, after: u64, limit: usize) -> StoreResult<Vec<Request>> {
        let batch = batch.to_owned();
        let sql = format!(
            "SELECT id, key, input FROM items WHERE {IN_BATCH} AND id > ?2 AND input <> '' ORDER BY id LIMIT ?3"
        );
        let requests = self.database.read(move |tx| {
            let one = |row: &rusqlite::Row<'_>| {
                Ok(Request { at: unsigned(row.get(0)?), key: row.get(1)?, input: row.get(2)? })
            };
            tx.prepare_cached(&sql)?.query_map(params![batch, signed(after), limit as i64], one)?.collect()
        });
        Ok(requests.await?)
    }

    async fn uploaded(&self, batch: &str, file: &str) -> StoreResult<()> {
        self.amend(batch, Event::Uploaded { file }).await.map(drop)
    }

    async fn asked(&self, batch: &str) -> StoreResult<()> {
        self.amend(batch, Event::Asked).await.map(drop)
    }

    async fn not_taken(&self, batch: &str) -> StoreResult<()> {
        self.amend(batch, Event::NotTaken).await.map(drop)
    }

    async fn unconfirmed(&self, batch: &str) -> StoreResult<()> {
        self.amend(batch, Event::Unconfirmed).await.map(drop)
    }

    async fn twins(&self, batch: &str, ids: &[String]) -> StoreResult<()> {
        self.amend(batch, Event::Twins(ids)).await.map(drop)
    }

    async fn file_lost(&self, batch: &str) -> StoreResult<()> {
        self.amend(batch, Event::FileLost).await.map(drop)
    }

    async fn taken_over(&self, batch: &str, provider_id: &str) -> StoreResult<()> {
        self.amend(batch, Event::TakenOver { provider_id }).await.map(drop)
    }

    async fn checked(&self, batch: &str, checked: Checked) -> StoreResult<()> {
        self.amend(batch, Event::Checked(&checked)).await.map(drop)
    }

    async fn warned(&self, batch: &str) -> StoreResult<()> {
        self.amend(batch, Event::Warned).await.map(drop)
    }

    async fn cancel(&self, batch: &str) -> StoreResult<bool> {
        self.amend(batch, Event::Cancel).await
    }

    async fn open(&self) -> StoreResult<Vec<Batch>> {
        let sql = format!("SELECT {BATCH} FROM batches WHERE ended_at IS NULL ORDER BY created_at, id");
        Ok(self.database.read(move |tx| tx.prepare_cached(&sql)?.query_map([], batch)?.collect()).await?)
    }

    async fn queued_tokens(&self) -> StoreResult<u64> {
        let sql = "SELECT coalesce(sum(tokens), 0) FROM batches WHERE ended_at IS NULL";
        Ok(self.database.read(move |tx| tx.query_row(sql, [], |row| Ok(unsigned(row.get(0)?)))).await?)
    }

    async fn list(&self, limit: usize) -> StoreResult<Vec<Batch>> {
        let sql = format!("SELECT {BATCH} FROM batches ORDER BY created_at DESC, id DESC LIMIT ?1");
        Ok(self.database.read(move |tx| tx.prepare_cached(&sql)?.query_map([limit as i64], batch)?.collect()).await?)
    }

    async fn batch(&self, id: &str) -> StoreResult<Option<Batch>> {
        let id = id.to_owned();
        let sql = format!(
            "SELECT {BATCH} FROM batches WHERE id = ?1 UNION ALL SELECT {BATCH} FROM batches WHERE provider_id = ?1 LIMIT 1"
        );
        Ok(self.database.read(move |tx| tx.prepare_cached(&sql)?.query_row([id], batch).optional()).await?)
    }
}

impl SqliteBatches {
    /// Writes the changes that an event makes to a batch. Returns `false` if the batch has already ended.
    async fn amend(&self, batch: &str, event: Event<'_>) -> StoreResult<bool> {
        let (batch, changes) = (batch.to_owned(), changes(&event, &timestamp(self.clock.now())));
        Ok(self.database.write(move |tx| write(tx, &batch, &changes)).await?)
    }
}

/// Writes the changes that an event makes to a batch, as part of a larger transaction. Returns `false` if the batch
/// has already ended.
pub(super) fn amend(tx: &Transaction<'_>, batch: &str, event: &Event<'_>, now: &str) -> Result<bool> {
    write(tx, batch, &changes(event, now))
}

fn write(tx: &Transaction<'_>, batch: &str, changes: &[(&'static str, Value)]) -> Result<bool> {
    let sets: Vec<String> = changes.iter().zip(2..).map(|((name, _), at)| format!("{name} = ?{at}")).collect();
    let sql = format!("UPDATE batches SET {} WHERE id = ?1 AND ended_at IS NULL", sets.join(", "));
    let values = changes.iter().map(|(_, value)| -> Box<dyn ToSql> {
        match value {
            Value::Text(text) => Box::new(text.as_str()),
            Value::Number(n) => Box::new(signed(*n)),
            Value::Yes => Box::new(true),
            Value::Nothing => Box::new(rusqlite::types::Null),
        }
    });
    let values = std::iter::once(Box::new(batch) as Box<dyn ToSql>).chain(values);
    Ok(tx.prepare_cached(&sql)?.execute(params_from_iter(values))? > 0)
}

fn pack(tx: &Transaction<'_>, order: &Order, now: UnixMicros) -> Result<Packed> {
    let space = order.space.name();
    let mut selection = Selection::new(order, ledger::room(tx, &order.spend.run, order.budget, now)?);
    let mut last: Option<i64> = None;
    {
        let sql =
            format!("SELECT id, key, input, tokens FROM items WHERE space = ?1 AND {WAITING} ORDER BY id LIMIT ?2");
        let mut statement = tx.prepare_cached(&sql)?;
        let mut rows = statement.query(params![space, order.most_requests as i64])?;
        while let Some(row) = rows.next()? {
            let line = (order.line_bytes)(row.get_ref(1)?.as_str()?, row.get_ref(2)?.as_str()?);
            match selection.offer(line, unsigned(row.get(3)?)) {
                Offer::Taken => last = Some(row.get(0)?),
                Offer::Complete => break,
                Offer::Full => return Ok(Packed::Full),
            }
        }
    }
    let Some(last) = last else { return Ok(Packed::Nothing) };
    let reservation = match ledger::reserve(tx, &spend(order, selection.tokens), order.budget, now)? {
        ReservationOutcome::Given(reservation) => reservation,
        ReservationOutcome::Refused { period, spent, limit } => return Ok(Packed::Refused { period, spent, limit }),
    };
    statements::claim(tx, &space, &order.id, last)?;
    let batch = packed(order, selection.items, selection.tokens, reservation.id.clone(), &timestamp(now));
    let sql = "INSERT INTO batches (id, space, status, items, tokens, entry, created_at, model, endpoint) \
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9)";
    let (items, tokens, model) = (signed(batch.items), signed(batch.tokens), to_json(&batch.model)?);
    let (entry, status) = (ledger::number(&reservation.id), batch.status.name());
    let values = params![batch.id, space, status, items, tokens, entry, batch.created_at, model, batch.endpoint];
    tx.prepare_cached(sql)?.execute(values)?;
    Ok(Packed::Batch(Box::new(batch), reservation))
}
