//! Documents that wait for texts.

use docweir_core::documents::Sha256Hex;
use rusqlite::{OptionalExtension, Transaction, params};
use sha2::{Digest, Sha256};

use super::harvest::answered;
use super::{Answer, Done, Result, Space, SqliteBatches, Text, blob, floats, signed};

impl SqliteBatches {
    pub(super) async fn ask(&self, document: &str, space: &Space, texts: Vec<Text>) -> Done<Answer> {
        let (document, space) = (document.to_owned(), space.name());
        self.database.write(move |tx| ask(tx, &document, &space, &texts)).await
    }

    pub(super) async fn taken(&self, document: &str) -> Done<()> {
        let document = document.to_owned();
        self.database.write(move |tx| forget(tx, &document)).await
    }

    pub(super) async fn made_live(&self, space: &Space, made: Vec<(Sha256Hex, Vec<f32>)>) -> Done<()> {
        let space = space.name();
        self.database
            .write(move |tx| {
                for (key, vector) in made {
                    let sql = "UPDATE items SET status = 'SUCCESS', vector = ?3 WHERE space = ?1 AND key = ?2 \
                        AND status = 'NONE' RETURNING id";
                    let values = params![space, key.as_str(), blob(&vector)];
                    let item: Option<i64> = tx.prepare_cached(sql)?.query_row(values, |row| row.get(0)).optional()?;
                    item.map_or(Ok(()), |item| answered(tx, item))?;
                }
                Ok(())
            })
            .await
    }

    pub(super) async fn strangers(&self, space: Option<&Space>, limit: usize) -> Done<Vec<String>> {
        let space = space.map(Space::name);
        let sql = "SELECT document FROM waiting WHERE ?1 IS NULL OR EXISTS (SELECT 1 FROM waits w JOIN items i \
            ON i.id = w.item WHERE w.document = waiting.document AND i.space <> ?1) LIMIT ?2";
        self.database
            .read(move |tx| {
                tx.prepare_cached(sql)?.query_map(params![space, limit as i64], |row| row.get(0))?.collect()
            })
            .await
    }

    pub(super) async fn ready(&self, after: &str, limit: usize) -> Done<Vec<String>> {
        let after = after.to_owned();
        let sql =
            "SELECT document FROM waiting WHERE (open = 0 OR live = 1) AND document > ?1 ORDER BY document LIMIT ?2";
        self.database
            .read(move |tx| tx.prepare_cached(sql)?.query_map(params![after, limit as i64], |r| r.get(0))?.collect())
            .await
    }

    pub(super) async fn is_waiting(&self, document: &str) -> Done<bool> {
        let document = document.to_owned();
        let sql = "SELECT EXISTS (SELECT 1 FROM waiting WHERE document = ?1)";
        self.database.read(move |tx| tx.prepare_cached(sql)?.query_row([document], |row| row.get(0))).await
    }

    pub(super) async fn send_live(&self, space: &Space) -> Done<u64> {
        let space = space.name();
        let sql = "UPDATE waiting SET live = 1 WHERE live = 0 AND document IN (SELECT w.document FROM waits w JOIN items i \
            ON i.id = w.item WHERE i.space = ?1 AND i.status = 'NONE')";
        self.database.write(move |tx| Ok(tx.execute(sql, [space])? as u64)).await
    }
}

struct Known {
    id: i64,
    status: String,
    error: Option<String>,
    mine: bool,
    vector: Option<Vec<f32>>,
}

fn ask(tx: &Transaction<'_>, document: &str, space: &str, texts: &[Text]) -> Result<Answer> {
    let live = "SELECT live FROM waiting WHERE document = ?1";
    let live: Option<bool> = tx.prepare_cached(live)?.query_row([document], |row| row.get(0)).optional()?;
    // What an earlier version of it asked for is not wanted any more.
    let before: Vec<i64> = {
        let mut statement = tx.prepare_cached("DELETE FROM waits WHERE document = ?1 RETURNING item")?;
        statement.query_map([document], |row| row.get(0))?.collect::<Result<_>>()?
    };
    let (mut vectors, mut tokens, mut open, mut under_way, mut failed) = (Vec::new(), 0, 0u64, false, None);
    for text in texts {
        let hash = Sha256::digest(text.text.as_bytes());
        let key = Sha256Hex::from_digest(&hash);
        let sql = "SELECT id, status, error, payer, vector FROM items WHERE space = ?1 AND key = ?2";
        let known = tx
            .prepare_cached(sql)?
            .query_row(params![space, key.as_str()], |row| {
                let vector = row.get_ref(4)?.as_blob_or_null()?.map(floats);
                let mine = row.get_ref(3)?.as_str_or_null()? == Some(document);
                Ok(Known { id: row.get(0)?, status: row.get(1)?, error: row.get(2)?, mine, vector })
            })
            .optional()?;
        let id = match known {
            Some(known) if known.status == "FAILED" => {
                // Told once: asked again it is tried again.
                tx.prepare_cached("DELETE FROM items WHERE id = ?1")?.execute([known.id])?;
                tx.prepare_cached("DELETE FROM waits WHERE item = ?1")?.execute([known.id])?;
                failed = Some(known.error.unwrap_or_default());
                continue;
            }
            Some(known) => {
                open += u64::from(known.vector.is_none());
                under_way |= known.status == "PENDING";
                tokens += if known.vector.is_some() && known.mine { text.tokens } else { 0 };
                vectors.push(known.vector);
                known.id
            }
            None => {
                let sql = "INSERT INTO items (space, key, version, status, input, input_sha256, tokens, shown, payer) \
                    VALUES (?1, ?2, 1, 'NONE', ?3, ?4, ?5, '', ?6)";
                let values = params![space, key.as_str(), text.text, hash.as_slice(), signed(text.tokens), document];
                tx.prepare_cached(sql)?.execute(values)?;
                open += 1;
                vectors.push(None);
                tx.last_insert_rowid()
            }
        };
        tx.prepare_cached("INSERT OR IGNORE INTO waits VALUES (?1, ?2)")?.execute(params![document, id])?;
    }
    drop_unwanted(tx, &before)?;
    let goes_live = live == Some(true) && !under_way && failed.is_none();
    let sql = "INSERT INTO waiting (document, open, live) SELECT ?1, count(*), ?2 FROM waits w JOIN items i \
        ON i.id = w.item WHERE w.document = ?1 AND i.status IN ('NONE', 'PENDING') \
        ON CONFLICT (document) DO UPDATE SET open = excluded.open, live = excluded.live";
    tx.prepare_cached(sql)?.execute(params![document, goes_live])?;
    Ok(match failed {
        Some(error) => Answer::Failed(error),
        None if open == 0 => Answer::Ready { vectors: vectors.into_iter().flatten().collect(), tokens },
        None if goes_live => Answer::Live { vectors, tokens },
        None => Answer::Waits(open),
    })
}

/// The document waits for nothing.
fn forget(tx: &Transaction<'_>, document: &str) -> Result<()> {
    let before: Vec<i64> = {
        let mut statement = tx.prepare_cached("DELETE FROM waits WHERE document = ?1 RETURNING item")?;
        statement.query_map([document], |row| row.get(0))?.collect::<Result<_>>()?
    };
    tx.prepare_cached("DELETE FROM waiting WHERE document = ?1")?.execute([document])?;
    drop_unwanted(tx, &before)
}

/// Texts that nobody waits for go; one that is on its way goes with the end of its batch, and its text now.
fn drop_unwanted(tx: &Transaction<'_>, items: &[i64]) -> Result<()> {
    let unwanted = "id = ?1 AND NOT EXISTS (SELECT 1 FROM waits w WHERE w.item = items.id)";
    for item in items {
        let sql = format!("DELETE FROM items WHERE {unwanted} AND status <> 'PENDING'");
        tx.prepare_cached(&sql)?.execute([item])?;
        // Not before it was sent: its line is made of it.
        let sql = format!(
            "UPDATE items SET input = '' WHERE {unwanted} AND status = 'PENDING' AND EXISTS (SELECT 1 FROM batches b \
             WHERE b.id = items.batch AND b.input_file_id IS NOT NULL)"
        );
        tx.prepare_cached(&sql)?.execute([item])?;
    }
    Ok(())
}
