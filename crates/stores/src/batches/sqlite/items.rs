//! Records: what is known of them, what is to be sent, what has to leave the vector store.

use docweir_core::model::ModelIdentity;
use rusqlite::{OptionalExtension, Transaction, params};
use sha2::{Digest, Sha256};

use super::harvest::sent;
use super::{
    Counts, Done, HeldVersion, ItemId, NewItem, Put, Removal, Result, Sent, Space, SqliteBatches, Waiting, item_id,
    json, row_of, signed, to_json, unsigned,
};

impl SqliteBatches {
    pub(super) async fn put(&self, space: &Space, items: Vec<NewItem>) -> Done<Put> {
        let space = space.name();
        self.database
            .write(move |tx| {
                let mut put = Put::default();
                for item in &items {
                    put += one(tx, &space, item)?;
                }
                Ok(put)
            })
            .await
    }

    pub(super) async fn bind(&self, collection: &str, model: &ModelIdentity) -> Done<ModelIdentity> {
        let (collection, model) = (collection.to_owned(), model.clone());
        self.database
            .write(move |tx| {
                let sql = "INSERT OR IGNORE INTO collections VALUES (?1, ?2)";
                tx.prepare_cached(sql)?.execute(params![collection, to_json(&model)?])?;
                let sql = "SELECT model FROM collections WHERE name = ?1";
                tx.query_row(sql, [collection], |row| json(row.get_ref(0)?.as_str()?))
            })
            .await
    }

    pub(super) async fn delete(&self, space: &Space, keys: Vec<String>) -> Done<u64> {
        let space = space.name();
        let sql = "UPDATE items SET deleted = 1, version = version + 1, status = 'NONE', batch = NULL, error = NULL, \
            reuse = 0, input = '', shown = '', origin = NULL WHERE space = ?1 AND key = ?2 AND deleted = 0";
        self.database
            .write(move |tx| {
                let mut statement = tx.prepare_cached(sql)?;
                keys.iter().try_fold(0, |n, key| Ok(n + statement.execute(params![space, key])? as u64))
            })
            .await
    }

    pub(super) async fn removals(&self, space: &Space, limit: usize) -> Done<Vec<Removal>> {
        let space = space.name();
        let sql = "SELECT id, key, version FROM items WHERE space = ?1 AND stored IS NOT NULL \
            AND (deleted = 1 OR status = 'NOISE') LIMIT ?2";
        self.database
            .read(move |tx| {
                let removal = |row: &rusqlite::Row<'_>| {
                    Ok(Removal { item: item_id(row.get(0)?), key: row.get(1)?, version: unsigned(row.get(2)?) })
                };
                tx.prepare_cached(sql)?.query_map(params![space, limit as i64], removal)?.collect()
            })
            .await
    }

    pub(super) async fn removed(&self, removals: Vec<Removal>) -> Done<()> {
        self.database
            .write(move |tx| {
                let mut statement =
                    tx.prepare_cached("UPDATE items SET stored = NULL WHERE id = ?1 AND version = ?2")?;
                removals
                    .iter()
                    .try_for_each(|r| statement.execute(params![row_of(&r.item), signed(r.version)]).map(drop))
            })
            .await
    }

    pub(super) async fn waiting(&self) -> Done<Vec<(Space, Waiting)>> {
        let sql = "SELECT space, count(*), sum(tokens) FROM items WHERE status = 'NONE' AND deleted = 0 AND reuse = 0 \
            GROUP BY space";
        self.database
            .read(move |tx| {
                let one = |row: &rusqlite::Row<'_>| {
                    let waiting = Waiting { items: unsigned(row.get(1)?), tokens: unsigned(row.get(2)?) };
                    Ok((Space::parse(&row.get::<_, String>(0)?), waiting))
                };
                tx.prepare_cached(sql)?.query_map([], one)?.collect()
            })
            .await
    }

    pub(super) async fn is_done(&self, space: &str, key: &str, input: &str) -> Done<bool> {
        let (space, key) = (space.to_owned(), key.to_owned());
        let hash: [u8; 32] = Sha256::digest(input.as_bytes()).into();
        let sql = "SELECT EXISTS (SELECT 1 FROM items WHERE space = ?1 AND key = ?2 AND status = 'SUCCESS' \
            AND deleted = 0 AND input_sha256 = ?3)";
        self.database
            .read(move |tx| tx.prepare_cached(sql)?.query_row(params![space, key, hash], |row| row.get(0)))
            .await
    }

    pub(super) async fn is_any_waiting(&self, space: &Space) -> Done<bool> {
        let space = space.name();
        let sql =
            "SELECT EXISTS (SELECT 1 FROM items WHERE space = ?1 AND status = 'NONE' AND deleted = 0 AND reuse = 0)";
        self.database.read(move |tx| tx.prepare_cached(sql)?.query_row([space], |row| row.get(0))).await
    }

    pub(super) async fn collections(&self) -> Done<Vec<(String, ModelIdentity)>> {
        let sql = "SELECT name, model FROM collections ORDER BY name";
        self.database
            .read(move |tx| {
                let one = |row: &rusqlite::Row<'_>| Ok((row.get(0)?, json(row.get_ref(1)?.as_str()?)?));
                tx.prepare_cached(sql)?.query_map([], one)?.collect()
            })
            .await
    }

    pub(super) async fn to_refresh(&self, space: &Space, limit: usize) -> Done<Vec<Sent>> {
        let space = space.name();
        let sql = "SELECT id, key, version, shown, tokens, origin FROM items WHERE space = ?1 AND reuse = 1 LIMIT ?2";
        self.database
            .read(move |tx| tx.prepare_cached(sql)?.query_map(params![space, limit as i64], sent)?.collect())
            .await
    }

    pub(super) async fn refreshed(&self, items: Vec<(ItemId, u64, bool)>) -> Done<()> {
        self.database
            .write(move |tx| {
                for (item, version, written) in items {
                    let sql = match written {
                        true => {
                            "UPDATE items SET reuse = 0, status = 'SUCCESS', stored = ?2 WHERE id = ?1 AND version = ?2"
                        }
                        false => "UPDATE items SET reuse = 0 WHERE id = ?1 AND version = ?2",
                    };
                    tx.prepare_cached(sql)?.execute(params![row_of(&item), signed(version)])?;
                }
                Ok(())
            })
            .await
    }

    pub(super) async fn reconcile(&self, space: &Space, held: HeldVersion) -> Done<u64> {
        let space = space.name();
        self.database
            .write(move |tx| {
                let sql = "SELECT id, key, version, stored FROM items WHERE space = ?1 AND stored IS NOT NULL";
                let mut statement = tx.prepare(sql)?;
                let mut rows = statement.query([&space])?;
                let mut lost = 0;
                while let Some(row) = rows.next()? {
                    let (id, version, stored): (i64, i64, i64) = (row.get(0)?, row.get(2)?, row.get(3)?);
                    let now = held(row.get_ref(1)?.as_str()?).map(signed);
                    if now == Some(stored) {
                        continue;
                    }
                    lost += 1;
                    // Above whatever is there, a tombstone too.
                    let next = version.max(now.unwrap_or_default()) + 1;
                    let sql = "UPDATE items SET version = ?2, stored = ?3, batch = NULL, reuse = 0, \
                        status = CASE WHEN status = 'NOISE' THEN 'NOISE' ELSE 'NONE' END WHERE id = ?1";
                    tx.prepare_cached(sql)?.execute(params![id, next, now])?;
                }
                Ok(lost)
            })
            .await
    }

    pub(super) async fn counts(&self) -> Done<Vec<Counts>> {
        let sql = "SELECT space, status, count(*) FROM items WHERE deleted = 0 GROUP BY space, status ORDER BY space";
        self.database
            .read(move |tx| {
                let mut all: Vec<Counts> = Vec::new();
                let mut statement = tx.prepare_cached(sql)?;
                let mut rows = statement.query([])?;
                while let Some(row) = rows.next()? {
                    let (space, status): (String, String) = (row.get(0)?, row.get(1)?);
                    let space = Space::parse(&space).shown().to_owned();
                    if all.last().is_none_or(|c| c.space != space) {
                        all.push(Counts { space, ..Counts::default() });
                    }
                    let Some(counts) = all.last_mut() else { continue };
                    let place = match status.as_str() {
                        "NONE" => &mut counts.none,
                        "PENDING" => &mut counts.pending,
                        "SUCCESS" => &mut counts.success,
                        "FAILED" => &mut counts.failed,
                        _ => &mut counts.noise,
                    };
                    // Texts of several models are one to people.
                    *place += unsigned(row.get(2)?);
                }
                Ok(all)
            })
            .await
    }

    pub(super) async fn retry(&self, batch: Option<&str>) -> Done<u64> {
        let batch = batch.map(str::to_owned);
        let sql = "UPDATE items SET status = 'NONE', attempts = 0, error = NULL, batch = NULL \
            WHERE status = 'FAILED' AND deleted = 0 AND (?1 IS NULL OR batch = ?1)";
        self.database.write(move |tx| Ok(tx.execute(sql, [batch])? as u64)).await
    }
}

/// A record that was put before.
enum Known {
    Same { failed: bool },
    Changed { reuse: bool },
}

fn one(tx: &Transaction<'_>, space: &str, item: &NewItem) -> Result<Put> {
    let hash: [u8; 32] = Sha256::digest(item.input.as_bytes()).into();
    // A map's keys are in order: equal metadata is equal text.
    let shown = to_json(&item.shown)?;
    let status = if item.noise { "NOISE" } else { "NONE" };
    let origin = item.origin.as_ref().map(to_json).transpose()?;
    let known = tx
        .prepare_cached(
            "SELECT id, input_sha256, shown, status, deleted, reuse FROM items WHERE space = ?1 AND key = ?2",
        )?
        .query_row(params![space, item.key], |row| {
            let (was, deleted, reuse): (String, bool, bool) = (row.get(3)?, row.get(4)?, row.get(5)?);
            let same_input = row.get_ref(1)?.as_blob()? == hash && (was == "NOISE") == item.noise && !deleted;
            let known = match same_input && row.get_ref(2)?.as_str()? == shown {
                true => Known::Same { failed: was == "FAILED" },
                // Nothing of it is embedded that was not before.
                false => Known::Changed { reuse: same_input && (reuse || was == "SUCCESS") },
            };
            Ok((row.get::<_, i64>(0)?, known))
        })
        .optional()?;
    let mut put = Put { noise: u64::from(item.noise), ..Put::default() };
    match known {
        None => {
            let sql = "INSERT INTO items (space, key, version, status, input, input_sha256, tokens, shown, origin, asks) \
                VALUES (?1, ?2, 1, ?3, ?4, ?5, ?6, ?7, ?8, ?8 IS NOT NULL)";
            let values = params![space, item.key, status, item.input, hash, signed(item.tokens), shown, origin];
            tx.prepare_cached(sql)?.execute(values)?;
            put.new = 1;
        }
        // Its table asks for it again.
        Some((id, Known::Same { failed })) if origin.is_some() => {
            let sql = "UPDATE items SET origin = ?2, asks = asks + 1 WHERE id = ?1";
            tx.prepare_cached(sql)?.execute(params![id, origin])?;
            if failed {
                let sql = "UPDATE items SET status = 'NONE', attempts = 0, error = NULL, batch = NULL WHERE id = ?1";
                tx.prepare_cached(sql)?.execute([id])?;
            }
            (put.unchanged, put.changed) = (u64::from(!failed), u64::from(failed));
        }
        Some((_, Known::Same { failed })) => (put.unchanged, put.failed) = (1, u64::from(failed)),
        Some((id, Known::Changed { reuse })) => {
            let sql = "UPDATE items SET version = version + 1, status = ?2, deleted = 0, input = ?3, input_sha256 = ?4, \
                tokens = ?5, shown = ?6, reuse = ?7, batch = NULL, sent_sha256 = NULL, attempts = 0, error = NULL, \
                origin = coalesce(?8, origin), asks = asks + (?8 IS NOT NULL) WHERE id = ?1";
            let values = params![id, status, item.input, hash, signed(item.tokens), shown, reuse, origin];
            tx.prepare_cached(sql)?.execute(values)?;
            put.changed = 1;
        }
    }
    Ok(put)
}
