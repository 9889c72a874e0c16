//! Implements [`DocumentTexts`] in SQLite.

use async_trait::async_trait;
use docweir_core::documents::Sha256Hex;
use rusqlite::{OptionalExtension, Transaction, params};

use super::state::{self, Given, KNOWN, KNOWN_COLUMNS, Put, known};
use super::statements::OPEN;
use super::{DocumentTexts, Result, Space, SqliteBatches, StoreResult, Text, TextLookup, floats};
use crate::batches::rules::texts::{self, KnownText, Question, TextAction};
use crate::batches::rules::{Step, hash_of};

#[async_trait]
impl DocumentTexts for SqliteBatches {
    async fn ask(&self, document: &str, space: &Space, texts: Vec<Text>) -> StoreResult<TextLookup> {
        let (document, space) = (document.to_owned(), space.name());
        Ok(self.database.write(move |tx| ask(tx, &document, &space, texts)).await?)
    }

    async fn taken(&self, document: &str) -> StoreResult<()> {
        let document = document.to_owned();
        let forgotten = self.database.write(move |tx| {
            let before = stop_waiting(tx, &document)?;
            tx.prepare_cached("DELETE FROM waiting WHERE document = ?1")?.execute([document])?;
            discard_unwanted(tx, &before)
        });
        Ok(forgotten.await?)
    }

    async fn made_live(&self, _: &str, space: &Space, made: Vec<(Sha256Hex, Vec<f32>)>) -> StoreResult<()> {
        let space = space.name();
        let kept = self.database.write(move |tx| {
            for (key, vector) in made {
                let found = state::find(tx, "space = ?1 AND key = ?2", params![space, key.as_str()])?;
                let Some(item) = found else { continue };
                state::apply(tx, &item, &texts::embed_live(&item.state), Given::Vector(&vector))?;
            }
            Ok(())
        });
        Ok(kept.await?)
    }

    async fn documents_of_other_models(&self, space: Option<&Space>, limit: usize) -> StoreResult<Vec<String>> {
        let space = space.map(Space::name);
        let sql = "SELECT document FROM waiting WHERE ?1 IS NULL OR EXISTS (SELECT 1 FROM waits w JOIN items i \
            ON i.id = w.item WHERE w.document = waiting.document AND i.space <> ?1) LIMIT ?2";
        let documents = self.database.read(move |tx| {
            tx.prepare_cached(sql)?.query_map(params![space, limit as i64], |row| row.get(0))?.collect()
        });
        Ok(documents.await?)
    }

    async fn ready(&self, after: &str, limit: usize) -> StoreResult<Vec<String>> {
        let after = after.to_owned();
        let sql =
            "SELECT document FROM waiting WHERE (open = 0 OR live = 1) AND document > ?1 ORDER BY document LIMIT ?2";
        let ready = self
            .database
            .read(move |tx| tx.prepare_cached(sql)?.query_map(params![after, limit as i64], |r| r.get(0))?.collect());
        Ok(ready.await?)
    }

    async fn is_waiting(&self, document: &str) -> StoreResult<bool> {
        let document = document.to_owned();
        let sql = "SELECT EXISTS (SELECT 1 FROM waiting WHERE document = ?1)";
        Ok(self.database.read(move |tx| tx.prepare_cached(sql)?.query_row([document], |row| row.get(0))).await?)
    }

    async fn send_live(&self, space: &Space) -> StoreResult<u64> {
        let space = space.name();
        let sql = "UPDATE waiting SET live = 1 WHERE live = 0 AND document IN (SELECT w.document FROM waits w JOIN items i \
            ON i.id = w.item WHERE i.space = ?1 AND i.status = 'NONE')";
        Ok(self.database.write(move |tx| Ok(tx.execute(sql, [space])? as u64)).await?)
    }
}

fn ask(tx: &Transaction<'_>, document: &str, space: &str, texts: Vec<Text>) -> Result<TextLookup> {
    let live = "SELECT live FROM waiting WHERE document = ?1";
    let live = tx.prepare_cached(live)?.query_row([document], |row| row.get(0)).optional()?.unwrap_or(false);
    // Texts that the document's former version requested are no longer wanted.
    let before = stop_waiting(tx, document)?;
    let mut question = Question::default();
    for text in texts {
        let hash = hash_of(&text.text);
        let key = Sha256Hex::from_digest(&hash);
        let sql = format!("SELECT {KNOWN}, payer, vector FROM items WHERE space = ?1 AND key = ?2");
        let found = tx
            .prepare_cached(&sql)?
            .query_row(params![space, key.as_str()], |row| {
                let item = known(row)?;
                let is_payer = row.get_ref(KNOWN_COLUMNS)?.as_str_or_null()? == Some(document);
                let vector = row.get_ref(KNOWN_COLUMNS + 1)?.as_blob_or_null()?.map(floats);
                let (status, error) = (item.state.status, item.state.error);
                Ok((item.id, KnownText { status, error, vector, is_payer }))
            })
            .optional()?;
        let (id, known) = found.unzip();
        let id = match (question.add(text.tokens, known), id) {
            (TextAction::Discard, Some(id)) => {
                tx.prepare_cached("DELETE FROM items WHERE id = ?1")?.execute([id])?;
                tx.prepare_cached("DELETE FROM waits WHERE item = ?1")?.execute([id])?;
                continue;
            }
            (_, Some(id)) => id,
            (_, None) => {
                let Step::Write { state, .. } = texts::put(None, hash) else { continue };
                let put = Put { input: text.text, tokens: text.tokens, shown: String::new(), origin: None };
                state::insert(tx, space, key.as_str(), &state, &put, Some(document))?
            }
        };
        tx.prepare_cached("INSERT OR IGNORE INTO waits VALUES (?1, ?2)")?.execute(params![document, id])?;
    }
    discard_unwanted(tx, &before)?;
    let sql = format!(
        "INSERT INTO waiting (document, open, live) SELECT ?1, count(*), ?2 FROM waits w JOIN items i \
         ON i.id = w.item WHERE w.document = ?1 AND {OPEN} \
         ON CONFLICT (document) DO UPDATE SET open = excluded.open, live = excluded.live"
    );
    tx.prepare_cached(&sql)?.execute(params![document, question.goes_live(live)])?;
    Ok(question.answer(live))
}

/// Removes all entries by which a document waits for texts. Returns the row numbers of these texts.
fn stop_waiting(tx: &Transaction<'_>, document: &str) -> Result<Vec<i64>> {
    let mut statement = tx.prepare_cached("DELETE FROM waits WHERE document = ?1 RETURNING item")?;
    statement.query_map([document], |row| row.get(0))?.collect()
}

fn discard_unwanted(tx: &Transaction<'_>, items: &[i64]) -> Result<()> {
    for item in items {
        let Some(item) = state::by_row(tx, *item)?.filter(|item| item.state.unwanted) else { continue };
        let sql = "SELECT EXISTS (SELECT 1 FROM batches WHERE id = ?1 AND input_file_id IS NOT NULL)";
        let was_sent = match &item.state.batch {
            Some(batch) => tx.prepare_cached(sql)?.query_row([batch], |row| row.get(0))?,
            None => false,
        };
        // The outcome in its batch was counted when it was recorded.
        state::apply(tx, &item, &texts::discard(&item.state, was_sent, false), Given::Nothing)?;
    }
    Ok(())
}
