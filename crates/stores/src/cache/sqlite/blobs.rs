//! Stores byte values by model and text, in a file whose loss is harmless.
//!
//! Each value has a CRC-32; a row with a wrong checksum counts as missing. The time of each row's last use is kept in
//! memory and written together with the next new rows, so a lookup never writes. When the file exceeds `max_bytes`,
//! the least recently used rows are deleted in groups, and new rows reuse the space of the deleted rows.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use docweir_core::cache::{CacheOptions, Forget};
use docweir_core::documents::Sha256Hex;
use docweir_core::error::StageError;
use tokio::sync::Mutex;

use super::table::{Table, is_damage};
use crate::sqlite::beside;

/// Gives shared access to the file; clones are cheap. One lookup or write runs at a time, on a thread that may block.
#[derive(Clone)]
pub struct Blobs {
    state: Arc<Mutex<State>>,
}

struct State {
    /// Name of the cache in log messages.
    name: &'static str,
    path: PathBuf,
    limits: CacheOptions,
    /// Open table. `None` if the file cannot be used; the cache is then empty.
    table: Option<Table>,
    /// True if the last operation failed and was logged. Further failures are not logged until an operation succeeds.
    failing: bool,
}

impl Blobs {
    /// Opens the file at `path`; the folder must exist. Blocks the thread. This never fails: if the file cannot be
    /// used, the cache is empty.
    pub fn open(name: &'static str, path: &Path, limits: CacheOptions) -> Self {
        let mut state = State { name, path: path.to_owned(), limits, table: None, failing: false };
        match Table::open(name, path, &state.limits) {
            Ok(table) => state.table = table,
            Err(error) => state.failed("open", &error),
        }
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Runs `work` on the table. Returns `T::default()` if there is no table or `work` fails.
    async fn run<T, F>(&self, what: &'static str, work: F) -> T
    where
        T: Default + Send + 'static,
        F: FnOnce(&mut Table) -> Result<T, rusqlite::Error> + Send + 'static,
    {
        let mut state = self.state.clone().lock_owned().await;
        let task = tokio::task::spawn_blocking(move || {
            let Some(table) = &mut state.table else { return T::default() };
            match work(table) {
                Ok(value) => {
                    state.failing = false;
                    value
                }
                Err(error) => {
                    state.failed(what, &error);
                    T::default()
                }
            }
        });
        task.await.unwrap_or_else(|error| {
            tracing::warn!(%error, "cache operation aborted");
            T::default()
        })
    }

    /// Returns the cached value of each text, in the order of the texts.
    pub async fn get(&self, model: String, texts: &[Sha256Hex]) -> Vec<Option<Vec<u8>>> {
        if texts.is_empty() {
            return Vec::new();
        }
        let wanted = texts.to_vec();
        let mut found: Vec<Option<Vec<u8>>> = self.run("read", move |table| table.get(&model, &wanted)).await;
        // The result is empty if there is no table.
        found.resize(texts.len(), None);
        found
    }

    /// Stores new entries; existing entries are not changed.
    pub async fn put(&self, model: String, entries: Vec<(Sha256Hex, Vec<u8>)>) {
        if !entries.is_empty() {
            self.run("write", move |table| table.put(&model, &entries)).await;
        }
    }

    pub async fn forget(&self, texts: Forget) -> Result<u64, StageError> {
        let name = {
            let state = self.state.lock().await;
            // A damaged file cannot be searched, so it is deleted. A disabled cache is deleted as a whole.
            let leftovers: &[&str] =
                if state.limits.enabled { &[".damaged"] } else { &[".damaged", "", "-wal", "-shm"] };
            for suffix in leftovers {
                remove(&beside(&state.path, suffix))?;
            }
            if !state.limits.enabled {
                return Ok(0);
            }
            state.name
        };
        let forgotten = self.run("write", move |table| table.forget(&texts).map(Some)).await;
        let failed = || StageError::system("cache", format!("the {name} could not delete entries; see the log"));
        forgotten.ok_or_else(failed)
    }
}

impl State {
    fn failed(&mut self, what: &'static str, error: &rusqlite::Error) {
        if is_damage(error) {
            let path = self.path.display();
            tracing::warn!(%error, %path, "moving the damaged {} aside and starting an empty one", self.name);
            self.begin_anew();
            return;
        }
        if !self.failing {
            tracing::warn!(%error, path = %self.path.display(), "can't {what} the {}; continuing without it", self.name);
        }
        self.failing = true;
    }

    /// Moves the damaged file aside and opens a new file. If an earlier damaged file was moved aside, that file is
    /// overwritten, because one damaged file is enough for analysis.
    fn begin_anew(&mut self) {
        self.table = None;
        let moved = std::fs::rename(&self.path, beside(&self.path, ".damaged"));
        for leftover in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(beside(&self.path, leftover));
        }
        let opened = moved
            .map_err(|e| e.to_string())
            .and_then(|()| Table::open(self.name, &self.path, &self.limits).map_err(|e| e.to_string()));
        match opened {
            Ok(table) => self.table = table,
            Err(error) => tracing::warn!(error, "can't create a new {}; continuing without it", self.name),
        }
    }
}

fn remove(path: &Path) -> Result<(), StageError> {
    match std::fs::remove_file(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => {
            Err(StageError::system("cache", format!("can't delete {}: {e}", path.display())))
        }
        _ => Ok(()),
    }
}
