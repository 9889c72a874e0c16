//! Records that came from tables, and what those have to be told.

use rusqlite::{Row, params};

use super::{
    Done, ItemId, Origin, Outcome, Owed, Result, Shown, Space, SqliteBatches, item_id, json, row_of, signed, unsigned,
};

impl SqliteBatches {
    pub(super) async fn untold(&self, space: &Space, except: &[String], limit: usize) -> Done<Vec<Owed>> {
        let (space, except) = (space.name(), except.to_vec());
        let sql = "SELECT id, key, version, status, origin, shown, asks || ' ' || version || ' ' || status FROM items \
            WHERE space = ?1 AND origin IS NOT NULL AND deleted = 0 AND status IN ('SUCCESS', 'FAILED', 'NOISE') \
            AND coalesce(told, '') <> asks || ' ' || version || ' ' || status ORDER BY id";
        self.database
            .read(move |tx| {
                let mut statement = tx.prepare_cached(sql)?;
                let mut rows = statement.query([space])?;
                let mut found = Vec::new();
                while found.len() < limit
                    && let Some(row) = rows.next()?
                {
                    found.extend(owed(row)?.filter(|owed| !except.contains(&owed.origin.table)));
                }
                Ok(found)
            })
            .await
    }

    pub(super) async fn told(&self, told: Vec<(ItemId, String)>) -> Done<()> {
        self.database
            .write(move |tx| {
                let mut statement = tx.prepare_cached("UPDATE items SET told = ?2 WHERE id = ?1")?;
                told.iter().try_for_each(|(item, mark)| statement.execute(params![row_of(item), mark]).map(drop))
            })
            .await
    }

    pub(super) async fn forget(&self, items: Vec<(ItemId, u64)>) -> Done<u64> {
        let sql = "UPDATE items SET deleted = 1, version = version + 1, status = 'NONE', batch = NULL, error = NULL, \
            reuse = 0, input = '', shown = '', origin = NULL WHERE id = ?1 AND version = ?2 AND deleted = 0";
        self.database
            .write(move |tx| {
                let mut statement = tx.prepare_cached(sql)?;
                items.iter().try_fold(0, |n, (item, version)| {
                    Ok(n + statement.execute(params![row_of(item), signed(*version)])? as u64)
                })
            })
            .await
    }
}

fn owed(row: &Row<'_>) -> Result<Option<Owed>> {
    let status: String = row.get(3)?;
    let Some(outcome) = Outcome::ALL.into_iter().find(|outcome| outcome.name() == status) else { return Ok(None) };
    let origin: Origin = json(row.get_ref(4)?.as_str()?)?;
    let Shown { text, kind, .. } = json(row.get_ref(5)?.as_str()?)?;
    let (item, key, version, mark) = (item_id(row.get(0)?), row.get(1)?, unsigned(row.get(2)?), row.get(6)?);
    Ok(Some(Owed { item, key, version, outcome, origin, text, kind, mark }))
}
