//! The database file: its tables, its version, how a connection to it is opened.
//!
//! Table and column names are those of the system that this one replaces, with our own columns beside them. The
//! checks catch the slips of somebody who edits a row by hand before they can do harm.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, OpenFlags, TransactionBehavior};

use super::failure::Failure;
use super::options::SqliteControlOptions;

/// Grows when the tables change. Kept in `PRAGMA user_version`.
pub const SCHEMA_VERSION: i64 = 1;
/// `DCWR`, in `PRAGMA application_id`.
const APPLICATION_ID: i64 = 0x4443_5752;

const TABLES: &str = "
CREATE TABLE document_processing_control (
    document_id TEXT NOT NULL CHECK (document_id <> ''),
    processing_version TEXT NOT NULL DEFAULT 'v1',
    source TEXT NOT NULL,
    source_bucket TEXT NOT NULL,
    source_s3_key TEXT NOT NULL,
    created_at TEXT NOT NULL,
    max_retries INTEGER NOT NULL DEFAULT 3,
    version INTEGER NOT NULL CHECK (version >= 1),
    content_sha256 TEXT NOT NULL CHECK (length(content_sha256) = 64),
    fingerprint TEXT NOT NULL CHECK (length(fingerprint) = 64),
    media_type TEXT NOT NULL,
    file_size_bytes INTEGER NOT NULL,
    upload_timestamp TEXT NOT NULL,
    status TEXT NOT NULL CHECK (status IN
        ('PENDING', 'IN_PROGRESS', 'COMPLETED', 'FAILED', 'PARKED', 'QUARANTINED', 'DELETED')),
    intent TEXT NOT NULL DEFAULT 'PROCESS' CHECK (intent IN ('PROCESS', 'DELETE')),
    quarantine_artefact TEXT,
    quarantine_original TEXT,
    loaded_version INTEGER,
    parked_reason TEXT,
    parked_resume TEXT,
    parked_until TEXT,
    lease_owner TEXT,
    lease_expires_at TEXT,
    epoch INTEGER NOT NULL DEFAULT 0 CHECK (epoch >= 0),
    tenant TEXT NOT NULL DEFAULT '',
    weight INTEGER NOT NULL DEFAULT 1,
    completed_at TEXT,
    current_stage TEXT NOT NULL,
    stage_status TEXT NOT NULL DEFAULT '{}' CHECK (json_valid(stage_status)),
    retry_count INTEGER NOT NULL DEFAULT 0 CHECK (retry_count >= 0),
    interruptions INTEGER NOT NULL DEFAULT 0 CHECK (interruptions >= 0),
    last_error TEXT,
    error_stage TEXT,
    updated_at TEXT NOT NULL,
    ttl INTEGER NOT NULL,
    PRIMARY KEY (document_id, processing_version)
);
CREATE UNIQUE INDEX source_index ON document_processing_control (source);
CREATE INDEX status_updated_index ON document_processing_control (status, updated_at);
CREATE INDEX status_id_index ON document_processing_control (status, document_id);
CREATE INDEX parked_event_index ON document_processing_control (parked_resume) WHERE status = 'PARKED';
CREATE INDEX parked_until_index ON document_processing_control (parked_until) WHERE parked_until IS NOT NULL;

CREATE TABLE document_processing_audit (
    document_id TEXT NOT NULL,
    timestamp TEXT NOT NULL,
    event_type TEXT NOT NULL,
    stage TEXT,
    status TEXT,
    processing_version TEXT NOT NULL,
    metadata TEXT NOT NULL,
    worker_id TEXT,
    duration_seconds REAL,
    output_s3_key TEXT,
    error_type TEXT,
    error_message TEXT,
    ttl INTEGER NOT NULL,
    PRIMARY KEY (document_id, timestamp)
);

CREATE TABLE pipeline_metrics_daily (
    date TEXT NOT NULL,
    metric_type TEXT NOT NULL,
    value REAL NOT NULL,
    updated_at TEXT NOT NULL,
    PRIMARY KEY (date, metric_type)
) WITHOUT ROWID;
";

/// Opens the database for writing; makes it if there is none.
pub fn open_writer(path: &Path, options: &SqliteControlOptions) -> Result<Connection, Failure> {
    let busy = options.busy_timeout();
    let location = path.display().to_string();
    let failed = |e: rusqlite::Error| Failure::of(&location, &e);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut conn = Connection::open_with_flags(path, flags).map_err(failed)?;
    conn.busy_timeout(busy).map_err(failed)?;
    conn.set_prepared_statement_cache_capacity(64);
    // Before anything is changed: a newer or foreign database is left as it is.
    let fresh = check_version(&conn, &location)?;
    use_write_ahead_log(&conn, busy).map_err(failed)?;
    conn.pragma_update(None, "wal_autocheckpoint", options.wal_pages).map_err(failed)?;
    conn.pragma_update(None, "journal_size_limit", i64::from(options.wal_pages) * 4096).map_err(failed)?;
    // Negative: kibibytes, not pages.
    conn.pragma_update(None, "cache_size", -i64::from(options.page_cache_kibibytes)).map_err(failed)?;
    conn.pragma_update(None, "synchronous", "FULL").map_err(failed)?;
    if fresh {
        // Another process may have been faster: the lock is taken first, then looked again.
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        if check_version(&tx, &location)? {
            tx.execute_batch(TABLES).map_err(failed)?;
            tx.pragma_update(None, "application_id", APPLICATION_ID).map_err(failed)?;
            tx.pragma_update(None, "user_version", SCHEMA_VERSION).map_err(failed)?;
        }
        tx.commit().map_err(failed)?;
    }
    Ok(conn)
}

/// Opens the database for reading; it must exist.
pub fn open_reader(path: &Path, busy: Duration) -> Result<Connection, rusqlite::Error> {
    let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let conn = Connection::open_with_flags(path, flags)?;
    conn.busy_timeout(busy)?;
    conn.set_prepared_statement_cache_capacity(16);
    Ok(conn)
}

/// Whether the tables are still to be made.
fn check_version(conn: &Connection, location: &str) -> Result<bool, Failure> {
    // One statement sees one state: between three, another process could make the tables.
    const QUERY: &str = "SELECT user_version, application_id, (SELECT count(*) FROM sqlite_schema)
        FROM pragma_user_version, pragma_application_id";
    let row: Result<(i64, i64, i64), _> = conn.query_row(QUERY, [], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)));
    let (version, application, tables) = row.map_err(|e| Failure::of(location, &e))?;
    if version > SCHEMA_VERSION && application == APPLICATION_ID {
        let reason = format!("it has schema {version}, made by a newer docweir; this one knows up to {SCHEMA_VERSION}");
        return Err(Failure::new(location, reason, "update docweir, or use another state folder"));
    }
    if tables > 0 && (application != APPLICATION_ID || version != SCHEMA_VERSION) {
        let reason = "it is an SQLite database, but not docweir's";
        return Err(Failure::new(location, reason, "move it away, or use another state folder"));
    }
    Ok(tables == 0)
}

/// The switch needs the database for itself for a moment, and SQLite does not wait for that by itself.
#[expect(clippy::disallowed_methods, reason = "blocks a thread that may block, and sleeps as SQLite itself would")]
fn use_write_ahead_log(conn: &Connection, busy: Duration) -> Result<(), rusqlite::Error> {
    const STEP: Duration = Duration::from_millis(5);
    let mut left = busy;
    loop {
        let mode: Result<String, _> = conn.pragma_query_value(None, "journal_mode", |r| r.get(0));
        if mode.is_ok_and(|m| m == "wal") {
            return Ok(());
        }
        match conn.pragma_update_and_check(None, "journal_mode", "WAL", |r| r.get::<_, String>(0)) {
            Ok(_) => return Ok(()),
            Err(e) if e.sqlite_error_code() == Some(ErrorCode::DatabaseBusy) && left > STEP => {
                std::thread::sleep(STEP);
                left -= STEP;
            }
            Err(e) => return Err(e),
        }
    }
}
