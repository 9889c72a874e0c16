//! Shares the SQLite file of packed objects within the process, and replaces it if it is damaged.

use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use docweir_objects::ObjectError;
use rusqlite::{Connection, Error, TransactionBehavior};
use tokio::sync::Mutex;

use super::rows::{Rows, SCHEMA};
use crate::sqlite::{Failure, OpenOptions, beside, empty_log, open_reader, open_writer};

const OPTIONS: OpenOptions = OpenOptions {
    busy: Duration::from_secs(30),
    wal_pages: 4_000,
    page_cache_kibibytes: 8_192,
    page_bytes: 8_192,
    survives_power_loss: false,
};

/// Time after a deletion at which the write-ahead log is emptied. Until then, the log may still contain the deleted
/// object.
pub(super) const FORGET_AFTER: Duration = Duration::from_secs(10);

/// Gives access to the file; clones are cheap. One operation runs at a time, on a thread that may block.
#[derive(Clone)]
pub struct PackedFile {
    state: Arc<Mutex<State>>,
    /// True while the log waits to be emptied.
    forgetting: Arc<AtomicBool>,
}

struct State {
    path: PathBuf,
    opened: Option<Opened>,
}

/// Device and inode of a file.
type Identity = (u64, u64);

struct Opened {
    connection: Connection,
    /// Another process may have moved the file aside since.
    identity: Option<Identity>,
}

/// Describes what an operation does to the file.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Access {
    /// Reads rows. A missing file has no rows.
    Read,
    /// Deletes rows. A missing file has no rows.
    Change,
    /// Writes rows. A missing file is created.
    Write,
}

impl PackedFile {
    pub fn new(path: &Path) -> Self {
        Self { state: Arc::new(Mutex::new(State { path: path.to_owned(), opened: None })), forgetting: Arc::default() }
    }

    /// Runs `work` in a transaction that only reads.
    pub async fn read<T, F>(&self, what: &'static str, key: &str, work: F) -> Result<T, ObjectError>
    where
        T: Default + Send + 'static,
        F: FnOnce(&Rows<'_>) -> Result<T, Error> + Send + 'static,
    {
        Ok(self.run(Access::Read, what, key, work).await?.unwrap_or_default())
    }

    /// Runs `work` in a transaction that may delete rows. Does nothing if there is no file.
    pub async fn change<F>(&self, what: &'static str, key: &str, work: F) -> Result<(), ObjectError>
    where
        F: FnOnce(&Rows<'_>) -> Result<(), Error> + Send + 'static,
    {
        self.run(Access::Change, what, key, work).await?;
        self.forget_later();
        Ok(())
    }

    /// Removes what remains of deleted rows.
    pub async fn forget(&self) -> Result<(), ObjectError> {
        let mut state = self.state.clone().lock_owned().await;
        let task = tokio::task::spawn_blocking(move || {
            // The file is opened even if this process has not used it: another one may have deleted rows.
            state.open(Access::Change)?;
            state.forget()
        });
        let lost = |e| ObjectError::Unknown { key: String::new(), reason: format!("the log was not emptied: {e}") };
        task.await.map_err(lost)?.map_err(|failure| error("empty the log of", "artefacts.db", &failure))
    }

    /// Empties the log later, once for all deletions until then, because this waits for the disk. If the program ends
    /// before, the log is deleted with the last connection.
    fn forget_later(&self) {
        if self.forgetting.swap(true, Ordering::AcqRel) {
            return;
        }
        let (state, forgetting) = (Arc::downgrade(&self.state), self.forgetting.clone());
        drop(tokio::spawn(async move {
            loop {
                tokio::time::sleep(FORGET_AFTER).await;
                let Some(state) = state.upgrade() else { return };
                let state = state.lock_owned().await;
                // A deletion from now on waits for the lock, and begins another wait.
                forgetting.store(false, Ordering::Release);
                let emptied = tokio::task::spawn_blocking(move || state.empty_log()).await;
                if !matches!(emptied, Ok(Err(_))) || forgetting.swap(true, Ordering::AcqRel) {
                    return;
                }
            }
        }));
    }

    /// Runs `work` in a transaction that may write rows.
    pub async fn write<T, F>(&self, what: &'static str, key: &str, work: F) -> Result<T, ObjectError>
    where
        T: Send + 'static,
        F: FnOnce(&Rows<'_>) -> Result<T, Error> + Send + 'static,
    {
        let lost = || ObjectError::Unknown { key: key.to_owned(), reason: "the file is missing".into() };
        self.run(Access::Write, what, key, work).await?.ok_or_else(lost)
    }

    /// Runs `work` in a transaction. Returns `None` if there is no file and the access does not create it. The
    /// transaction runs to its end even if the future is dropped.
    async fn run<T, F>(&self, access: Access, what: &'static str, key: &str, work: F) -> Result<Option<T>, ObjectError>
    where
        T: Send + 'static,
        F: FnOnce(&Rows<'_>) -> Result<T, Error> + Send + 'static,
    {
        let mut state = self.state.clone().lock_owned().await;
        let owned = key.to_owned();
        let task = tokio::task::spawn_blocking(move || state.run(access, what, &owned, work));
        task.await.unwrap_or_else(|e| {
            Err(ObjectError::Unknown { key: key.to_owned(), reason: format!("{what} did not finish: {e}") })
        })
    }
}

impl State {
    fn run<T, F>(&mut self, access: Access, what: &'static str, key: &str, work: F) -> Result<Option<T>, ObjectError>
    where
        F: FnOnce(&Rows<'_>) -> Result<T, Error>,
    {
        let connection = match self.open(access) {
            Ok(Some(connection)) => connection,
            Ok(None) => return Ok(None),
            Err(failure) if failure.denied && access == Access::Read => {
                return self.read_without_writing(work).map(Some).map_err(|failure| error(what, key, &failure));
            }
            Err(failure) => return Err(error(what, key, &failure)),
        };
        let behavior = match access {
            Access::Read => TransactionBehavior::Deferred,
            Access::Change | Access::Write => TransactionBehavior::Immediate,
        };
        let done = connection.transaction_with_behavior(behavior).and_then(|transaction| {
            let value = work(&Rows(&transaction))?;
            transaction.commit()?;
            Ok(value)
        });
        done.map(Some).map_err(|e| {
            // The bytes of one row are damaged. The next write of this object replaces the row.
            if matches!(e, Error::FromSqlConversionFailure(..)) {
                return ObjectError::Transient { what, key: key.to_owned(), reason: e.to_string() };
            }
            let failure = Failure::of(&self.path.display().to_string(), &e);
            if failure.damaged && access != Access::Read {
                let found = self.opened.as_ref().and_then(|opened| opened.identity);
                self.begin_anew(found, &failure.reason);
            }
            error(what, key, &failure)
        })
    }

    /// Runs `work` on a file that this process may not write.
    fn read_without_writing<T, F>(&self, work: F) -> Result<T, Failure>
    where
        F: FnOnce(&Rows<'_>) -> Result<T, Error>,
    {
        let mut reader = open_reader(&self.path, &SCHEMA, OPTIONS.busy)?;
        let read = reader.read(|connection| work(&Rows(&connection.unchecked_transaction()?)));
        read.map_err(|e| Failure::of(&self.path.display().to_string(), &e))
    }

    /// Returns the connection. Returns `None` if there is no file and the access does not create it.
    fn open(&mut self, access: Access) -> Result<Option<&mut Connection>, Failure> {
        let found = identity(&self.path);
        if self.opened.as_ref().is_some_and(|opened| opened.identity != found) {
            self.opened = None;
        }
        if self.opened.is_none() {
            if access != Access::Write && !self.path.exists() {
                return Ok(None);
            }
            let opened = match open_writer(&self.path, &SCHEMA, &OPTIONS) {
                Err(failure) if failure.damaged && access != Access::Read => {
                    self.begin_anew(found, &failure.reason);
                    open_writer(&self.path, &SCHEMA, &OPTIONS)
                }
                opened => opened,
            };
            let connection = opened?;
            // Overwrite deleted data, because it includes texts of documents.
            let secured = connection.pragma_update(None, "secure_delete", true);
            secured.map_err(|e| Failure::of(&self.path.display().to_string(), &e))?;
            // A process that was killed may have left deleted rows in the log.
            if let Err(error) = empty_log_at_once(&connection, &self.path.display().to_string()) {
                tracing::debug!(%error, "the log of artefacts is not emptied yet");
            }
            self.opened = Some(Opened { connection, identity: identity(&self.path) });
        }
        Ok(self.opened.as_mut().map(|opened| &mut opened.connection))
    }

    /// Removes what remains of deleted rows: deletes a damaged file that was moved aside, and empties the log.
    ///
    /// # Errors
    /// Returns an error if another process keeps the log from being emptied.
    fn forget(&self) -> Result<(), Failure> {
        let location = self.path.display().to_string();
        match std::fs::remove_file(beside(&self.path, ".damaged")) {
            Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
                return Err(Failure::new(&location, format!("the damaged file can't be deleted: {e}"), "delete it"));
            }
            _ => {}
        }
        self.empty_log()
    }

    /// Copies the write-ahead log into the file and empties it.
    fn empty_log(&self) -> Result<(), Failure> {
        let Some(opened) = &self.opened else { return Ok(()) };
        empty_log_at_once(&opened.connection, &self.path.display().to_string())
    }

    /// Moves the damaged file aside, so that the next write creates an empty one. If an earlier damaged file was moved
    /// aside, that file is overwritten, because one damaged file is enough for analysis.
    fn begin_anew(&mut self, damaged: Option<Identity>, reason: &str) {
        let path = self.path.display();
        tracing::warn!(%path, reason, "moving the damaged file of artefacts aside; stages that need one run again");
        self.opened = None;
        // Another process may have done the same. Its new file must stay.
        if damaged != identity(&self.path) {
            return;
        }
        if let Err(error) = std::fs::rename(&self.path, beside(&self.path, ".damaged")) {
            tracing::warn!(%error, %path, "can't move the damaged file; move it away, and docweir creates a new one");
        }
        for leftover in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(beside(&self.path, leftover));
        }
    }
}

/// Returns the identity of a file, or `None` if the file cannot be inspected.
fn identity(path: &Path) -> Option<Identity> {
    std::fs::metadata(path).ok().map(|file| (file.dev(), file.ino()))
}

/// Empties the write-ahead log. Hardly waits for other processes, because nothing else can be read or written
/// meanwhile.
fn empty_log_at_once(connection: &Connection, location: &str) -> Result<(), Failure> {
    let failed = |e| Failure::of(location, &e);
    connection.busy_timeout(Duration::from_millis(100)).map_err(failed)?;
    let emptied = empty_log(connection, location);
    connection.busy_timeout(OPTIONS.busy).map_err(failed)?;
    emptied
}

/// Converts a failure of the database into one of an object store.
fn error(what: &'static str, key: &str, failure: &Failure) -> ObjectError {
    let (key, reason) = (key.to_owned(), failure.to_string());
    if failure.busy || failure.damaged {
        return ObjectError::Transient { what, key, reason };
    }
    ObjectError::Storage { what, key, reason: failure.reason.clone(), hint: failure.hint }
}
