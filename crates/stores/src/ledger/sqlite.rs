//! Stores the ledger in SQLite.

use async_trait::async_trait;
use docweir_core::clock::{SharedClock, UnixMicros, timestamp};
use docweir_core::money::Nanodollars;
use rusqlite::{Error, OptionalExtension, Row, Transaction, params};

use super::rules::{self, EntryState, Fit, Group, Spent, State, Sums};
use super::{Amount, Budget, CostLine, EntryId, GroupBy, Ledger, Reservation, ReservationOutcome, Share, Spend};
use crate::paid::PaidError;
use crate::sqlite::Database;

type Result<T> = std::result::Result<T, Error>;

pub struct SqliteLedger {
    database: Database,
    clock: SharedClock,
}

impl SqliteLedger {
    /// Creates the ledger on a database that [`crate::paid::open`] has opened.
    pub fn new(database: Database, clock: SharedClock) -> Self {
        Self { database, clock }
    }
}

/// Holds an entry as read from its row.
struct Entry {
    id: i64,
    group: Group,
    standing: EntryState,
}

/// Returns the row number of an entry. For an invalid id, returns a number that no row has.
pub fn number(id: &EntryId) -> i64 {
    id.as_str().parse().unwrap_or(-1)
}

fn amount(n: i64) -> u64 {
    u64::try_from(n).unwrap_or_default()
}

fn signed(n: u64) -> i64 {
    i64::try_from(n).unwrap_or(i64::MAX)
}

/// Returns the sums of settled and open amounts in a run and on a day.
fn spent(tx: &Transaction<'_>, run: &str, day: &str) -> Result<Spent> {
    let sum = |condition: &str, value: &str| -> Result<Nanodollars> {
        let sql = format!("SELECT coalesce(sum(nanodollars), 0) FROM ledger_sums WHERE {condition} = ?1");
        tx.prepare_cached(&sql)?.query_row([value], |row| Ok(Nanodollars(amount(row.get(0)?))))
    };
    Ok(Spent { run: sum("run", run)?, day: sum("day", day)? })
}

/// Returns the amount that a budget still allows, or `None` if the budget has no limit.
pub fn room(tx: &Transaction<'_>, run: &str, budget: Budget, now: UnixMicros) -> Result<Option<Nanodollars>> {
    Ok(spent(tx, run, rules::day(&timestamp(now)))?.room(budget))
}

/// Performs [`Ledger::reserve`] as part of a larger transaction.
pub fn reserve(tx: &Transaction<'_>, spend: &Spend, budget: Budget, now: UnixMicros) -> Result<ReservationOutcome> {
    let at = timestamp(now);
    let day = rules::day(&at);
    let after = match spent(tx, &spend.run, day)?.reserve(spend.cost, budget) {
        Fit::Fits(after) => after,
        Fit::Exceeds { period, spent, limit } => return Ok(ReservationOutcome::Refused { period, spent, limit }),
    };
    let (group, standing) = (Group::of(spend, day), EntryState::reserved(spend.tokens, spend.cost));
    let id = insert(tx, &group, &at, &spend.subject, standing)?;
    count(tx, &group, Sums::change(None, [standing]))?;
    let id = EntryId::new(id.to_string());
    Ok(ReservationOutcome::Given(Reservation { id, run: after.run, day: after.day }))
}

fn settle(tx: &Transaction<'_>, id: i64, tokens: u64, cost: Nanodollars) -> Result<()> {
    let Some(entry) = entry_of(tx, id)? else { return Ok(()) };
    entry.standing.settle(tokens, cost).map_or(Ok(()), |after| update(tx, &entry, after))
}

/// Performs [`Ledger::settle_in_parts`] as part of a larger transaction.
pub fn settle_in_parts(tx: &Transaction<'_>, id: i64, shares: &[Share]) -> Result<()> {
    let Some(entry) = entry_of(tx, id)?.filter(|entry| entry.standing.state.is_open()) else { return Ok(()) };
    let at: String = tx.query_row("SELECT at FROM ledger WHERE id = ?1", [id], |row| row.get(0))?;
    tx.prepare_cached("DELETE FROM ledger WHERE id = ?1")?.execute([id])?;
    let settled = (0..).zip(shares).map(|(nth, share)| rules::share(nth, share));
    for (share, standing) in shares.iter().zip(settled.clone()) {
        insert(tx, &entry.group, &at, &share.subject, standing)?;
    }
    count(tx, &entry.group, Sums::change(Some(entry.standing), settled))
}

/// Performs [`Ledger::doubt`] as part of a larger transaction.
pub fn doubt(tx: &Transaction<'_>, id: i64) -> Result<()> {
    entry_of(tx, id)?.map_or(Ok(()), |entry| doubt_entry(tx, &entry))
}

fn doubt_entry(tx: &Transaction<'_>, entry: &Entry) -> Result<()> {
    entry.standing.doubt().map_or(Ok(()), |after| update(tx, entry, after))
}

const ENTRY: &str = "id, day, run, mode, stage, model, collection, state, tokens, nanodollars";

fn entry_of(tx: &Transaction<'_>, id: i64) -> Result<Option<Entry>> {
    let sql = format!("SELECT {ENTRY} FROM ledger WHERE id = ?1");
    tx.prepare_cached(&sql)?.query_row([id], entry).optional()
}

fn entry(row: &Row<'_>) -> Result<Entry> {
    let group = Group {
        day: row.get(1)?,
        run: row.get(2)?,
        mode: row.get(3)?,
        stage: row.get(4)?,
        model: row.get(5)?,
        collection: row.get(6)?,
    };
    let state = row.get_ref(7)?.as_str()?;
    // The table allows no other value. Only an open entry changes. It counts as one call, because all its shares are
    // settled in one step.
    let state = State::ALL.into_iter().find(|s| s.name() == state).unwrap_or(State::Settled);
    let amount = Amount { calls: 1, tokens: amount(row.get(8)?), cost: Nanodollars(amount(row.get(9)?)) };
    Ok(Entry { id: row.get(0)?, group, standing: EntryState { state, amount } })
}

fn insert(tx: &Transaction<'_>, group: &Group, at: &str, subject: &str, standing: EntryState) -> Result<i64> {
    let sql = "INSERT INTO ledger (at, day, run, mode, stage, model, collection, subject, state, tokens, nanodollars) \
        VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10, ?11)";
    let Amount { tokens, cost, .. } = standing.amount;
    let (state, t, n) = (standing.state.name(), signed(tokens), signed(cost.0));
    let g = group;
    let values = params![at, g.day, g.run, g.mode, g.stage, g.model, g.collection, subject, state, t, n];
    tx.prepare_cached(sql)?.execute(values)?;
    Ok(tx.last_insert_rowid())
}

fn update(tx: &Transaction<'_>, entry: &Entry, after: EntryState) -> Result<()> {
    let sql = "UPDATE ledger SET state = ?2, tokens = ?3, nanodollars = ?4 WHERE id = ?1";
    let Amount { tokens, cost, .. } = after.amount;
    tx.prepare_cached(sql)?.execute(params![entry.id, after.state.name(), signed(tokens), signed(cost.0)])?;
    count(tx, &entry.group, Sums::change(Some(entry.standing), [after]))
}

fn count(tx: &Transaction<'_>, g: &Group, sums: Sums) -> Result<()> {
    let sql = "INSERT INTO ledger_sums VALUES (?1, ?2, ?3, ?4, ?5, ?6, ?7, ?8, ?9, ?10) \
        ON CONFLICT (day, run, mode, stage, model, collection, state) DO UPDATE SET calls = calls + excluded.calls, \
        tokens = tokens + excluded.tokens, nanodollars = nanodollars + excluded.nanodollars";
    for (state, [calls, tokens, nanodollars]) in sums.changed() {
        let state = state.name();
        let values = params![g.day, g.run, g.mode, g.stage, g.model, g.collection, state, calls, tokens, nanodollars];
        tx.prepare_cached(sql)?.execute(values)?;
    }
    Ok(())
}

#[async_trait]
impl Ledger for SqliteLedger {
    async fn reserve(&self, spend: Spend, budget: Budget) -> std::result::Result<ReservationOutcome, PaidError> {
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
            let sql = format!("SELECT {ENTRY} FROM ledger WHERE state = 'RESERVED' AND mode = 'live' AND run <> ?1");
            let others = tx.prepare_cached(&sql)?.query_map([run], entry)?.collect::<Result<Vec<_>>>()?;
            others.iter().try_for_each(|entry| doubt_entry(tx, entry))?;
            Ok(others.len() as u64)
        });
        Ok(doubted.await?)
    }

    async fn report(&self, by: GroupBy, since: &str, limit: usize) -> std::result::Result<Vec<CostLine>, PaidError> {
        let since = since.to_owned();
        Ok(self.database.read(move |tx| report(tx, by, &since, limit)).await?)
    }

    async fn forget_before(&self, day: &str) -> std::result::Result<u64, PaidError> {
        let day = day.to_owned();
        let sql = "DELETE FROM ledger WHERE day < ?1 AND state = 'SETTLED'";
        Ok(self.database.write(move |tx| Ok(tx.execute(sql, [day])? as u64)).await?)
    }
}

fn report(tx: &Transaction<'_>, by: GroupBy, since: &str, limit: usize) -> Result<Vec<CostLine>> {
    let column = match by {
        GroupBy::Day => "day",
        GroupBy::Run => "run",
        GroupBy::Mode => "mode",
        GroupBy::Stage => "stage",
        GroupBy::Model => "model",
        GroupBy::Collection => "collection",
        GroupBy::Subject => "subject",
    };
    let (table, calls) = if by == GroupBy::Subject { ("ledger", "1") } else { ("ledger_sums", "calls") };
    let of = |state: &str, what: &str| format!("sum(CASE WHEN state = '{state}' THEN {what} ELSE 0 END)");
    let sums = State::COUNTED.map(|s| [calls, "tokens", "nanodollars"].map(|w| of(s.name(), w)).join(", "));
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
        Ok(CostLine { name: row.get(0)?, settled: of(1)?, reserved: of(4)?, in_doubt: of(7)? })
    };
    let limit = i64::try_from(limit).unwrap_or(i64::MAX);
    tx.prepare(&sql)?.query_map(params![since, limit], line)?.collect()
}
