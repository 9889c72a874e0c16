//! Manages the state folder, which holds all durable state.
//!
//! ```text
//! .docweir/
//!   format       the format's version, one line
//!   .gitignore   keeps the folder out of git
//!   lock         locked by the process that ingests; contains the process id and the command line
//!   control.db   control records and audit log
//!   paid.db      the ledger, batches, items
//!   artefacts.db artefacts of small documents
//!   objects/     large artefacts and the vector store
//!   batches/     results of batches until they are imported
//!   cache/       embeddings and findings; can be rebuilt
//! ```
//! Commands that only read (`search`, `status`) need no lock, and neither do `retry` and `delete`, which only change
//! the control store. Only the orchestrator, which is the process of `ingest` or `serve`, takes the lock
//! ([`StateFolder::lock_orchestrator`]). The lock is a kernel lock: the kernel releases it when the process ends, even
//! after `kill -9`. A process that gets the lock therefore knows that the former holder is gone.

mod lock;
#[cfg(test)]
mod tests;

use std::fs::{File, Permissions};
use std::io::{self, Write};
use std::os::unix::fs::{DirBuilderExt, MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

use docweir_core::files::{is_own, open_regular};

pub use lock::{LockError, LockHolder, OrchestratorLock, owner_id};

/// Version of the state folder's format. The version grows when older versions of docweir can no longer read the
/// folder.
pub const FORMAT_VERSION: u32 = 1;
const FORMAT_NAME: &str = "docweir state ";
const MAX_FORMAT_BYTES: u64 = 256;
/// Files and folders that an interrupted creation of a state folder can leave behind.
const OURS: [&str; 8] =
    ["format", "format.new", ".gitignore", "lock", "control.db", "control.db-wal", "control.db-shm", "objects"];

#[derive(Debug, thiserror::Error)]
pub enum StateError {
    #[error("no state folder at {path}; create one with `docweir ingest FOLDER`, or choose another with `--state`", path = .0.display())]
    Missing(PathBuf),
    #[error(
        "{path} is not a docweir state folder: it has other files but no `format` file; choose an empty or new folder",
        path = .0.display()
    )]
    Foreign(PathBuf),
    #[error(
        "the state folder {path} has format {found}, made by a newer docweir; this one reads up to {FORMAT_VERSION}: \
         update docweir or choose another folder",
        path = .path.display()
    )]
    Newer { path: PathBuf, found: u64 },
    #[error(
        "the file {path} is damaged: expected `{FORMAT_NAME}{FORMAT_VERSION}`; restore the folder from a copy, or \
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
            PermissionDenied => "give this user access, or choose another state folder",
            NotADirectory | AlreadyExists => "it is a file: choose another state folder",
            _ => "check the disk, or choose another state folder",
        };
        StateError::Storage { what, path: path.to_owned(), source, hint }
    }
}

/// Returns whether a folder is a state folder, whatever its name and version. Intake skips such folders.
pub fn is_state_folder(folder: &Path) -> bool {
    let mut head = [0; FORMAT_NAME.len()];
    let read = open_regular(&folder.join("format")).and_then(|mut f| io::Read::read_exact(&mut f, &mut head));
    read.is_ok() && head == *FORMAT_NAME.as_bytes()
}

/// Represents a state folder with a supported format.
#[derive(Clone, Debug)]
pub struct StateFolder {
    root: PathBuf,
}

impl StateFolder {
    /// Opens the state folder at `path`. A missing or empty folder is initialised. A folder with any other content is
    /// not changed, and an error is returned.
    pub fn open_or_create(path: &Path) -> Result<Self, StateError> {
        let created = std::fs::DirBuilder::new().recursive(true).mode(0o770).create(path);
        created.map_err(|e| StateError::storage("create the state folder", path, e))?;
        let this = Self { root: absolute(path)? };
        if this.read_format()?.is_none() {
            this.create()?;
        }
        Ok(this)
    }

    /// Removes the access rights of other users, because the folder contains the text of documents. The group loses
    /// its rights too, unless `group_access` is true. Nothing is changed if another user owns the folder, if the mode
    /// grants none of these rights, or if the disk is read-only.
    ///
    /// # Errors
    /// Returns an error if the mode cannot be read or changed.
    pub fn restrict(&self, group_access: bool) -> io::Result<()> {
        let meta = std::fs::metadata(&self.root)?;
        let mode = meta.mode() & 0o7777;
        let wanted = if group_access { (mode & 0o7770) | 0o070 } else { mode & 0o7700 };
        if !is_own(&meta) || mode == wanted {
            return Ok(());
        }
        match std::fs::set_permissions(&self.root, Permissions::from_mode(wanted)) {
            Err(error) if error.kind() == io::ErrorKind::ReadOnlyFilesystem => return Ok(()),
            done => done?,
        }
        if group_access {
            let root = self.root.display();
            tracing::warn!("state folder opened to its group; run `chmod -R g+rwX {root}` for the files in it");
        }
        Ok(())
    }

    /// Opens an existing state folder without changing it.
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

    pub fn artefacts_db(&self) -> PathBuf {
        self.root.join("artefacts.db")
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

    /// Makes this process the folder's orchestrator until the lock is dropped. `command` is the user's command line.
    /// Other processes show this command line in their error message if the folder is locked.
    pub fn lock_orchestrator(
        &self,
        command: &str,
        clock: &dyn docweir_core::clock::Clock,
    ) -> Result<OrchestratorLock, LockError> {
        lock::take(&self.root, command, clock)
    }

    /// Checks the format file. Returns `None` if the file does not exist yet.
    fn read_format(&self) -> Result<Option<()>, StateError> {
        let path = self.root.join("format");
        let text = match open_regular(&path).and_then(|f| io::read_to_string(io::Read::take(f, MAX_FORMAT_BYTES))) {
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

    /// Returns whether the folder is empty, or contains only files that [`Self::create`] writes before the format
    /// file.
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

    /// Initialises the folder. The format file is written last and atomically, so a folder with a format file is
    /// complete.
    fn create(&self) -> Result<(), StateError> {
        if !self.is_unfinished()? {
            return Err(StateError::Foreign(self.root.clone()));
        }
        for folder in [self.objects(), self.cache()] {
            std::fs::create_dir_all(&folder).map_err(|e| StateError::storage("create the folder", &folder, e))?;
        }
        self.write_file(".gitignore", "*\n")?;
        self.write_file("format", &format!("{FORMAT_NAME}{FORMAT_VERSION}\n"))?;
        tracing::debug!(path = %self.root.display(), "created the state folder");
        Ok(())
    }

    /// Writes and syncs a file atomically. Two processes may do this at the same time, because both write the same
    /// content.
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
