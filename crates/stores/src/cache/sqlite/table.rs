//! Implements the tables of a cache and the queries on these tables.

use std::collections::HashMap;
use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, OptionalExtension, TransactionBehavior, params};

use docweir_core::cache::CacheOptions;
use docweir_core::cache::Forget;
use docweir_core::documents::Sha256Hex;

use crate::sqlite::try_to_empty_log;

/// Version of the tables. A file with a newer version is not used, because a run can do without the cache.
const SCHEMA_VERSION: i64 = 2;
const TABLES: &str = "
CREATE TABLE models (model INTEGER PRIMARY KEY, identity TEXT NOT NULL UNIQUE);
CREATE TABLE entries (
    model INTEGER NOT NULL,
    text BLOB NOT NULL,
    used INTEGER NOT NULL,
    crc INTEGER NOT NULL,
    value BLOB NOT NULL
);
CREATE UNIQUE INDEX entries_by_text ON entries (model, text);
CREATE INDEX entries_by_use ON entries (used);
";
/// Statements that upgrade the tables from version 1, which stored only embeddings.
const RENAMED: &str = "
ALTER TABLE embeddings RENAME TO entries;
ALTER TABLE entries RENAME COLUMN vector TO value;
";

/// Maximum number of rows whose time of last use is kept in memory until the next write. Uses of further rows before
/// that write are not recorded, so eviction becomes slightly less accurate.
const MAX_TOUCHED: usize = 100_000;
/// Number of rows that one statement of an eviction deletes.
const DROPPED_AT_ONCE: i64 = 256;
/// Fraction of `max_bytes` that the rows may occupy after an eviction.
const FULL_AFTER_DROPPING: f64 = 0.9;

pub struct Table {
    /// Name of the cache in log messages.
    name: &'static str,
    connection: Connection,
    max_bytes: u64,
    page_bytes: u64,
    models: HashMap<String, i64>,
    /// Logical time: the number of writes so far.
    tick: i64,
    touched: HashMap<i64, i64>,
}

type Result<T> = std::result::Result<T, rusqlite::Error>;

impl Table {
    /// Opens the file. Returns `None` if the cache is disabled, or if a newer docweir created the file. A file of a
    /// newer docweir is not changed.
    pub fn open(name: &'static str, path: &Path, limits: &CacheOptions) -> Result<Option<Self>> {
        if !limits.enabled {
            return Ok(None);
        }
        let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let mut connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(Duration::from_millis(limits.busy_timeout_milliseconds))?;
        let version = |c: &Connection| c.pragma_query_value(None, "user_version", |r| r.get::<_, i64>(0));
        let found = version(&connection)?;
        if found > SCHEMA_VERSION {
            tracing::warn!(path = %path.display(), "the {name} was created by a newer docweir; not used");
            return Ok(None);
        }
        connection.pragma_update(None, "journal_mode", "WAL")?;
        // A power loss may undo only the last writes: the log is synced before a checkpoint.
        connection.pragma_update(None, "synchronous", "NORMAL")?;
        connection.pragma_update(None, "journal_size_limit", 16 << 20)?;
        if found < SCHEMA_VERSION {
            let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
            let found = version(&transaction)?;
            if found < SCHEMA_VERSION {
                transaction.execute_batch(if found == 1 { RENAMED } else { TABLES })?;
                transaction.pragma_update(None, "user_version", SCHEMA_VERSION)?;
            }
            transaction.commit()?;
        }
        // These statements fail for tables of another program: see `is_damage`.
        connection.prepare("SELECT model, identity FROM models")?;
        connection.prepare("SELECT rowid, model, text, used, crc, value FROM entries")?;
        let page_bytes: i64 = connection.pragma_query_value(None, "page_size", |r| r.get(0))?;
        let tick: Option<i64> = connection.query_row("SELECT max(used) FROM entries", [], |r| r.get(0))?;
        Ok(Some(Self {
            name,
            connection,
            max_bytes: limits.max_bytes,
            page_bytes: u64::try_from(page_bytes).unwrap_or(4096),
            models: HashMap::new(),
            tick: tick.unwrap_or(0) + 1,
            touched: HashMap::new(),
        }))
    }

    pub fn get(&mut self, model: &str, texts: &[Sha256Hex]) -> Result<Vec<Option<Vec<u8>>>> {
        let Some(model_row) = self.model(model)? else { return Ok(vec![None; texts.len()]) };
        let sql = "SELECT rowid, used, crc, value FROM entries WHERE model = ?1 AND text = ?2";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut found = Vec::with_capacity(texts.len());
        let mut rotten = Vec::new();
        for text in texts {
            let row = statement.query_row(params![model_row, key(text)], |row| {
                let (rowid, used): (i64, i64) = (row.get(0)?, row.get(1)?);
                let (crc, blob): (u32, &[u8]) = (row.get(2)?, row.get_ref(3)?.as_blob()?);
                Ok((rowid, used, (crc32fast::hash(blob) == crc).then(|| blob.to_vec())))
            });
            match row.optional()? {
                Some((rowid, used, Some(value))) => {
                    if used < self.tick && self.touched.len() < MAX_TOUCHED {
                        self.touched.insert(rowid, self.tick);
                    }
                    found.push(Some(value));
                }
                Some((rowid, _, None)) => {
                    rotten.push(rowid);
                    found.push(None);
                }
                None => found.push(None),
            }
        }
        drop(statement);
        if !rotten.is_empty() {
            tracing::warn!(rows = rotten.len(), "deleting damaged rows of the {}", self.name);
            for rowid in rotten {
                self.connection.execute("DELETE FROM entries WHERE rowid = ?1", [rowid])?;
            }
        }
        Ok(found)
    }

    pub fn put(&mut self, model: &str, entries: &[(Sha256Hex, Vec<u8>)]) -> Result<()> {
        let model_row = self.add_model(model)?;
        let transaction = rusqlite::Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)?;
        {
            let sql = "INSERT INTO entries (model, text, used, crc, value) VALUES (?1, ?2, ?3, ?4, ?5) \
                ON CONFLICT (model, text) DO NOTHING";
            let mut statement = transaction.prepare_cached(sql)?;
            for (text, value) in entries {
                statement.execute(params![model_row, key(text), self.tick, crc32fast::hash(value), value])?;
            }
            let mut statement = transaction.prepare_cached("UPDATE entries SET used = ?2 WHERE rowid = ?1")?;
            for (rowid, tick) in &self.touched {
                statement.execute(params![rowid, tick])?;
            }
        }
        self.make_room()?;
        transaction.commit()?;
        self.touched.clear();
        self.tick += 1;
        Ok(())
    }

    /// Deletes entries and overwrites their bytes in the file.
    pub fn forget(&mut self, texts: &Forget) -> Result<u64> {
        self.connection.pragma_update(None, "secure_delete", true)?;
        let transaction = rusqlite::Transaction::new_unchecked(&self.connection, TransactionBehavior::Immediate)?;
        let mut deleted = 0;
        let texts = match texts {
            Forget::Texts(texts) => texts.as_slice(),
            Forget::Everything => {
                deleted += transaction.execute("DELETE FROM entries", [])? as u64;
                &[]
            }
        };
        {
            let mut models = transaction.prepare_cached("SELECT model FROM models")?;
            let models: Vec<i64> = models.query_map([], |r| r.get(0))?.collect::<Result<_>>()?;
            let sql = "DELETE FROM entries WHERE model = ?1 AND text = ?2";
            let mut statement = transaction.prepare_cached(sql)?;
            for model in models {
                for text in texts {
                    deleted += statement.execute(params![model, key(text)])? as u64;
                }
            }
        }
        transaction.commit()?;
        // Deleted data stays in the write-ahead log until a checkpoint. A reader in another process can prevent it.
        if !try_to_empty_log(&self.connection)? {
            let code = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_BUSY);
            return Err(rusqlite::Error::SqliteFailure(
                code,
                Some("another process is reading the cache; try again".into()),
            ));
        }
        Ok(deleted)
    }

    /// Deletes the least recently used rows until the file is small enough. Rows of the current write were used last,
    /// so they are deleted last.
    fn make_room(&self) -> Result<()> {
        if self.bytes()? <= self.max_bytes {
            return Ok(());
        }
        let goal = (self.max_bytes as f64 * FULL_AFTER_DROPPING) as u64;
        let sql = "DELETE FROM entries WHERE rowid IN (SELECT rowid FROM entries ORDER BY used, rowid LIMIT ?1)";
        let mut statement = self.connection.prepare_cached(sql)?;
        let mut dropped = 0;
        while self.bytes()? > goal {
            let rows = statement.execute([DROPPED_AT_ONCE])?;
            if rows == 0 {
                break;
            }
            dropped += rows;
        }
        tracing::debug!(dropped, "evicted rows of the full {}", self.name);
        Ok(())
    }

    /// Returns the number of bytes in used pages of the file.
    fn bytes(&self) -> Result<u64> {
        let pragma = |name: &str| self.connection.pragma_query_value(None, name, |r| r.get::<_, i64>(0));
        let pages = pragma("page_count")? - pragma("freelist_count")?;
        Ok(u64::try_from(pages).unwrap_or(0) * self.page_bytes)
    }

    fn model(&mut self, model: &str) -> Result<Option<i64>> {
        if let Some(row) = self.models.get(model) {
            return Ok(Some(*row));
        }
        let sql = "SELECT model FROM models WHERE identity = ?1";
        let row = self.connection.query_row(sql, [model], |r| r.get(0)).optional()?;
        if let Some(row) = row {
            self.models.insert(model.to_owned(), row);
        }
        Ok(row)
    }

    fn add_model(&mut self, model: &str) -> Result<i64> {
        if let Some(row) = self.model(model)? {
            return Ok(row);
        }
        let sql = "INSERT INTO models (identity) VALUES (?1) ON CONFLICT (identity) DO NOTHING";
        self.connection.execute(sql, [model])?;
        self.model(model)?.ok_or(rusqlite::Error::QueryReturnedNoRows)
    }
}

/// Returns whether the error means that the file is damaged, and not just full, busy or inaccessible.
pub fn is_damage(error: &rusqlite::Error) -> bool {
    use rusqlite::Error::*;
    let code = matches!(error.sqlite_error_code(), Some(ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase));
    // The table has an unexpected form, because another program created it or a person edited it.
    let unlike = matches!(error.sqlite_error_code(), Some(ErrorCode::Unknown | ErrorCode::TypeMismatch))
        || matches!(
            error,
            SqlInputError { .. } | InvalidColumnType(..) | FromSqlConversionFailure(..) | IntegralValueOutOfRange(..)
        );
    code || unlike
}

/// Returns the hash as 32 bytes instead of 64 hexadecimal digits.
fn key(text: &Sha256Hex) -> [u8; 32] {
    let mut key = [0; 32];
    for (byte, pair) in key.iter_mut().zip(text.as_str().as_bytes().chunks_exact(2)) {
        *byte = pair.iter().fold(0, |byte, digit| byte << 4 | char::from(*digit).to_digit(16).unwrap_or(0) as u8);
    }
    key
}
