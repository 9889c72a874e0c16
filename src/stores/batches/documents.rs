//! Documents that wait for texts.

use rusqlite::{OptionalExtension, Transaction, params};
use sha2::{Digest, Sha256};

use super::{Batches, Result, Space, floats, signed, unsigned};
use crate::documents::Sha256Hex;
use crate::stores::sqlite::Failure;

/// A text to embed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Text {
    pub text: String,
    pub tokens: u64,
}

/// What a document that asks for texts is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// A vector for each text, in their order; `tokens` are those that are in this document's books.
    Ready { vectors: Vec<Vec<f32>>, tokens: u64 },
    /// They were put down, or are on their way already; so many are open.
    Waits(u64),
    /// They are not worth a batch: embed them now.
    Live,
    /// One was refused.
    Failed(String),
}

impl Batches {
    /// Asks for texts in a document's name, and puts down what nobody has asked for yet. Asked again it answers with what
    /// is known by then.
    pub async fn ask(&self, document: &str, space: &Space, texts: Vec<Text>) -> std::result::Result<Answer, Failure> {
        let (document, space) = (document.to_owned(), space.name());
        self.database.write(move |tx| ask(tx, &document, &space, &texts)).await
    }

    /// The document has its vectors, or needs them no more.
    pub async fn taken(&self, document: &str) -> std::result::Result<(), Failure> {
        let document = document.to_owned();
        self.database.write(move |tx| forget(tx, &document)).await
    }

    /// Documents that need not wait any longer, after one.
    pub async fn ready(&self, after: &str, limit: usize) -> std::result::Result<Vec<String>, Failure> {
        let after = after.to_owned();
        let sql =
            "SELECT document FROM waiting WHERE (open = 0 OR live = 1) AND document > ?1 ORDER BY document LIMIT ?2";
        self.database
            .read(move |tx| tx.prepare_cached(sql)?.query_map(params![after, limit as i64], |r| r.get(0))?.collect())
            .await
    }

    pub async fn is_waiting(&self, document: &str) -> std::result::Result<bool, Failure> {
        let document = document.to_owned();
        let sql = "SELECT EXISTS (SELECT 1 FROM waiting WHERE document = ?1)";
        self.database.read(move |tx| tx.prepare_cached(sql)?.query_row([document], |row| row.get(0))).await
    }

    /// Documents that wait.
    pub async fn documents(&self) -> std::result::Result<u64, Failure> {
        let sql = "SELECT count(*) FROM waiting";
        self.database.read(move |tx| tx.query_row(sql, [], |row| Ok(unsigned(row.get(0)?)))).await
    }

    /// What waits in a space is not worth a batch: its documents are to embed it themselves. Returns how many they are.
    pub async fn send_live(&self, space: &Space) -> std::result::Result<u64, Failure> {
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
    let (mut vectors, mut tokens, mut open) = (Vec::with_capacity(texts.len()), 0, 0u64);
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
            Some(Known { vector: Some(vector), mine, .. }) => {
                vectors.push(vector);
                tokens += if mine { text.tokens } else { 0 };
                continue;
            }
            Some(Known { status, error, .. }) if status == "FAILED" => {
                forget(tx, document)?;
                return Ok(Answer::Failed(error.unwrap_or_default()));
            }
            Some(known) => known.id,
            None if live == Some(true) => {
                open += 1;
                continue;
            }
            None => {
                let sql = "INSERT INTO items (space, key, version, status, input, input_sha256, tokens, shown, payer) \
                    VALUES (?1, ?2, 1, 'NONE', ?3, ?4, ?5, '', ?6)";
                let values = params![space, key.as_str(), text.text, hash.as_slice(), signed(text.tokens), document];
                tx.prepare_cached(sql)?.execute(values)?;
                tx.last_insert_rowid()
            }
        };
        open += 1;
        if live != Some(true) {
            tx.prepare_cached("INSERT OR IGNORE INTO waits VALUES (?1, ?2)")?.execute(params![document, id])?;
        }
    }
    if open == 0 {
        return Ok(Answer::Ready { vectors, tokens });
    }
    if live == Some(true) {
        forget(tx, document)?;
        return Ok(Answer::Live);
    }
    // As many as are open of all that it ever asked for: it may ask for several groups.
    let sql = "INSERT INTO waiting (document, open) SELECT ?1, count(*) FROM waits w JOIN items i ON i.id = w.item \
        WHERE w.document = ?1 AND i.status IN ('NONE', 'PENDING') \
        ON CONFLICT (document) DO UPDATE SET open = excluded.open";
    tx.prepare_cached(sql)?.execute([document])?;
    Ok(Answer::Waits(open))
}

/// The document waits for nothing; what nobody else waits for and is not under way goes.
fn forget(tx: &Transaction<'_>, document: &str) -> Result<()> {
    let sql = "DELETE FROM items WHERE id IN (SELECT item FROM waits WHERE document = ?1) AND status <> 'PENDING' \
        AND NOT EXISTS (SELECT 1 FROM waits w WHERE w.item = items.id AND w.document <> ?1)";
    tx.prepare_cached(sql)?.execute([document])?;
    tx.prepare_cached("DELETE FROM waits WHERE document = ?1")?.execute([document])?;
    tx.prepare_cached("DELETE FROM waiting WHERE document = ?1")?.execute([document])?;
    Ok(())
}
