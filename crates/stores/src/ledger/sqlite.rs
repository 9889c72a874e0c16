//! The ledger in SQLite.

use async_trait::async_trait;
use docweir_core::clock::{SharedClock, UnixMicros, timestamp};
use docweir_core::money::Nanodollars;
use rusqlite::{Error, OptionalExtension, Row, Transaction, params};

use super::{Amount, Asked, Budget, By, EntryId, Ledger, Line, Period, Reservation, Share, Spend};
use crate::paid::PaidError;
use crate::sqlite::Database;

type Result<T> = std::result::Result<T, Error>;

const RESERVED: &str = "RESERVED";
const SETTLED: &str = "SETTLED";
const IN_DOUBT: &str = "IN_DOUBT";

pub struct SqliteLedger {
    database: Database,
    clock: SharedClock,
}

impl SqliteLedger {
    /// In the file of [`crate::paid`].
    pub fn new(database: Database, clock: SharedClock) -> Self {
        Self { database, clock }
    }
}

/// An entry without its amounts.
struct Entry {
    id: i64,
    key: Key,
    state: String,
    tokens: u64,
    cost: Nanodollars,
}

/// What sums are kept by.
#[derive(Clone)]
struct Key {
    day: String,
    run: String,
    mode: String,
    stage: String,
    model: String,
    collection: String,
}

/// The row of an entry. No row has the number of a name that is none.
pub fn number(id: &EntryId) -> i64 {
    id.as_str().parse().unwrap_or(-1)
}

/// The day of a moment, UTC: `YYYY-MM-DD`.
fn day(at: &str) -> &str {
    at.get(..10).unwrap_or(at)
}

fn amount(n: i64) -> u64 {
    u64::try_from(n).unwrap_or_default()
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// Spent and open in a run and on a day.
fn spent(tx: &Transaction<'_>, run: &str, day: &str) -> Result<(Nanodollars, Nanodollars)> {
    let sum = |condition: &str, value: &str| -> Result<Nanodollars> {
        let sql = format!("SELECT coalesce(sum(nanodollars), 0) FROM ledger_sums WHERE {condition} = ?1");
        tx.prepare_cached(&sql)?.query_row([value], |row| Ok(Nanodollars(amount(row.get(0)?))))
    };
    Ok((sum("run", run)?, sum("day", day)?))
}

/// What a budget still allows; `None` without one.
pub fn room(tx: &Transaction<'_>, run: &str, budget: Budget, now: UnixMicros) -> Result<Option<Nanodollars>> {
    let at = timestamp(now);
    let (of_run, of_day) = spent(tx, run, day(&at))?;
    let left = [budget.run.map(|limit| limit - of_run), budget.day.map(|limit| limit - of_day)];
    Ok(left.into_iter().flatten().min())
}

/// [`Ledger::reserve`], as a part of a larger change.
pub fn reserve(tx: &Transaction<'_>, spend: &Spend, budget: Budget, now: UnixMicros) -> Result<Asked> {
    let at = timestamp(now);
    let day = day(&at);
    let (run_before, day_before) = spent(tx, &spend.run, day)?;
    for (period, limit, spent) in [(Period::Run, budget.run, run_before), (Period::Day, budget.day, day_before)] {
        if let Some(limit) = limit.filter(|limit| spent + spend.cost > *limit) {
            return Ok(Asked::Refused { period, spent, limit });
        }
    }
    let key = Key {
        day: day.to_owned(),
        run: spend.run.clone(),
        mode: spend.mode.name().to_owned(),
        stage: spend.stage.clone(),
        model: spend.model.clone(),
        collection: spend.collection.clone(),
    };
    let id = insert(tx, &key, &at, &spend.subject, RESERVED, spend.tokens, spend.cost)?;
    let id = EntryId::new(id.to_string());
    Ok(Asked::Given(Reservation { id, run: run_before + spend.cost, day: day_before + spend.cost }))
}

fn settle(tx: &Transaction<'_>, id: i64, tokens: u64, cost: Nanodollars) -> Result<()> {
    let Some(entry) = open_entry(tx, id)? else { return Ok(()) };
    add(tx, &entry.key, &entry.state, -1, -signed(entry.tokens), -signed(entry.cost.0))?;
    add(tx, &entry.key, SETTLED, 1, signed(tokens), signed(cost.0))?;
    let sql = "UPDATE ledger SET state = ?2, tokens = ?3, nanodollars = ?4 WHERE id = ?1";
    tx.prepare_cached(sql)?.execute(params![id, SETTLED, signed(tokens), signed(cost.0)])?;
    Ok(())
}

/// Settles an entry as several, each of a subject of its own. Without shares it is settled as nothing.
pub fn settle_in_parts(tx: &Transaction<'_>, id: i64, shares: &[Share]) -> Result<()> {
    let Some(entry) = open_entry(tx, id)? else { return Ok(()) };
    let at: String = tx.query_row("SELECT at FROM ledger WHERE id = ?1", [id], |row| row.get(0))?;
    remove(tx, &entry)?;
    for (nth, share) in shares.iter().enumerate() {
        insert(tx, &entry.key, &at, &share.subject, SETTLED, share.tokens, share.cost)?;
        if nth > 0 {
            // One call all the same.
            add(tx, &entry.key, SETTLED, -1, 0, 0)?;
        }
    }
    Ok(())
}

/// [`Ledger::doubt`], as a part of a larger change.
pub fn doubt(tx: &Transaction<'_>, id: i64) -> Result<()> {
    let reserved = open_entry(tx, id)?.filter(|entry| entry.state == RESERVED);
    reserved.map_or(Ok(()), |entry| now_in_doubt(tx, &entry))
}

/// `None` once it is settled: an outcome is written once.
fn open_entry(tx: &Transaction<'_>, id: i64) -> Result<Option<Entry>> {
    let sql = "SELECT id, day, run, mode, stage, model, collection, state, tokens, nanodollars FROM ledger \
        WHERE id = ?1 AND state <> 'SETTLED'";
    tx.prepare_cached(sql)?.query_row([id], entry).optional()
}

fn entry(row: &Row<'_>) -> Result<Entry> {
    let key = Key {
        day: row.get(1)?,
        run: row.get(2)?,
        mode: row.get(3)?,
        stage: row.get(4)?,
        model: row.get(5)?,
        collection: row.get(6)?,
    };
    let cost = Nanodollars(amount(row.get(9)?));
    Ok(Entry { id: row.get(0)?, key, state: row.get(7)?, tokens: amount(row.get(8)?), cost })
}

fn insert(
    tx: &Transaction<'_>,
    key: &Key,
    at: &str,
    subject: &str,
    state: &str,
    tokens: u64,
    cost: Nanodollars,
) -> Result<i64> {
    let sql = "INSERT INTO ledger (at, day, run, mode, stage, model, collection, subject, state, tokens, nanodollars) \
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
    let (t, n) = (signed(tokens), signed(cost.0));
    let k = key;
    tx.prepare_cached(sql)?.execute(params![
        at,
        k.day,
        k.run,
        k.mode,
        k.stage,
        k.model,
        k.collection,
        subject,
        state,
        t,
        n
    ])?;
    add(tx, key, state, 1, t, n)?;
    Ok(tx.last_insert_rowid())
}

fn remove(tx: &Transaction<'_>, entry: &Entry) -> Result<()> {
    tx.prepare_cached("DELETE FROM ledger WHERE id = ?1")?.execute([entry.id])?;
    add(tx, &entry.key, &entry.state, -1, -signed(entry.tokens), -signed(entry.cost.0))
}

fn add(tx: &Transaction<'_>, k: &Key, state: &str, calls: i64, tokens: i64, nanodollars: i64) -> Result<()> {
    let sql = "INSERT INTO ledger_sums VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) \
        ON CONFLICT (day, run, mode, stage, model, collection, state) DO UPDATE SET calls = calls + excluded.calls, \
        tokens = tokens + excluded.tokens, nanodollars = nanodollars + excluded.nanodollars";
    let values = params![k.day, k.run, k.mode, k.stage, k.model, k.collection, state, calls, tokens, nanodollars];
    tx.prepare_cached(sql)?.execute(values)?;
    Ok(())
}

#[async_trait]
impl Ledger for SqliteLedger {
    async fn reserve(&self, spend: Spend, budget: Budget) -> std::result::Result<Asked, PaidError> {
        let now = self.clock.now();
        Ok(self.database.write(move |tx| reserve(tx, &spend, budget, now)).await?)
    }

    async fn settle(&self, id: &EntryId, tokens: u64, cost: Nanodollars) -> std::result::Result<(), PaidError> {
        let id = number(id);
        Ok(self.database.write(move |tx| settle(tx, id, tokens, cost)).await?)
    }

    async fn settle_in_parts(&self, id: &EntryId, shares: &[Share]) -> std::result::Result<(), PaidError> {
        let (id, shares) = (number(id), shares.to_vec());
        Ok(self.database.write(move |tx| settle_in_parts(tx, id, &shares)).await?)
    }

    async fn release(&self, id: &EntryId) -> std::result::Result<(), PaidError> {
        self.settle_in_parts(id, &[]).await
    }

    async fn doubt(&self, id: &EntryId) -> std::result::Result<(), PaidError> {
        let id = number(id);
        Ok(self.database.write(move |tx| doubt(tx, id)).await?)
    }

    async fn doubt_others(&self, run: &str) -> std::result::Result<u64, PaidError> {
        let run = run.to_owned();
        let doubted = self.database.write(move |tx| {
            let sql = "SELECT id, day, run, mode, stage, model, collection, state, tokens, nanodollars FROM ledger \
                WHERE state = 'RESERVED' AND mode = 'live' AND run <> ?1";
            let others = tx.prepare_cached(sql)?.query_map([run], entry)?.collect::<Result<Vec<_>>>()?;
            others.iter().try_for_each(|entry| now_in_doubt(tx, entry))?;
            Ok(others.len() as u64)
        });
        Ok(doubted.await?)
    }

    async fn report(&self, by: By, since: &str, limit: usize) -> std::result::Result<Vec<Line>, PaidError> {
        let since = since.to_owned();
        Ok(self.database.read(move |tx| report(tx, by, &since, limit)).await?)
    }

    async fn forget_before(&self, day: &str) -> std::result::Result<u64, PaidError> {
        let day = day.to_owned();
        let sql = "DELETE FROM ledger WHERE day < ?1 AND state = 'SETTLED'";
        Ok(self.database.write(move |tx| Ok(tx.execute(sql, [day])? as u64)).await?)
    }
}

fn now_in_doubt(tx: &Transaction<'_>, entry: &Entry) -> Result<()> {
    let (tokens, cost) = (signed(entry.tokens), signed(entry.cost.0));
    add(tx, &entry.key, &entry.state, -1, -tokens, -cost)?;
    add(tx, &entry.key, IN_DOUBT, 1, tokens, cost)?;
    tx.prepare_cached("UPDATE ledger SET state = 'IN_DOUBT' WHERE id = ?1")?.execute([entry.id])?;
    Ok(())
}

fn report(tx: &Transaction<'_>, by: By, since: &str, limit: usize) -> Result<Vec<Line>> {
    let column = match by {
        By::Day => "day",
        By::Run => "run",
        By::Mode => "mode",
        By::Stage => "stage",
        By::Model => "model",
        By::Collection => "collection",
        By::Subject => "subject",
    };
    let (table, calls) = if by == By::Subject { ("ledger", "1") } else { ("ledger_sums", "calls") };
    let of = |state: &str, what: &str| format!("sum(CASE WHEN state = '{state}' THEN {what} ELSE 0 END)");
    let sums = [SETTLED, RESERVED, IN_DOUBT].map(|s| [calls, "tokens", "nanodollars"].map(|w| of(s, w)).join(", "));
    let sql = format!(
        "SELECT * FROM (SELECT {column}, {} FROM {table} WHERE day >= ?1 GROUP BY {column} \
         ORDER BY sum(nanodollars) DESC, {column} LIMIT ?2) ORDER BY 1",
        sums.join(", ")
    );
    let line = |row: &Row<'_>| {
        let of = |at: usize| -> Result<Amount> {
            let cost = Nanodollars(amount(row.get(at + 2)?));
            Ok(Amount { calls: amount(row.get(at)?), tokens: amount(row.get(at + 1)?), cost })
        };
        Ok(Line { name: row.get(0)?, settled: of(1)?, reserved: of(4)?, in_doubt: of(7)? })
    };
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    tx.prepare(&sql)?.query_map(params![since, limit], line)?.collect()
}
