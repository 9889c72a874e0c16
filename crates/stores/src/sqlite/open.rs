//! Opens a database file and creates it if it is missing.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, ErrorCode, MAIN_DB, OpenFlags, TransactionBehavior};

use super::{Failure, Reader};

/// Describes the tables of a database file.
pub struct Schema {
    /// Value of `PRAGMA application_id`: four letters that identify docweir's files.
    pub application_id: i64,
    /// Version of the tables, stored in `PRAGMA user_version`. The version grows with every change of the tables.
    pub version: i64,
    pub tables: &'static str,
    /// Statements that upgrade a file by one version each. The first entry upgrades from version 1 to version 2.
    pub upgrades: &'static [&'static str],
}

/// Describes the steps that a file needs before it can be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Lacks {
    Nothing,
    Tables,
    /// The file has this version and lacks the upgrades that follow.
    Upgrades(i64),
}

#[derive(Clone, Copy, Debug)]
pub struct OpenOptions {
    /// Maximum time to wait while another process writes.
    pub busy: Duration,
    /// Number of pages that the write-ahead log collects before a checkpoint.
    pub wal_pages: u32,
    pub page_cache_kibibytes: u32,
    /// Size of a page, in bytes. Only a new file gets this size; an existing file keeps its own.
    pub page_bytes: u32,
    /// If true, a commit waits until it is on the disk. If false, a power loss may undo the last commits, but never a
    /// part of one.
    pub survives_power_loss: bool,
}

impl OpenOptions {
    /// Returns the options of a file with pages of 4 KiB whose commits survive a power loss.
    pub const fn durable(busy: Duration, wal_pages: u32, page_cache_kibibytes: u32) -> Self {
        Self { busy, wal_pages, page_cache_kibibytes, page_bytes: 4096, survives_power_loss: true }
    }
}

impl Schema {
    /// Returns whether the file's tables must be created or upgraded.
    fn lacks(&self, conn: &Connection, location: &str) -> Result<Lacks, Failure> {
        // One statement sees one consistent state. Between three statements another process could create the tables.
        const QUERY: &str = "SELECT user_version, application_id, (SELECT count(*) FROM sqlite_schema)
            FROM pragma_user_version, pragma_application_id";
        let row: Result<(i64, i64, i64), _> = conn.query_row(QUERY, [], |r| Ok((r.get(0)?, r.get(1)?, r.get(2)?)));
        let (version, application, tables) = row.map_err(|e| Failure::of(location, &e))?;
        if version > self.version && application == self.application_id {
            let reason =
                format!("it has schema version {version} of a newer docweir; this one supports up to {}", self.version);
            return Err(Failure::new(location, reason, "update docweir, or use another state folder"));
        }
        if tables == 0 {
            return Ok(Lacks::Tables);
        }
        if application != self.application_id || version < 1 {
            let reason = "it is an SQLite database of another program";
            return Err(Failure::new(location, reason, "move it away, or use another state folder"));
        }
        Ok(if version < self.version { Lacks::Upgrades(version) } else { Lacks::Nothing })
    }

    fn complete(&self, tx: &Connection, lacks: Lacks) -> Result<(), rusqlite::Error> {
        match lacks {
            Lacks::Nothing => return Ok(()),
            Lacks::Tables => tx.execute_batch(self.tables)?,
            Lacks::Upgrades(from) => {
                let done = usize::try_from(from - 1).unwrap_or_default();
                self.upgrades.iter().skip(done).try_for_each(|step| tx.execute_batch(step))?;
            }
        }
        tx.pragma_update(None, "application_id", self.application_id)?;
        tx.pragma_update(None, "user_version", self.version)
    }
}

/// Opens the database for writing and creates it if it is missing.
pub fn open_writer(path: &Path, schema: &Schema, options: &OpenOptions) -> Result<Connection, Failure> {
    let busy = options.busy;
    let location = path.display().to_string();
    let failed = |e: rusqlite::Error| Failure::of(&location, &e);
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_CREATE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let mut conn = Connection::open_with_flags(path, flags).map_err(failed)?;
    // SQLite opens a file that is write-protected for reading, without an error.
    if conn.is_readonly(MAIN_DB).map_err(failed)? {
        let denied = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_READONLY);
        return Err(failed(rusqlite::Error::SqliteFailure(denied, Some("it is write-protected".into()))));
    }
    conn.busy_timeout(busy).map_err(failed)?;
    conn.set_prepared_statement_cache_capacity(64);
    // This check comes before any change: a newer or foreign database must stay unchanged.
    let lacks = schema.lacks(&conn, &location)?;
    conn.pragma_update(None, "page_size", options.page_bytes).map_err(failed)?;
    use_write_ahead_log(&conn, busy).map_err(failed)?;
    conn.pragma_update(None, "wal_autocheckpoint", options.wal_pages).map_err(failed)?;
    conn.pragma_update(None, "journal_size_limit", i64::from(options.wal_pages) * i64::from(options.page_bytes))
        .map_err(failed)?;
    // A negative value is in KiB, not pages.
    conn.pragma_update(None, "cache_size", -i64::from(options.page_cache_kibibytes)).map_err(failed)?;
    let synchronous = if options.survives_power_loss { "FULL" } else { "NORMAL" };
    conn.pragma_update(None, "synchronous", synchronous).map_err(failed)?;
    if lacks != Lacks::Nothing {
        // Another process may have been faster, so check again under the lock.
        let tx = conn.transaction_with_behavior(TransactionBehavior::Immediate).map_err(failed)?;
        let lacks = schema.lacks(&tx, &location)?;
        schema.complete(&tx, lacks).map_err(failed)?;
        tx.commit().map_err(failed)?;
    }
    Ok(conn)
}

/// Opens the database for reading. It must exist and have the current tables.
pub fn open_reader(path: &Path, schema: &Schema, busy: Duration) -> Result<Reader, Failure> {
    let location = path.display().to_string();
    let mut reader = Reader::open(path, busy).map_err(|e| Failure::of(&location, &e))?;
    let lacks = reader.read(|connection| Ok(schema.lacks(connection, &location)));
    match lacks.map_err(|e: rusqlite::Error| Failure::of(&location, &e))?? {
        Lacks::Nothing => Ok(reader),
        Lacks::Tables | Lacks::Upgrades(_) => {
            let reason = "its tables must be created or upgraded, which needs write permission";
            Err(Failure::new(&location, reason, "run `docweir status` once as the user who owns the state folder"))
        }
    }
}

/// Switches the database to a write-ahead log. The switch needs exclusive access for a moment. SQLite does not wait
/// for exclusive access, so this function retries for up to `busy`.
#[expect(clippy::disallowed_methods, reason = "sleeps on a thread that may block, as SQLite itself does")]
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
