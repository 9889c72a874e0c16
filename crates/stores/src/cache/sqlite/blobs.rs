//! Bytes by model and text, in a file that may be lost.
//!
//! Each has a CRC-32 beside it: a row that rotted is a row that is not there. Which rows were used last is gathered in
//! memory and written with the next new ones, so that a lookup never writes. When the file holds more than `max_bytes`,
//! the rows that were not used for the longest go, in batches, and new rows take their place in the file.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use docweir_core::cache::{CacheLimits, Forget};
use docweir_core::documents::Sha256Hex;
use docweir_core::error::StageError;
use tokio::sync::Mutex;

use super::table::{Table, is_damage};

/// Cheap to clone; clones share the file. One lookup or write runs at a time, on a thread that may block.
#[derive(Clone)]
pub struct Blobs {
    state: Arc<Mutex<State>>,
}

struct State {
    /// For the log.
    name: &'static str,
    path: PathBuf,
    limits: CacheLimits,
    /// `None` when the file can't be used: the cache then knows nothing.
    table: Option<Table>,
    /// The last operation failed, and the log says so: it is not said again until one succeeds.
    failing: bool,
}

impl Blobs {
    /// Opens the file at `path`; its folder must exist. Never fails: a cache that can't be used knows nothing. Blocks.
    pub fn open(name: &'static str, path: &Path, limits: CacheLimits) -> Self {
        let mut state = State { name, path: path.to_owned(), limits, table: None, failing: false };
        match Table::open(name, path, &state.limits) {
            Ok(table) => state.table = table,
            Err(error) => state.failed("open", &error),
        }
        Self { state: Arc::new(Mutex::new(state)) }
    }

    /// Runs `work` on the table; `T::default()` when there is none or it fails.
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
            tracing::warn!(%error, "a cache did not answer");
            T::default()
        })
    }

    /// Of each text what is known, in their order.
    pub async fn get(&self, model: String, texts: &[Sha256Hex]) -> Vec<Option<Vec<u8>>> {
        if texts.is_empty() {
            return Vec::new();
        }
        let wanted = texts.to_vec();
        let mut found: Vec<Option<Vec<u8>>> = self.run("read", move |table| table.get(&model, &wanted)).await;
        // Nothing at all, if there is no table.
        found.resize(texts.len(), None);
        found
    }

    /// What is known already is left as it is.
    pub async fn put(&self, model: String, entries: Vec<(Sha256Hex, Vec<u8>)>) {
        if !entries.is_empty() {
            self.run("write", move |table| table.put(&model, &entries)).await;
        }
    }

    pub async fn forget(&self, texts: Forget) -> Result<u64, StageError> {
        let name = {
            let state = self.state.lock().await;
            // What was set aside can't be looked into; what is of no use any more goes as a whole.
            let leftovers: &[&str] =
                if state.limits.enabled { &[".damaged"] } else { &[".damaged", "", "-wal", "-shm"] };
            for suffix in leftovers {
                remove(&state.beside(suffix))?;
            }
            if !state.limits.enabled {
                return Ok(0);
            }
            state.name
        };
        let forgotten = self.run("write", move |table| table.forget(&texts).map(Some)).await;
        let failed = || StageError::system("cache", format!("the {name} could not forget; the log says why"));
        forgotten.ok_or_else(failed)
    }
}

impl State {
    fn failed(&mut self, what: &'static str, error: &rusqlite::Error) {
        if is_damage(error) {
            let path = self.path.display();
            tracing::warn!(%error, %path, "the {} is damaged: set aside, begun anew", self.name);
            self.begin_anew();
            return;
        }
        if !self.failing {
            tracing::warn!(%error, path = %self.path.display(), "can't {what} the {}: going on without it", self.name);
        }
        self.failing = true;
    }

    fn beside(&self, suffix: &str) -> PathBuf {
        let mut name = self.path.clone().into_os_string();
        name.push(suffix);
        PathBuf::from(name)
    }

    /// Sets the damaged file aside (over the one before: one is enough to look into) and opens a new one.
    fn begin_anew(&mut self) {
        self.table = None;
        let moved = std::fs::rename(&self.path, self.beside(".damaged"));
        for leftover in ["-wal", "-shm"] {
            let _ = std::fs::remove_file(self.beside(leftover));
        }
        let opened = moved
            .map_err(|e| e.to_string())
            .and_then(|()| Table::open(self.name, &self.path, &self.limits).map_err(|e| e.to_string()));
        match opened {
            Ok(table) => self.table = table,
            Err(error) => tracing::warn!(error, "no new {} can be made: going on without one", self.name),
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
