//! Implements [`RecordOutbox`] in SQLite.

use async_trait::async_trait;
use rusqlite::{Row, Transaction, params};

use super::state::{self, Given, KNOWN, KNOWN_COLUMNS, Known, known};
use super::statements::{LEAVES, OWES, REFRESHES};
use super::{
    DisplayData, HeldVersion, ItemId, Origin, PendingOutcome, RecordOutbox, Removal, Result, SENT, Sent, Space,
    SqliteBatches, StoreResult, item_id, json, row_of, sent, unsigned,
};
use crate::batches::rules::{ItemState, Step, records};

/// Number of items that are compared with the vector store in one step.
const PAGE: usize = 1_000;

impl SqliteBatches {
    /// Applies a rule to each item. Returns the number of changed items.
    async fn change<T: Send + 'static>(
        &self,
        items: Vec<(ItemId, T)>,
        rule: impl Fn(&ItemState, &T) -> Step + Send + 'static,
    ) -> StoreResult<u64> {
        let changed = self.database.write(move |tx| {
            items.iter().try_fold(0, |n, (item, with)| {
                let Some(item) = state::by_row(tx, row_of(item))? else { return Ok(n) };
                let step = rule(&item.state, with);
                state::apply(tx, &item, &step, Given::Nothing)?;
                Ok(n + u64::from(step.is_change()))
            })
        });
        Ok(changed.await?)
    }
}

#[async_trait]
impl RecordOutbox for SqliteBatches {
    async fn removals(&self, space: &Space, limit: usize) -> StoreResult<Vec<Removal>> {
        let space = space.name();
        let removals = self.database.read(move |tx| {
            let sql = format!("SELECT id, key, version FROM items WHERE space = ?1 AND {LEAVES} LIMIT ?2");
            let removal = |row: &Row<'_>| {
                Ok(Removal { item: item_id(row.get(0)?), key: row.get(1)?, version: unsigned(row.get(2)?) })
            };
            tx.prepare_cached(&sql)?.query_map(params![space, limit as i64], removal)?.collect()
        });
        Ok(removals.await?)
    }

    async fn removed(&self, removals: Vec<Removal>) -> StoreResult<()> {
        let removals = removals.into_iter().map(|removal| (removal.item, removal.version)).collect();
        self.change(removals, |now, version| records::removed(now, *version)).await.map(drop)
    }

    async fn to_refresh(&self, space: &Space, limit: usize) -> StoreResult<Vec<Sent>> {
        let space = space.name();
        let records = self.database.read(move |tx| {
            let sql = format!("SELECT {SENT} FROM items i WHERE space = ?1 AND {REFRESHES} LIMIT ?2");
            tx.prepare_cached(&sql)?.query_map(params![space, limit as i64], sent)?.collect()
        });
        Ok(records.await?)
    }

    async fn refreshed(&self, items: Vec<(ItemId, u64, bool)>) -> StoreResult<()> {
        let items = items.into_iter().map(|(item, version, written)| (item, (version, written))).collect();
        self.change(items, |now, (version, written)| records::refreshed(now, *version, *written)).await.map(drop)
    }

    async fn reconcile(&self, space: &Space, held: HeldVersion) -> StoreResult<u64> {
        let space = space.name();
        let lost = self.database.write(move |tx| {
            let (mut lost, mut after) = (0, 0);
            loop {
                let page = stored(tx, &space, after)?;
                let Some((last, _)) = page.last() else { return Ok(lost) };
                after = last.id;
                for (item, key) in &page {
                    let step = records::reconcile(&item.state, held(key));
                    state::apply(tx, item, &step, Given::Nothing)?;
                    lost += u64::from(step.is_change());
                }
            }
        });
        Ok(lost.await?)
    }

    async fn untold(&self, space: &Space, except: &[String], limit: usize) -> StoreResult<Vec<PendingOutcome>> {
        let (space, except) = (space.name(), except.to_vec());
        let found = self.database.read(move |tx| {
            let sql = format!("SELECT {KNOWN}, key, origin, shown FROM items WHERE space = ?1 AND {OWES} ORDER BY id");
            let mut statement = tx.prepare_cached(&sql)?;
            let mut rows = statement.query([space])?;
            let mut found = Vec::new();
            while found.len() < limit
                && let Some(row) = rows.next()?
            {
                found.extend(owed(row)?.filter(|owed| !except.contains(&owed.origin.table)));
            }
            Ok(found)
        });
        Ok(found.await?)
    }

    async fn told(&self, told: Vec<(ItemId, String)>) -> StoreResult<()> {
        self.change(told, |now, mark| records::told(now, mark)).await.map(drop)
    }

    async fn forget(&self, items: Vec<(ItemId, u64)>) -> StoreResult<u64> {
        self.change(items, |now, version| records::forget(now, *version)).await
    }
}

/// Lists items that should have a row in the vector store. The list is in order of the items' row numbers in SQLite,
/// and begins after the row number `after`.
fn stored(tx: &Transaction<'_>, space: &str, after: i64) -> Result<Vec<(Known, String)>> {
    let sql = format!(
        "SELECT {KNOWN}, key FROM items WHERE space = ?1 AND stored IS NOT NULL AND id > ?2 ORDER BY id LIMIT ?3"
    );
    let one = |row: &Row<'_>| Ok((known(row)?, row.get(KNOWN_COLUMNS)?));
    tx.prepare_cached(&sql)?.query_map(params![space, after, PAGE as i64], one)?.collect()
}

fn owed(row: &Row<'_>) -> Result<Option<PendingOutcome>> {
    let Known { id, state, .. } = known(row)?;
    let Some((outcome, mark)) = state.status.outcome().zip(state.mark()) else { return Ok(None) };
    let key = row.get(KNOWN_COLUMNS)?;
    let origin: Origin = json(row.get_ref(KNOWN_COLUMNS + 1)?.as_str()?)?;
    let DisplayData { text, kind, .. } = json(row.get_ref(KNOWN_COLUMNS + 2)?.as_str()?)?;
    Ok(Some(PendingOutcome { item: item_id(id), key, version: state.version, outcome, origin, text, kind, mark }))
}
