//! Implements [`LiveCalls`] in SQLite.

use async_trait::async_trait;
use rusqlite::params;

use super::state::{self, Given};
use super::statements::{self, FRESH, WAITING};
use super::{ItemId, LiveCalls, SENT, SENT_COLUMNS, Sent, Space, SqliteBatches, StoreResult, row_of, sent};
use crate::batches::rules::packing::LiveSelection;
use crate::batches::rules::{ItemStatus, Step, sending};

#[async_trait]
impl LiveCalls for SqliteBatches {
    async fn forget_live(&self) -> StoreResult<u64> {
        Ok(self.database.write(move |tx| Ok(statements::abandon_live(tx)? as u64)).await?)
    }

    async fn is_any_waiting(&self, space: &Space) -> StoreResult<bool> {
        let space = space.name();
        let sql = format!("SELECT EXISTS (SELECT 1 FROM items WHERE space = ?1 AND {WAITING})");
        Ok(self.database.read(move |tx| tx.prepare_cached(&sql)?.query_row([space], |row| row.get(0))).await?)
    }

    async fn take_live(
        &self,
        name: &str,
        space: &Space,
        limit: usize,
        most_tokens: u64,
        most_bytes: usize,
    ) -> StoreResult<Vec<(Sent, String)>> {
        let (name, space) = (name.to_owned(), space.name());
        let taken = self.database.write(move |tx| {
            let sql =
                format!("SELECT {SENT}, i.input FROM items i WHERE space = ?1 AND {WAITING} ORDER BY id LIMIT ?2");
            let mut taken: Vec<(Sent, String)> = Vec::new();
            {
                let mut selection = LiveSelection::new(most_tokens, most_bytes);
                let mut statement = tx.prepare_cached(&sql)?;
                let mut rows = statement.query(params![space, limit as i64])?;
                while let Some(row) = rows.next()? {
                    let more = sent(row)?;
                    if !selection.offer(more.tokens, more.bytes) {
                        break;
                    }
                    taken.push((more, row.get(SENT_COLUMNS)?));
                }
            }
            if let Some((last, _)) = taken.last() {
                statements::claim(tx, &space, &name, row_of(&last.item))?;
            }
            Ok(taken)
        });
        Ok(taken.await?)
    }

    /// Releases all items of the call, because the call as a whole has failed.
    async fn give_back_live(&self, name: &str, _: Vec<ItemId>) -> StoreResult<()> {
        let name = name.to_owned();
        Ok(self.database.write(move |tx| statements::unclaim(tx, &name).map(drop)).await?)
    }

    async fn fail_live(&self, name: &str, item: &ItemId, error: &str, most_attempts: u32) -> StoreResult<bool> {
        let (name, item, error) = (name.to_owned(), row_of(item), error.to_owned());
        let failed = self.database.write(move |tx| {
            let Some(item) = state::by_row(tx, item)? else { return Ok(false) };
            let step = sending::refuse(&item.state, &name, &error, true, most_attempts);
            state::apply(tx, &item, &step, Given::Nothing)?;
            Ok(matches!(step, Step::Write { state, .. } if state.status == ItemStatus::Failed))
        });
        Ok(failed.await?)
    }

    async fn held_live(&self, name: &str, items: Vec<ItemId>) -> StoreResult<Vec<bool>> {
        let name = name.to_owned();
        let held = self.database.read(move |tx| {
            let sql = format!("SELECT EXISTS (SELECT 1 FROM items i WHERE i.id = ?2 AND {FRESH})");
            let mut statement = tx.prepare_cached(&sql)?;
            items.iter().map(|item| statement.query_row(params![name, row_of(item)], |row| row.get(0))).collect()
        });
        Ok(held.await?)
    }
}
