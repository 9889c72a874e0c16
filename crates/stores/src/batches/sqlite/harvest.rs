//! What comes back of a batch, and its end.

use docweir_core::clock::timestamp;
use docweir_core::money::Nanodollars;
use rusqlite::{OptionalExtension, Row, Transaction, params};

use super::{
    Done, Ending, ItemId, Made, Refusal, Result, Sent, Space, SqliteBatches, blob, item_id, json, row_of, signed,
    unsigned,
};
use crate::ledger::{self, Share};

impl SqliteBatches {
    pub(super) async fn sent(&self, batch: &str, keys: Vec<String>) -> Done<Vec<Option<Sent>>> {
        let batch = batch.to_owned();
        // A text that nobody waits for any more is as good as deleted.
        let sql = "SELECT i.id, i.key, i.version, i.shown, i.tokens, i.origin FROM items i, batches b WHERE b.id = ?1 \
            AND i.space = b.space AND i.key = ?2 AND i.batch = ?1 AND i.status = 'PENDING' AND i.deleted = 0 \
            AND i.sent_sha256 = i.input_sha256 AND (i.shown <> '' OR EXISTS (SELECT 1 FROM waits w WHERE w.item = i.id))";
        self.database
            .read(move |tx| {
                let mut statement = tx.prepare_cached(sql)?;
                keys.iter().map(|key| statement.query_row(params![batch, key], sent).optional()).collect()
            })
            .await
    }

    pub(super) async fn made(&self, batch: &str, made: Vec<Made>) -> Done<()> {
        let batch = batch.to_owned();
        self.database.write(move |tx| made.iter().try_for_each(|one| keep(tx, &batch, one))).await
    }

    pub(super) async fn refused(&self, batch: &str, refusals: Vec<Refusal>, most_attempts: u32) -> Done<()> {
        let batch = batch.to_owned();
        self.database
            .write(move |tx| {
                for refusal in &refusals {
                    let sql = "SELECT i.id, i.attempts FROM items i, batches b WHERE b.id = ?1 AND i.space = b.space \
                        AND i.key = ?2 AND i.batch = ?1 AND i.status = 'PENDING'";
                    let found = tx
                        .prepare_cached(sql)?
                        .query_row(params![batch, refusal.key], |r| Ok((r.get::<_, i64>(0)?, unsigned(r.get(1)?))));
                    let Some((item, attempts)) = found.optional()? else { continue };
                    match refusal.again && attempts < u64::from(most_attempts) {
                        true => give_back(tx, &batch, item)?,
                        false => fail(tx, &batch, item, &refusal.error)?,
                    }
                }
                Ok(())
            })
            .await
    }

    pub(super) async fn blame(&self, batch: &str, lines: &[u64], error: &str) -> Done<u64> {
        let (batch, lines, error) = (batch.to_owned(), lines.to_vec(), error.to_owned());
        self.database
            .write(move |tx| {
                let mut blamed = Vec::new();
                {
                    let sql =
                        "SELECT id FROM items WHERE batch = ?1 AND status = 'PENDING' ORDER BY id LIMIT 1 OFFSET ?2";
                    let mut statement = tx.prepare_cached(sql)?;
                    for line in lines {
                        let at = params![batch, signed(line.saturating_sub(1))];
                        blamed.extend(statement.query_row(at, |row| row.get::<_, i64>(0)).optional()?);
                    }
                }
                blamed.iter().try_for_each(|item| fail(tx, &batch, *item, &error))?;
                Ok(blamed.len() as u64)
            })
            .await
    }

    pub(super) async fn end(&self, batch: &str, ending: Ending) -> Done<()> {
        let (batch, now) = (batch.to_owned(), timestamp(self.clock.now()));
        self.database.write(move |tx| end(tx, &batch, &ending, &now)).await
    }

    pub(super) async fn forget_live(&self) -> Done<u64> {
        let sql = "UPDATE items SET status = 'NONE', batch = NULL, sent_sha256 = NULL WHERE batch LIKE 'live:%'";
        self.database.write(move |tx| Ok(tx.execute(sql, [])? as u64)).await
    }

    pub(super) async fn take_live(
        &self,
        name: &str,
        space: &Space,
        limit: usize,
        most_tokens: u64,
        most_bytes: usize,
    ) -> Done<Vec<(Sent, String)>> {
        let (name, space) = (name.to_owned(), space.name());
        self.database
            .write(move |tx| {
                let sql = "SELECT id, key, version, shown, tokens, origin, input FROM items WHERE space = ?1 AND status = 'NONE' \
                    AND deleted = 0 AND reuse = 0 ORDER BY id LIMIT ?2";
                let mut statement = tx.prepare_cached(sql)?;
                let mut rows = statement.query(params![space, limit as i64])?;
                let (mut taken, mut tokens, mut bytes) = (Vec::new(), 0, 0);
                while let Some(row) = rows.next()? {
                    let (more, input): (Sent, String) = (sent(row)?, row.get(6)?);
                    (tokens, bytes) = (tokens + more.tokens, bytes + more.bytes);
                    if !taken.is_empty() && (tokens > most_tokens || bytes > most_bytes) {
                        break;
                    }
                    taken.push((more, input));
                }
                let sql = "UPDATE items SET status = 'PENDING', batch = ?2, sent_sha256 = input_sha256, \
                    attempts = attempts + 1 WHERE id = ?1";
                let mut statement = tx.prepare_cached(sql)?;
                for (sent, _) in &taken {
                    statement.execute(params![row_of(&sent.item), name])?;
                }
                Ok(taken)
            })
            .await
    }

    pub(super) async fn give_back_live(&self, name: &str) -> Done<()> {
        let name = name.to_owned();
        let sql = "UPDATE items SET status = 'NONE', batch = NULL, sent_sha256 = NULL, \
            attempts = max(attempts - 1, 0) WHERE batch = ?1 AND status = 'PENDING'";
        self.database.write(move |tx| tx.execute(sql, [name]).map(drop)).await
    }

    pub(super) async fn fail_live(&self, name: &str, item: &ItemId, error: &str) -> Done<()> {
        let (name, item, error) = (name.to_owned(), row_of(item), error.to_owned());
        let sql = "UPDATE items SET status = 'FAILED', error = ?3, batch = NULL, sent_sha256 = NULL \
            WHERE batch = ?1 AND id = ?2 AND status = 'PENDING'";
        self.database.write(move |tx| tx.execute(sql, params![name, item, error]).map(drop)).await
    }

    pub(super) async fn held_live(&self, name: &str, items: Vec<ItemId>) -> Done<Vec<bool>> {
        let name = name.to_owned();
        let sql = "SELECT EXISTS (SELECT 1 FROM items WHERE id = ?1 AND batch = ?2 AND status = 'PENDING' \
            AND deleted = 0 AND sent_sha256 = input_sha256)";
        self.database
            .read(move |tx| {
                let mut statement = tx.prepare_cached(sql)?;
                items.iter().map(|item| statement.query_row(params![row_of(item), name], |row| row.get(0))).collect()
            })
            .await
    }
}

/// id, key, version, shown, tokens, origin.
pub(super) fn sent(row: &Row<'_>) -> Result<Sent> {
    let shown = row.get_ref(3)?.as_str()?;
    let bytes = shown.len();
    let shown = if shown.is_empty() { None } else { Some(json(shown)?) };
    let (version, tokens) = (unsigned(row.get(2)?), unsigned(row.get(4)?));
    let origin = row.get_ref(5)?.as_str_or_null()?.map(json).transpose()?;
    Ok(Sent { item: item_id(row.get(0)?), key: row.get(1)?, version, shown, tokens, bytes, origin })
}

fn keep(tx: &Transaction<'_>, batch: &str, one: &Made) -> Result<()> {
    let item = row_of(&one.item);
    let done = match &one.vector {
        None => {
            // The vector store holds this version, whatever has become of the item meanwhile.
            let sql = "UPDATE items SET stored = max(coalesce(stored, 0), ?2) WHERE id = ?1";
            tx.prepare_cached(sql)?.execute(params![item, signed(one.version)])?;
            let sql = "UPDATE items SET status = 'SUCCESS', batch = NULL, sent_sha256 = NULL, error = NULL \
                WHERE id = ?1 AND batch = ?2 AND version = ?3 AND status = 'PENDING'";
            tx.prepare_cached(sql)?.execute(params![item, batch, signed(one.version)])?
        }
        Some(vector) => {
            let sql = "UPDATE items SET status = 'SUCCESS', batch = NULL, sent_sha256 = NULL, error = NULL, vector = ?3 \
                WHERE id = ?1 AND batch = ?2 AND status = 'PENDING'";
            tx.prepare_cached(sql)?.execute(params![item, batch, blob(vector)])?
        }
    };
    if done == 0 {
        return Ok(());
    }
    count(tx, batch, "stored", 1)?;
    if one.vector.is_some() {
        answered(tx, item)?;
        let sql = "INSERT INTO batch_shares SELECT ?1, payer, ?3 FROM items WHERE id = ?2 AND payer IS NOT NULL \
            ON CONFLICT (batch, subject) DO UPDATE SET tokens = tokens + excluded.tokens";
        tx.prepare_cached(sql)?.execute(params![batch, item, signed(one.tokens)])?;
    }
    Ok(())
}

fn count(tx: &Transaction<'_>, batch: &str, column: &str, by: u64) -> Result<()> {
    let sql = format!("UPDATE batches SET {column} = {column} + ?2 WHERE id = ?1");
    tx.prepare_cached(&sql)?.execute(params![batch, signed(by)]).map(drop)
}

/// Documents have one less to wait for.
pub(super) fn answered(tx: &Transaction<'_>, item: i64) -> Result<()> {
    let sql =
        "UPDATE waiting SET open = max(open - 1, 0) WHERE document IN (SELECT document FROM waits WHERE item = ?1)";
    tx.prepare_cached(sql)?.execute([item]).map(drop)
}

fn give_back(tx: &Transaction<'_>, batch: &str, item: i64) -> Result<()> {
    let sql = "UPDATE items SET status = 'NONE', batch = NULL, sent_sha256 = NULL WHERE id = ?1";
    tx.prepare_cached(sql)?.execute([item])?;
    count(tx, batch, "returned", 1)
}

/// A record remembers the batch, so that it can be tried again with the others of it.
fn fail(tx: &Transaction<'_>, batch: &str, item: i64, error: &str) -> Result<()> {
    let sql = "UPDATE items SET status = 'FAILED', error = ?2, sent_sha256 = NULL WHERE id = ?1";
    tx.prepare_cached(sql)?.execute(params![item, error])?;
    answered(tx, item)?;
    count(tx, batch, "failed", 1)
}

fn end(tx: &Transaction<'_>, batch: &str, ending: &Ending, now: &str) -> Result<()> {
    let sql = "SELECT entry FROM batches WHERE id = ?1 AND ended_at IS NULL";
    let Some(entry): Option<i64> = tx.query_row(sql, [batch], |r| r.get(0)).optional()? else { return Ok(()) };
    if ending.undone {
        tx.execute(
            "UPDATE items SET attempts = max(attempts - 1, 0) WHERE batch = ?1 AND status = 'PENDING'",
            [batch],
        )?;
    }
    let left: Vec<(i64, i64)> = {
        let sql = "SELECT id, attempts FROM items WHERE batch = ?1 AND status = 'PENDING'";
        tx.prepare_cached(sql)?.query_map([batch], |r| Ok((r.get(0)?, r.get(1)?)))?.collect::<Result<_>>()?
    };
    for (item, attempts) in left {
        // A text that nobody waits for any more.
        let sql = "DELETE FROM items WHERE id = ?1 AND shown = '' AND deleted = 0 \
            AND NOT EXISTS (SELECT 1 FROM waits w WHERE w.item = items.id)";
        if tx.prepare_cached(sql)?.execute([item])? > 0 {
            continue;
        }
        match attempts >= i64::from(ending.most_attempts) {
            true => fail(tx, batch, item, ending.error.as_deref().unwrap_or("no answer in several batches"))?,
            false => give_back(tx, batch, item)?,
        }
    }
    match ending.charged_tokens {
        Some(charged) => settle(tx, batch, entry, charged, ending.usd_per_million_tokens)?,
        None => ledger::doubt(tx, entry)?,
    }
    tx.execute("DELETE FROM batch_shares WHERE batch = ?1", [batch])?;
    // What is none of it changed or was deleted since it was sent.
    let sql = "UPDATE batches SET status = ?2, charged_tokens = ?3, error = coalesce(?4, error), ended_at = ?5, \
        stale = max(items - stored - failed - returned, 0) WHERE id = ?1";
    tx.execute(sql, params![batch, ending.status.name(), ending.charged_tokens.map(signed), ending.error, now])?;
    Ok(())
}

/// In the names of those whose texts it held. What was charged and went to nobody (records, results that were stale or
/// unusable) is the batch's own.
fn settle(tx: &Transaction<'_>, batch: &str, entry: i64, charged: u64, usd_per_million_tokens: f64) -> Result<()> {
    let price = |tokens: u64| Nanodollars::of_tokens(tokens, usd_per_million_tokens);
    let sql = "SELECT subject, tokens FROM batch_shares WHERE batch = ?1";
    let share = |row: &rusqlite::Row<'_>| {
        let tokens = unsigned(row.get(1)?);
        Ok(Share { subject: row.get(0)?, tokens, cost: price(tokens) })
    };
    let mut shares: Vec<Share> = tx.prepare_cached(sql)?.query_map([batch], share)?.collect::<Result<_>>()?;
    let told: u64 = shares.iter().map(|s| s.tokens).sum();
    let cost: Nanodollars = shares.iter().map(|s| s.cost).sum();
    if charged > told {
        shares.push(Share { subject: batch.to_owned(), tokens: charged - told, cost: price(charged) - cost });
    }
    ledger::settle_in_parts(tx, entry, &shares)
}
