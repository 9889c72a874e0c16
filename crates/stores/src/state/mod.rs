//! The state folder: everything that lasts, in one place.
//!
//! ```text
//! .docweir/
//!   format       the format's version, one line
//!   .gitignore   so that nobody commits the folder by accident
//!   lock         held by the one orchestrator, with its name in it
//!   control.db   what is to be done and what was done
//!   paid.db      what was paid for, and what is to be: the ledger, batches, items
//!   objects/     artefacts and the vector store
//!   batches/     results of batches until they are taken in
//!   cache/       what can be made again: embeddings
//! ```
//! Reading (`search`, `status`) needs no lock; `retry` and `delete` go through the control store. Only the orchestrator
//! (`ingest`, `serve`) takes [`StateFolder::lock_orchestrator`]: the kernel's lock, which dies with its process, so that
//! nothing is left over after a `kill -9`, and which proves to the next holder that the one before is gone.

mod lock;
#[cfg(test)]
mod tests;

use std::fs::File;
use std::io::{self, Write};
use std::path::{Path, PathBuf};

pub use lock::{LockError, LockHolder, OrchestratorLock, owner_id};

/// Grows when an older docweir could no longer make sense of the folder.
pub const FORMAT_VERSION: u32 = 1;
const FORMAT_NAME: &str = "docweir state ";
const MAX_FORMAT_BYTES: u64 = 256;
/// What may be in a folder whose making was cut short.
const OURS: [&str; 8] =
    ["format", "format.new", ".gitignore", "lock", "control.db", "control.db-wal", "control.db-shm", "objects"];

#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("there is no state folder at {path}; `docweir ingest FOLDER` makes one, `--state` names another", path = .0.display())]
    Missing(PathBuf),
    #[error(
        "{path} is not a docweir state folder: it has no file `format` but other files; choose an empty or a new folder",
        path = .0.display()
    )]
    Foreign(PathBuf),
    #[error(
        "the state folder {path} has format {found}, made by a newer docweir; this one knows up to {FORMAT_VERSION}: \
         update docweir or choose another folder",
        path = .path.display()
    )]
    Newer { path: PathBuf, found: u64 },
    #[error(
        "the file {path} is damaged: it should say `{FORMAT_NAME}{FORMAT_VERSION}`; restore the folder from a copy, or \
         move it away and ingest again",
        path = .0.display()
    )]
    Damaged(PathBuf),
    #[error("can't {what} {path}: {source}; {hint}", path = .path.display())]
    Storage { what: &'static str, path: PathBuf, source: io::Error, hint: &'static str },
}

impl StateError {
    fn storage(what: &'static str, path: &Path, source: io::Error) -> Self {
        use io::ErrorKind::*;
        let hint = match source.kind() {
            StorageFull | QuotaExceeded => "free some space, or choose a state folder on another disk",
            ReadOnlyFilesystem => "mount the disk for writing, or choose a state folder on another disk",
            PermissionDenied => "give this user the right to it, or choose another state folder",
            NotADirectory | AlreadyExists => "it is a file: choose another state folder",
            _ => "check the disk, or choose another state folder",
        };
        StateError::Storage { what, path: path.to_owned(), source, hint }
    }
}

/// Whether a folder is docweir's, whatever it is called and whatever its version: intake leaves such folders alone.
pub fn is_state_folder(folder: &Path) -> bool {
    let mut head = [0; FORMAT_NAME.len()];
    let read = File::open(folder.join("format")).and_then(|mut f| io::Read::read_exact(&mut f, &mut head));
    read.is_ok() && head == *FORMAT_NAME.as_bytes()
}

/// A state folder whose format this docweir knows.
#[derive(Clone, Debug)]
pub struct StateFolder {
    root: PathBuf,
}

impl StateFolder {
    /// Opens the folder at `path`; makes it if there is none, or an empty one. A folder with anything else in it is
    /// left alone.
    pub fn open_or_create(path: &Path) -> Result<Self, StateError> {
        std::fs::create_dir_all(path).map_err(|e| StateError::storage("make the state folder", path, e))?;
        let this = Self { root: absolute(path)? };
        if this.read_format()?.is_none() {
            this.create()?;
        }
        Ok(this)
    }

    /// Opens a folder that was made before; changes nothing in it.
    pub fn open_existing(path: &Path) -> Result<Self, StateError> {
        match std::fs::metadata(path) {
            Ok(m) if m.is_dir() => {}
            Ok(_) => return Err(StateError::Foreign(path.to_owned())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(StateError::Missing(path.to_owned())),
            Err(e) => return Err(StateError::storage("open the state folder", path, e)),
        }
        let this = Self { root: absolute(path)? };
        match this.read_format()? {
            Some(()) => Ok(this),
            None if this.is_unfinished()? => Err(StateError::Missing(path.to_owned())),
            None => Err(StateError::Foreign(path.to_owned())),
        }
    }

    pub fn root(&self) -> &Path {
        &self.root
    }

    pub fn control_db(&self) -> PathBuf {
        self.root.join("control.db")
    }

    pub fn paid_db(&self) -> PathBuf {
        self.root.join("paid.db")
    }

    pub fn objects(&self) -> PathBuf {
        self.root.join("objects")
    }

    pub fn cache(&self) -> PathBuf {
        self.root.join("cache")
    }

    pub fn embedding_cache_db(&self) -> PathBuf {
        self.cache().join("embeddings.db")
    }

    pub fn findings_cache_db(&self) -> PathBuf {
        self.cache().join("findings.db")
    }

    /// Makes this process the folder's orchestrator until the lock is dropped. `command` is what the user typed, for
    /// the message that others get.
    pub fn lock_orchestrator(
        &self,
        command: &str,
        clock: &dyn docweir_core::clock::Clock,
    ) -> Result<OrchestratorLock, LockError> {
        lock::take(&self.root, command, clock)
    }

    /// `None` when there is no format file yet.
    fn read_format(&self) -> Result<Option<()>, StateError> {
        let path = self.root.join("format");
        let text = match File::open(&path).and_then(|f| io::read_to_string(io::Read::take(f, MAX_FORMAT_BYTES))) {
            Ok(text) => text,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(e) if e.kind() == io::ErrorKind::InvalidData => return Err(StateError::Damaged(path)),
            Err(e) => return Err(StateError::storage("read", &path, e)),
        };
        let version = text.strip_prefix(FORMAT_NAME).and_then(|v| v.trim_end().parse::<u64>().ok());
        match version {
            Some(found) if found > u64::from(FORMAT_VERSION) => {
                Err(StateError::Newer { path: self.root.clone(), found })
            }
            Some(found) if found >= 1 => Ok(Some(())),
            _ => Err(StateError::Damaged(path)),
        }
    }

    /// Empty, or with nothing in it but what [`Self::create`] puts there before the format file.
    fn is_unfinished(&self) -> Result<bool, StateError> {
        let failed = |e| StateError::storage("read the folder", &self.root, e);
        for entry in std::fs::read_dir(&self.root).map_err(failed)? {
            let name = entry.map_err(failed)?.file_name();
            if !name.to_str().is_some_and(|n| OURS.contains(&n) || n == "cache" || n.starts_with("format.new")) {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The format file comes last and whole: a folder that has one is complete.
    fn create(&self) -> Result<(), StateError> {
        if !self.is_unfinished()? {
            return Err(StateError::Foreign(self.root.clone()));
        }
        for folder in [self.objects(), self.cache()] {
            std::fs::create_dir_all(&folder).map_err(|e| StateError::storage("make the folder", &folder, e))?;
        }
        self.write_file(".gitignore", "*\n")?;
        self.write_file("format", &format!("{FORMAT_NAME}{FORMAT_VERSION}\n"))?;
        tracing::debug!(path = %self.root.display(), "made the state folder");
        Ok(())
    }

    /// Whole and synced. Two processes may do it at once: both write the same.
    fn write_file(&self, name: &str, text: &str) -> Result<(), StateError> {
        let path = self.root.join(name);
        let new = self.root.join(format!("format.new{}", std::process::id()));
        let written = File::create(&new)
            .and_then(|mut f| f.write_all(text.as_bytes()).and_then(|()| f.sync_all()))
            .and_then(|()| std::fs::rename(&new, &path))
            .and_then(|()| File::open(&self.root)?.sync_all());
        written.map_err(|e| {
            let _ = std::fs::remove_file(&new);
            StateError::storage("write", &path, e)
        })
    }
}

fn absolute(path: &Path) -> Result<PathBuf, StateError> {
    path.canonicalize().map_err(|e| StateError::storage("open the state folder", path, e))
}
