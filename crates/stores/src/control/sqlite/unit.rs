//! Provides the reads and writes that one operation makes inside a transaction.

use docweir_core::clock::{UnixMicros, timestamp};
use docweir_core::documents::DocumentId;
use rusqlite::{Connection, OptionalExtension, Params, params, params_from_iter};

use super::failure::{OpError, OpResult};
use super::options::SqliteControlOptions;
use super::rows;
use crate::control::rules::Effects;
use crate::control::stamps::Stamps;
use crate::control::{ControlError, ControlRecord};

const DAY_SECONDS: i64 = 86_400;

/// Holds the settings that apply when records are written.
#[derive(Clone, Copy, Debug)]
pub struct Terms {
    pub max_retries: u32,
    record_seconds: i64,
    audit_seconds: i64,
}

impl Terms {
    pub fn of(options: &SqliteControlOptions) -> Self {
        Self {
            max_retries: options.max_retries,
            record_seconds: i64::from(options.record_days) * DAY_SECONDS,
            audit_seconds: i64::from(options.audit_days) * DAY_SECONDS,
        }
    }
}

/// Tells which columns of a record have changed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Changed {
    New,
    All,
    /// The source and possibly all other columns have changed.
    Source,
    /// Only the stage map, attempts and errors have changed.
    Progress,
}

pub struct Unit<'c> {
    connection: &'c Connection,
    /// Current time, which is the same for the whole transaction.
    pub now: UnixMicros,
    pub terms: &'c Terms,
    stamps: &'c mut Stamps,
    metrics: Vec<(String, f64)>,
}

impl<'c> Unit<'c> {
    pub fn new(connection: &'c Connection, now: UnixMicros, terms: &'c Terms, stamps: &'c mut Stamps) -> Self {
        Self { connection, now, terms, stamps, metrics: Vec::new() }
    }

    pub fn into_metrics(self) -> Vec<(String, f64)> {
        self.metrics
    }

    pub fn by_id(&self, id: &DocumentId) -> OpResult<Option<ControlRecord>> {
        by_id(self.connection, id)
    }

    pub fn existing(&self, id: &DocumentId) -> OpResult<ControlRecord> {
        self.by_id(id)?.ok_or_else(|| ControlError::NotFound(id.to_string()).into())
    }

    pub fn by_source(&self, source: &str) -> OpResult<Option<ControlRecord>> {
        by_source(self.connection, source)
    }

    /// Returns at most `limit` records that match `condition`, which may include `ORDER BY`. An unreadable row is set
    /// to `FAILED` with a warning, so that it does not block other work.
    pub fn select(&self, condition: &str, parameters: impl Params, limit: usize) -> OpResult<Vec<ControlRecord>> {
        let sql = format!("SELECT {}, rowid FROM document_processing_control WHERE {condition}", *rows::COLUMNS);
        let mut statement = self.connection.prepare_cached(&sql)?;
        let mut found = Vec::new();
        let mut unreadable = Vec::new();
        let mut rows = statement.query(parameters)?;
        while let Some(row) = rows.next()? {
            match rows::record(row) {
                Ok(record) => found.push(record),
                Err(OpError::Unreadable(why)) => unreadable.push((row.get::<_, i64>("rowid")?, why)),
                Err(error) => return Err(error),
            }
            if found.len() >= limit {
                break;
            }
        }
        drop(rows);
        for (rowid, why) in unreadable {
            tracing::warn!(rowid, why, "unreadable control record; marked FAILED");
            self.execute("UPDATE document_processing_control SET status = 'FAILED' WHERE rowid = ?1", params![rowid])?;
        }
        Ok(found)
    }

    pub fn execute(&self, sql: &str, parameters: impl Params) -> OpResult<u64> {
        Ok(self.connection.prepare_cached(sql)?.execute(parameters)? as u64)
    }

    /// Writes the record and its effects.
    pub fn save(&mut self, record: &mut ControlRecord, changed: Changed, effects: Effects) -> OpResult<()> {
        let seconds = self.now.div_euclid(1_000_000);
        record.updated_at = timestamp(self.now);
        record.ttl = seconds + self.terms.record_seconds;
        let (sql, values) = match changed {
            Changed::New => (&*rows::INSERT, rows::insert_values(record)),
            Changed::Source => (&*rows::UPDATE_SOURCE, rows::source_values(record)),
            Changed::All => (&*rows::UPDATE, rows::update_values(record)),
            Changed::Progress => (&*rows::UPDATE_PROGRESS, rows::progress_values(record)),
        };
        self.execute(sql, params_from_iter(values))?;
        for mut event in effects.events {
            event.timestamp = self.stamps.next(self.now);
            let values = rows::audit_values(&event, seconds + self.terms.audit_seconds);
            self.execute(rows::INSERT_AUDIT, params_from_iter(values))?;
        }
        self.metrics.extend(effects.metrics);
        Ok(())
    }
}

pub fn by_id(connection: &Connection, id: &DocumentId) -> OpResult<Option<ControlRecord>> {
    one(connection, "document_id = ?1 AND processing_version = 'v1'", id.as_str())
}

pub fn by_source(connection: &Connection, source: &str) -> OpResult<Option<ControlRecord>> {
    one(connection, "source = ?1", source)
}

fn one(connection: &Connection, condition: &str, parameter: &str) -> OpResult<Option<ControlRecord>> {
    let sql = format!("SELECT {} FROM document_processing_control WHERE {condition}", *rows::COLUMNS);
    let mut statement = connection.prepare_cached(&sql)?;
    statement.query_row([parameter], |row| Ok(rows::record(row))).optional()?.transpose()
}

/// Deletes a limited number of expired rows. Returns the number of deleted rows; 0 means that no expired row is left.
///
/// Audit entries are written in order of time, so the oldest entries are the first rows of the table and no index is
/// needed. Of the control records, only the records of deleted documents are removed, because any other document may
/// still be in the vector store.
pub fn prune(connection: &Connection, now: UnixMicros) -> Result<u64, rusqlite::Error> {
    const STEP: i64 = 1000;
    let seconds = now.div_euclid(1_000_000);
    let audit = connection
        .prepare_cached(
            "DELETE FROM document_processing_audit WHERE ttl < ?1 AND rowid IN \
         (SELECT rowid FROM document_processing_audit ORDER BY rowid LIMIT ?2)",
        )?
        .execute(params![seconds, STEP])?;
    let records = connection
        .prepare_cached(
            "DELETE FROM document_processing_control WHERE ttl < ?1 AND rowid IN \
         (SELECT rowid FROM document_processing_control WHERE status = 'DELETED' ORDER BY updated_at LIMIT ?2)",
        )?
        .execute(params![seconds, STEP])?;
    Ok((audit + records) as u64)
}
