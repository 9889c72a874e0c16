//! Implements [`Records`] in SQLite.

use async_trait::async_trait;
use docweir_core::model::ModelIdentity;
use rusqlite::{OptionalExtension, Transaction, params};

use super::state::{self, Given, KNOWN, KNOWN_COLUMNS, known};
use super::{Counts, NewItem, Records, Result, Space, SqliteBatches, StoreResult, json, statements, to_json, unsigned};
use crate::batches::rules::records::{self, Incoming};
use crate::batches::rules::{ItemStatus, Step, hash_of};

#[async_trait]
impl Records for SqliteBatches {
    async fn put(&self, space: &Space, items: Vec<NewItem>) -> StoreResult<super::Put> {
        let space = space.name();
        let put = self.database.write(move |tx| {
            items.iter().try_fold(super::Put::default(), |mut sum, item| {
                sum += put(tx, &space, item)?;
                Ok(sum)
            })
        });
        Ok(put.await?)
    }

    async fn delete(&self, space: &Space, keys: Vec<String>) -> StoreResult<u64> {
        let space = space.name();
        let deleted = self.database.write(move |tx| {
            keys.iter().try_fold(0, |n, key| {
                let Some(item) = state::find(tx, "space = ?1 AND key = ?2", params![space, key])? else { return Ok(n) };
                let step = records::delete(&item.state);
                state::apply(tx, &item, &step, Given::Nothing)?;
                Ok(n + u64::from(step.is_change()))
            })
        });
        Ok(deleted.await?)
    }

    async fn purge_log(&self) -> StoreResult<()> {
        Ok(self.database.truncate_log().await?)
    }

    async fn retry(&self, batch: Option<&str>) -> StoreResult<u64> {
        let batch = batch.map(str::to_owned);
        Ok(self.database.write(move |tx| Ok(statements::retry(tx, batch.as_deref())? as u64)).await?)
    }

    async fn is_done(&self, space: &str, key: &str, input: &str) -> StoreResult<bool> {
        let (space, key, hash) = (space.to_owned(), key.to_owned(), hash_of(input));
        let found =
            self.database.read(move |tx| state::find(tx, "space = ?1 AND key = ?2", params![space, key])).await?;
        Ok(found.is_some_and(|item| records::is_done(&item.state, &hash)))
    }

    async fn counts(&self) -> StoreResult<Vec<Counts>> {
        let sql = "SELECT space, status, count(*) FROM items WHERE deleted = 0 GROUP BY space, status ORDER BY space";
        let counts = self.database.read(move |tx| {
            let mut all: Vec<Counts> = Vec::new();
            let mut statement = tx.prepare_cached(sql)?;
            let mut rows = statement.query([])?;
            while let Some(row) = rows.next()? {
                let (space, items) = (Space::parse(row.get_ref(0)?.as_str()?), unsigned(row.get(2)?));
                let status = ItemStatus::parse(row.get_ref(1)?.as_str()?);
                status.into_iter().for_each(|status| records::count(&mut all, space.shown(), status, items));
            }
            Ok(all)
        });
        Ok(counts.await?)
    }

    async fn bind(&self, collection: &str, model: &ModelIdentity) -> StoreResult<ModelIdentity> {
        let (collection, model) = (collection.to_owned(), model.clone());
        let bound = self.database.write(move |tx| {
            let sql = "INSERT OR IGNORE INTO collections VALUES (?1, ?2)";
            tx.prepare_cached(sql)?.execute(params![collection, to_json(&model)?])?;
            let sql = "SELECT model FROM collections WHERE name = ?1";
            tx.query_row(sql, [collection], |row| json(row.get_ref(0)?.as_str()?))
        });
        Ok(bound.await?)
    }

    async fn collections(&self) -> StoreResult<Vec<(String, ModelIdentity)>> {
        let sql = "SELECT name, model FROM collections ORDER BY name";
        let all = self.database.read(move |tx| {
            let one = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, json(row.get_ref(1)?.as_str()?)?));
            tx.prepare_cached(sql)?.query_map([], one)?.collect()
        });
        Ok(all.await?)
    }
}

fn put(tx: &Transaction<'_>, space: &str, item: &NewItem) -> Result<super::Put> {
    let given = state::Put::of(item)?;
    let sql = format!("SELECT {KNOWN}, shown = ?3 FROM items WHERE space = ?1 AND key = ?2");
    let found = tx
        .prepare_cached(&sql)?
        .query_row(params![space, item.key, given.shown], |row| Ok((known(row)?, row.get(KNOWN_COLUMNS)?)))
        .optional()?;
    let incoming = Incoming {
        hash: hash_of(&item.input),
        noise: item.noise,
        from_table: given.origin.is_some(),
        same_shown: found.as_ref().is_some_and(|(_, same)| *same),
    };
    let (step, put) = records::put(found.as_ref().map(|(known, _)| &known.state), incoming);
    match (&found, &step) {
        (Some((known, _)), step) => state::apply(tx, known, step, Given::Put(&given))?,
        (None, Step::Write { state, .. }) => state::insert(tx, space, &item.key, state, &given, None).map(drop)?,
        (None, _) => {}
    }
    Ok(put)
}
