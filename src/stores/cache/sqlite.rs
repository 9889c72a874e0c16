//! The embedding cache in an SQLite file of its own.
//!
//! Vectors are little-endian `f32`s under the text's hash, with a CRC-32 beside them: a row that
//! rotted is a row that is not there. Which rows were used last is gathered in memory and written with the next new
//! ones, so that a lookup never writes. When the file holds more than `max_bytes`, the rows that were not used for the
//! longest go, in batches, and new rows take their place in the file.

mod table;

use std::path::{Path, PathBuf};
use std::sync::Arc;

use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use tokio::sync::Mutex;

use self::table::{Table, is_damage};
use super::{EmbeddingCache, Forget};
use crate::documents::Sha256Hex;
use crate::error::StageError;
use crate::stages::model::ModelIdentity;

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct EmbeddingCacheOptions {
    /// Whether vectors are kept at all. Default true.
    pub enabled: bool,
    /// Size of the cache's file, in bytes, above which the vectors that were not used for the longest are dropped.
    /// Default 2147483648 (2 GiB: about a million vectors of 384 dimensions).
    pub max_bytes: u64,
    /// Milliseconds to wait while another process writes to the cache, before going on without it. Default 2000.
    pub busy_timeout_milliseconds: u64,
}

impl Default for EmbeddingCacheOptions {
    fn default() -> Self {
        Self { enabled: true, max_bytes: 2 << 30, busy_timeout_milliseconds: 2000 }
    }
}

impl EmbeddingCacheOptions {
    /// Fields out of range, and their ranges.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let mut check = |field, value: u64, low: u64, high: u64| {
            if !(low..=high).contains(&value) {
                problems.push((field, format!("{value} is out of range: use {low} to {high}")));
            }
        };
        check("max_bytes", self.max_bytes, 1 << 20, 1 << 44);
        check("busy_timeout_milliseconds", self.busy_timeout_milliseconds, 1, 600_000);
        problems
    }
}

/// Cheap to clone; clones share the file. One lookup or write runs at a time, on a thread that may block.
#[derive(Clone)]
pub struct SqliteEmbeddingCache {
    state: Arc<Mutex<State>>,
}

struct State {
    path: PathBuf,
    options: EmbeddingCacheOptions,
    /// `None` when the file can't be used: the cache then knows nothing.
    table: Option<Table>,
    /// The last operation failed, and the log says so: it is not said again until one succeeds.
    failing: bool,
}

impl SqliteEmbeddingCache {
    /// Opens the cache in the file at `path`; its folder must exist. Never fails: see the module. Blocks.
    pub fn open(path: &Path, options: EmbeddingCacheOptions) -> Self {
        let mut state = State { path: path.to_owned(), options, table: None, failing: false };
        match Table::open(path, &state.options) {
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
            tracing::warn!(%error, "the embedding cache did not answer");
            T::default()
        })
    }
}

impl State {
    fn failed(&mut self, what: &'static str, error: &rusqlite::Error) {
        if is_damage(error) {
            tracing::warn!(%error, path = %self.path.display(), "the embedding cache is damaged: set aside, begun anew");
            self.begin_anew();
            return;
        }
        if !self.failing {
            tracing::warn!(%error, path = %self.path.display(), "can't {what} the embedding cache: going on without it");
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
            .and_then(|()| Table::open(&self.path, &self.options).map_err(|e| e.to_string()));
        match opened {
            Ok(table) => self.table = table,
            Err(error) => tracing::warn!(error, "no new embedding cache can be made: going on without one"),
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

#[async_trait]
impl EmbeddingCache for SqliteEmbeddingCache {
    async fn get_many(&self, model: &ModelIdentity, texts: &[Sha256Hex]) -> Result<Vec<Option<Vec<f32>>>, StageError> {
        if texts.is_empty() {
            return Ok(Vec::new());
        }
        let (model, wanted) = (model.clone(), texts.to_vec());
        let mut found: Vec<Option<Vec<f32>>> = self.run("read", move |table| table.get(&model, &wanted)).await;
        // Nothing at all, if there is no table.
        found.resize(texts.len(), None);
        Ok(found)
    }

    async fn put_many(&self, model: &ModelIdentity, entries: Vec<(Sha256Hex, Vec<f32>)>) -> Result<(), StageError> {
        if let Some((_, vector)) = entries.iter().find(|(_, v)| v.len() != model.dimension as usize) {
            let message = format!(
                "the embedder gave a vector of {} numbers for model {}, which has {}",
                vector.len(),
                model.id,
                model.dimension
            );
            return Err(StageError::system("wrong_dimension", message));
        }
        if !entries.is_empty() {
            let model = model.clone();
            self.run("write", move |table| table.put(&model, &entries)).await;
        }
        Ok(())
    }

    async fn forget(&self, texts: Forget) -> Result<u64, StageError> {
        {
            let state = self.state.lock().await;
            // What was set aside can't be looked into; what is of no use any more goes as a whole.
            let leftovers: &[&str] =
                if state.options.enabled { &[".damaged"] } else { &[".damaged", "", "-wal", "-shm"] };
            for suffix in leftovers {
                remove(&state.beside(suffix))?;
            }
            if !state.options.enabled {
                return Ok(0);
            }
        }
        let forgotten = self.run("write", move |table| table.forget(&texts).map(Some)).await;
        let failed = || StageError::system("cache", "the embedding cache could not forget; the log says why");
        forgotten.ok_or_else(failed)
    }
}
