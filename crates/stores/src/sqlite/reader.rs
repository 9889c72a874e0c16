//! Opens a database file for reading, also where this process may not write.
//!
//! SQLite reads a database with a write-ahead log (`-wal`) through a file of shared memory (`-shm`). A reader that
//! finds no such file must create it. On a read-only disk, or without write permission, SQLite then refuses to read. A
//! missing `-shm` file also shows that no process on this machine has the database open. The reader therefore opens the
//! database without locks:
//!
//! | write-ahead log | how the database is opened |
//! | --- | --- |
//! | missing or empty | as immutable, because the database file holds everything |
//! | with content | with the index of the log in the memory of this process, instead of the `-shm` file |
//!
//! Without locks, nothing stops a process that may write. The reader therefore compares the two files before and after
//! each operation. If they differ before, the database is opened again. If they differ after, the operation fails.

use std::fs::Metadata;
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rusqlite::{Connection, Error, ErrorCode, OpenFlags, ffi};

use super::log::beside;

/// Reads one database file.
pub struct Reader {
    path: PathBuf,
    busy: Duration,
    opened: Opened,
}

struct Opened {
    connection: Connection,
    /// Set if the database was opened without locks.
    unlocked: Option<Unlocked>,
}

/// Describes the files of a database that was opened without locks, at the time of opening.
struct Unlocked {
    files: Files,
    /// True if the connection also reads the log.
    reads_log: bool,
}

#[derive(PartialEq, Eq)]
struct Files {
    database: Stamp,
    /// `None` if the log is missing.
    log: Option<Stamp>,
}

/// Changes with every write to a file. The time of the last change of its attributes is left out, because SQLite sets
/// the owner of a log that it opens.
#[derive(PartialEq, Eq)]
struct Stamp {
    device: u64,
    inode: u64,
    bytes: u64,
    modified: (i64, i64),
}

impl Reader {
    /// Opens the database, which must exist. Blocks the thread.
    pub fn open(path: &Path, busy: Duration) -> Result<Self, Error> {
        Ok(Self { path: path.to_owned(), busy, opened: Opened::new(path, busy)? })
    }

    /// Runs `operation` on a connection that can only read.
    ///
    /// # Errors
    /// Returns the error of `operation`. Also returns an error if the database was opened without locks and another
    /// process changed it during the operation.
    pub fn read<T, E: From<Error>>(&mut self, operation: impl FnOnce(&Connection) -> Result<T, E>) -> Result<T, E> {
        if self.opened.unlocked.as_ref().is_some_and(|unlocked| !unlocked.files.are_unchanged(&self.path)) {
            self.opened = Opened::new(&self.path, self.busy)?;
        }
        let result = operation(&self.opened.connection);
        match &self.opened.unlocked {
            Some(unlocked) if !unlocked.is_valid(&self.path) => Err(changed().into()),
            _ => result,
        }
    }
}

impl Opened {
    fn new(path: &Path, busy: Duration) -> Result<Self, Error> {
        let opened = Self::with_locks(path).or_else(|error| match is_denied(&error) {
            true => Self::without_locks(path).unwrap_or(Err(error)),
            false => Err(error),
        })?;
        opened.connection.busy_timeout(busy)?;
        opened.connection.set_prepared_statement_cache_capacity(16);
        Ok(opened)
    }

    fn with_locks(path: &Path) -> Result<Self, Error> {
        let connection = Connection::open_with_flags(path, FLAGS)?;
        touch(&connection)?;
        Ok(Self { connection, unlocked: None })
    }

    /// Returns `None` if a process on this machine may have the database open, or if a file cannot be inspected.
    fn without_locks(path: &Path) -> Option<Result<Self, Error>> {
        let files = Files::of(path).ok()?;
        let shared_memory = std::fs::metadata(beside(path, "-shm"));
        let is_idle = shared_memory.is_err_and(|e| e.kind() == io::ErrorKind::NotFound);
        // Shared memory without a log belongs to no process; a copy may have left it behind.
        if !is_idle && files.log.is_some() {
            return None;
        }
        let reads_log = files.log.as_ref().is_some_and(|log| log.bytes > 0);
        let connection = if reads_log { open_with_own_index(path) } else { open_immutable(path) };
        Some(connection.map(|connection| Self { connection, unlocked: Some(Unlocked { files, reads_log }) }))
    }
}

const FLAGS: OpenFlags = OpenFlags::SQLITE_OPEN_READ_ONLY.union(OpenFlags::SQLITE_OPEN_NO_MUTEX);

fn open_immutable(path: &Path) -> Result<Connection, Error> {
    let uri = format!("file:{}?immutable=1", encoded(path));
    let connection = Connection::open_with_flags(uri, FLAGS | OpenFlags::SQLITE_OPEN_URI)?;
    touch(&connection)?;
    Ok(connection)
}

/// Opens a database whose log has content. In exclusive mode, SQLite keeps the index of the log in its own memory. The
/// VFS `unix-none` takes no locks, because an exclusive lock needs write permission.
fn open_with_own_index(path: &Path) -> Result<Connection, Error> {
    let connection = Connection::open_with_flags_and_vfs(path, FLAGS, c"unix-none")?;
    connection.pragma_update_and_check(None, "locking_mode", "EXCLUSIVE", |_| Ok(()))?;
    touch(&connection)?;
    Ok(connection)
}

/// Reads from the database. SQLite opens the log and the shared memory only now.
fn touch(connection: &Connection) -> Result<(), Error> {
    connection.query_row("SELECT count(*) FROM sqlite_schema", [], |_| Ok(()))
}

/// Returns whether this process lacks the permission to write, or the disk is read-only.
pub fn is_denied(error: &Error) -> bool {
    use ErrorCode::{CannotOpen, PermissionDenied, ReadOnly};
    matches!(error.sqlite_error_code(), Some(CannotOpen | PermissionDenied | ReadOnly))
}

fn changed() -> Error {
    let text = "another process changed it while it was read without locks";
    Error::SqliteFailure(ffi::Error::new(ffi::SQLITE_PROTOCOL), Some(text.into()))
}

impl Unlocked {
    /// Returns whether everything that the connection has read belongs to one state of the database. A log that
    /// appears does not matter to a connection that reads only the database file.
    fn is_valid(&self, path: &Path) -> bool {
        Files::of(path)
            .is_ok_and(|now| now.database == self.files.database && (!self.reads_log || now.log == self.files.log))
    }
}

impl Files {
    fn of(path: &Path) -> io::Result<Self> {
        let log = match std::fs::metadata(beside(path, "-wal")) {
            Ok(log) => Some(Stamp::of(&log)),
            Err(error) if error.kind() == io::ErrorKind::NotFound => None,
            Err(error) => return Err(error),
        };
        Ok(Self { database: Stamp::of(&std::fs::metadata(path)?), log })
    }

    fn are_unchanged(&self, path: &Path) -> bool {
        Self::of(path).is_ok_and(|now| now == *self)
    }
}

impl Stamp {
    fn of(file: &Metadata) -> Self {
        Self { device: file.dev(), inode: file.ino(), bytes: file.len(), modified: (file.mtime(), file.mtime_nsec()) }
    }
}

/// Encodes a path for a URI of SQLite, in which `?`, `#` and `%` have a meaning.
fn encoded(path: &Path) -> String {
    let keeps = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'/' | b'.' | b'_' | b'-');
    let one = |byte: &u8| if keeps(*byte) { char::from(*byte).to_string() } else { format!("%{byte:02X}") };
    path.as_os_str().as_bytes().iter().map(one).collect()
}

#[cfg(test)]
mod tests {
    use std::ffi::OsString;

    use docweir_testkit::processes::SmallDisk;

    use super::*;

    const BUSY: Duration = Duration::from_millis(50);

    /// Creates a database with one row in its file and 1,000 rows in its log.
    fn with_log(path: &Path) -> Connection {
        let writer = Connection::open(path).unwrap();
        let sql = "PRAGMA journal_mode = WAL; CREATE TABLE t (x); INSERT INTO t VALUES (1);
            PRAGMA wal_checkpoint(TRUNCATE);";
        writer.execute_batch(sql).unwrap();
        let sql = "WITH RECURSIVE n (i) AS (SELECT 1 UNION ALL SELECT i + 1 FROM n WHERE i < 1000)
            INSERT INTO t SELECT i FROM n";
        writer.execute_batch(sql).unwrap();
        writer
    }

    fn rows(connection: &Connection) -> Result<i64, Error> {
        connection.query_row("SELECT count(*) FROM t", [], |row| row.get(0))
    }

    fn names(folder: &Path) -> Vec<OsString> {
        let mut names: Vec<_> = std::fs::read_dir(folder).unwrap().map(|e| e.unwrap().file_name()).collect();
        names.sort();
        names
    }

    /// Checks each set of files that a copy or a crash can leave behind, on a disk that cannot be written.
    #[test]
    fn a_read_only_disk_is_read_with_whatever_files_are_there() {
        let Some(disk) = SmallDisk::new(1 << 20) else { return };
        let origin = tempfile::tempdir().unwrap();
        let writer = with_log(&origin.path().join("x.db"));
        // The name has the characters that have a meaning in a URI.
        let sets: [(&str, &[&str], i64); 5] = [
            ("bare?#%.db", &[""], 1),
            ("log.db", &["", "-wal"], 1001),
            ("all.db", &["", "-wal", "-shm"], 1001),
            ("shm.db", &["", "-shm"], 1),
            ("empty.db", &[""], 1),
        ];
        for (name, suffixes, _) in sets {
            for suffix in suffixes {
                let from = beside(&origin.path().join("x.db"), suffix);
                std::fs::copy(from, disk.path().join(format!("{name}{suffix}"))).unwrap();
            }
        }
        std::fs::write(disk.path().join("empty.db-wal"), "").unwrap();
        drop(writer);
        let before = names(disk.path());
        disk.make_read_only();
        for (name, _, expected) in sets {
            let mut reader = Reader::open(&disk.path().join(name), BUSY).unwrap_or_else(|e| panic!("{name}: {e}"));
            assert_eq!(reader.read(rows).unwrap(), expected, "{name}");
            assert_eq!(reader.read(rows).unwrap(), expected, "{name}");
        }
        assert_eq!(names(disk.path()), before);
        let missing = Reader::open(&disk.path().join("none.db"), BUSY).err().unwrap();
        assert!(is_denied(&missing), "{missing}");
    }

    #[test]
    #[expect(clippy::disallowed_methods, reason = "waits until the clock of the file system has moved on")]
    fn a_change_without_locks_is_noticed() {
        for reads_log in [false, true] {
            let folder = tempfile::tempdir().unwrap();
            let (origin, path) = (folder.path().join("origin.db"), folder.path().join("x.db"));
            let writer = with_log(&origin);
            std::fs::copy(&origin, &path).unwrap();
            if reads_log {
                std::fs::copy(beside(&origin, "-wal"), beside(&path, "-wal")).unwrap();
            }
            let opened = Opened::without_locks(&path).unwrap().unwrap();
            let mut reader = Reader { path: path.clone(), busy: BUSY, opened };
            let before = if reads_log { 1001 } else { 1 };
            assert_eq!(reader.read(rows).unwrap(), before);
            let add = || {
                std::thread::sleep(Duration::from_millis(20));
                let other = Connection::open(&path).unwrap();
                other.execute_batch("INSERT INTO t VALUES (0); PRAGMA wal_checkpoint(TRUNCATE)").unwrap();
            };
            // During an operation the change is an error; afterwards the database is opened again.
            let during = reader.read(|connection| {
                let found = rows(connection);
                add();
                found
            });
            assert!(during.unwrap_err().to_string().contains("without locks"));
            assert_eq!(reader.read(rows).unwrap(), before + 1);
            add();
            assert_eq!(reader.read(rows).unwrap(), before + 2);
            drop(writer);
        }
    }

    #[test]
    fn while_a_process_has_the_database_open_it_is_read_with_locks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("x.db");
        let _writer = with_log(&path);
        assert!(Opened::without_locks(&path).is_none());
        let mut reader = Reader::open(&path, BUSY).unwrap();
        assert!(reader.opened.unlocked.is_none());
        assert_eq!(reader.read(rows).unwrap(), 1001);
    }
}
