//! Stores objects as files in a local folder.
//!
//! ```text
//! root/chunks/doc_…_chunks.json   an object; its key is its path
//! root/.tmp/…                     unfinished writes, on the same file system; never listed
//! root/.locks/00 … 3f             64 locks, each for many keys; held while a put compares and renames
//! ```
//! A put writes a file in `.tmp` and then renames the file to the object's path. A reader therefore sees the old
//! object or the new one, never a mixture. A put with a precondition holds the key's lock *exclusively* while it
//! reads, compares and renames. Plain puts and deletes hold the lock *shared*, so no plain put or delete can run
//! between the comparison and the rename. The locks are kernel locks (`flock`), which the kernel releases when their
//! process ends. They work between processes on one machine, but not over network file systems.
//!
//! A tag is the SHA-256 of the body, so objects with equal tags have equal content. An object that was changed and
//! changed back has its former tag again. This is safe, because a compare-and-swap depends only on the content that
//! the caller read. (A manifest contains its version, so it never returns to an earlier state.) The drawback is that
//! `get` hashes the whole body; [`ObjectStore::get_range`] and memory mapping do not.
//!
//! Keys are case-sensitive, so use a case-sensitive file system. A key must not be the folder of another key: `a` and
//! `a/b` cannot both exist.

pub(super) mod files;
mod listing;
mod options;
#[cfg(test)]
mod tests;
mod upload;

use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use docweir_core::clock::{SharedClock, UnixMicros};
use docweir_core::files::open_regular;

pub use options::LocalObjectOptions;

use self::files::{KeyLock, Temporary, remove_leftovers, sync_folders};
use self::upload::LocalUpload;
use super::keys::check_key;
use super::{Durability, ObjectError, ObjectMeta, ObjectStore, Precondition, Tag, Upload};

const TMP: &str = ".tmp";
const LOCKS: &str = ".locks";

#[derive(Clone)]
pub struct LocalObjectStore {
    inner: Arc<Inner>,
}

struct Inner {
    root: PathBuf,
    options: LocalObjectOptions,
}

impl LocalObjectStore {
    /// Opens the folder, creates it if it is missing, and removes the leftovers of crashed writers. Blocks the thread.
    pub fn open(root: &Path, options: LocalObjectOptions, clock: &SharedClock) -> Result<Self, ObjectError> {
        let this = Self::over(root, options, &[TMP, LOCKS])?;
        let (root, options) = (&this.inner.root, &this.inner.options);
        let age = Duration::from_secs(options.leftover_seconds);
        if let Err(error) = remove_leftovers(&root.join(TMP), clock.now(), age) {
            tracing::warn!(%error, root = %root.display(), "leftovers of crashed writes not removed");
        }
        Ok(this)
    }

    /// Opens an existing folder and changes nothing in it, so that reading needs no write permission. Blocks the
    /// thread. Writes succeed only if the folder was opened with [`open`](Self::open) before.
    pub fn open_to_read(root: &Path, options: LocalObjectOptions) -> Result<Self, ObjectError> {
        Self::over(root, options, &[])
    }

    /// Opens the folder after creating the given folders in it.
    fn over(root: &Path, options: LocalObjectOptions, create: &[&str]) -> Result<Self, ObjectError> {
        let failed = |what| move |e: io::Error| failure(what, &root.display().to_string(), &e);
        // A linked folder could place the state, with the text of documents, where others can read or replace it.
        if root.is_symlink() {
            let link =
                io::Error::new(io::ErrorKind::InvalidInput, "it is a symbolic link; replace it by the folder itself");
            return Err(failed("open")(link));
        }
        for folder in create {
            std::fs::create_dir_all(root.join(folder)).map_err(failed("create the folders of"))?;
        }
        let root = root.canonicalize().map_err(failed("open"))?;
        Ok(Self { inner: Arc::new(Inner { root, options }) })
    }

    /// Runs `work` on a thread that may block. If the caller's future is dropped, `work` still runs to its end.
    async fn blocking<T, F>(&self, what: &'static str, key: &str, work: F) -> Result<T, ObjectError>
    where
        T: Send + 'static,
        F: FnOnce(&Inner, &str) -> Result<T, ObjectError> + Send + 'static,
    {
        let (inner, owned) = (self.inner.clone(), key.to_owned());
        let task = tokio::task::spawn_blocking(move || work(&inner, &owned));
        task.await.unwrap_or_else(|e| {
            Err(ObjectError::Unknown { key: key.to_owned(), reason: format!("{what} did not finish: {e}") })
        })
    }
}

#[async_trait]
impl ObjectStore for LocalObjectStore {
    fn location(&self) -> String {
        self.inner.root.display().to_string()
    }

    async fn put(
        &self,
        key: &str,
        body: Bytes,
        when: Precondition,
        durability: Durability,
    ) -> Result<Tag, ObjectError> {
        check_key(key)?;
        self.blocking("write", key, move |inner, key| inner.put(key, &body, &when, durability)).await
    }

    /// Writes all objects on one thread, because for small objects a change of thread takes longer than the write.
    async fn put_all(&self, objects: Vec<(String, Bytes)>, durability: Durability) -> Result<(), ObjectError> {
        objects.iter().try_for_each(|(key, _)| check_key(key))?;
        let first = objects.first().map(|(key, _)| key.clone()).unwrap_or_default();
        self.blocking("write", &first, move |inner, _| {
            objects.iter().try_for_each(|(key, body)| inner.put(key, body, &Precondition::None, durability).map(drop))
        })
        .await
    }

    async fn create(&self, key: &str) -> Result<Box<dyn Upload>, ObjectError> {
        check_key(key)?;
        let store = self.inner.clone();
        let upload = self.blocking("write", key, move |_, key| LocalUpload::begin(store, key)).await?;
        Ok(Box::new(upload))
    }

    async fn get(&self, key: &str) -> Result<(Bytes, Tag), ObjectError> {
        check_key(key)?;
        self.blocking("read", key, |inner, key| {
            let body = inner.read(key)?;
            let tag = Tag::of(&body);
            Ok((body, tag))
        })
        .await
    }

    async fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Bytes, ObjectError> {
        check_key(key)?;
        self.blocking("read", key, move |inner, key| inner.read_range(key, offset, length)).await
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta, ObjectError> {
        check_key(key)?;
        self.blocking("inspect", key, |inner, key| {
            let metadata = inner.open(key)?.metadata().map_err(|e| failure("inspect", key, &e))?;
            Ok(ObjectMeta { key: key.to_owned(), bytes: metadata.len(), modified: modified(&metadata) })
        })
        .await
    }

    async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        check_key(key)?;
        self.blocking("delete", key, |inner, key| inner.delete(key)).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ObjectMeta>, ObjectError> {
        let after = after.map(ToOwned::to_owned);
        self.blocking("list", prefix, move |inner, prefix| {
            listing::list(&inner.root, prefix, after.as_deref(), limit).map_err(|e| failure("list", prefix, &e))
        })
        .await
    }

    fn local_path(&self, key: &str) -> Option<PathBuf> {
        check_key(key).ok().map(|()| self.inner.path(key))
    }
}

impl Inner {
    fn path(&self, key: &str) -> PathBuf {
        self.root.join(key)
    }

    fn put(&self, key: &str, body: &[u8], when: &Precondition, durability: Durability) -> Result<Tag, ObjectError> {
        self.check_size(key, body.len() as u64)?;
        let failed = |e: io::Error| failure("write", key, &e);
        let (tag, path) = (Tag::of(body), self.path(key));
        let mut temporary = self.temporary(body, durability).map_err(failed)?;
        let _lock = KeyLock::take(&self.root, key, *when != Precondition::None, &self.options)?;
        self.check(key, when)?;
        loop {
            match self.rename(&mut temporary, &path) {
                Ok(()) => break,
                // If this process was suspended for an hour, a clean-up may have removed its temporary file.
                Err(e) if e.kind() == io::ErrorKind::NotFound && !temporary.exists() => {
                    temporary = self.temporary(body, durability).map_err(failed)?;
                }
                Err(e) => return Err(failed(e)),
            }
        }
        if durability == Durability::Durable {
            // The new object is already visible. If the sync fails, a power loss may still undo the write.
            sync_folders(&path, &self.root).map_err(|e| ObjectError::Unknown {
                key: key.to_owned(),
                reason: format!("the folder was not synced: {e}"),
            })?;
        }
        Ok(tag)
    }

    /// Renames the temporary file to `path` and creates missing folders. A failed rename is retried, because a
    /// concurrent delete may remove a new folder while it is still empty.
    fn rename(&self, temporary: &mut Temporary, path: &Path) -> io::Result<()> {
        let mut attempts = 0;
        loop {
            attempts += 1;
            match temporary.rename(path) {
                Err(e) if e.kind() == io::ErrorKind::NotFound && temporary.exists() && attempts < 8 => {
                    self.make_parents(path)?;
                }
                other => return other,
            }
        }
    }

    fn temporary(&self, body: &[u8], durability: Durability) -> io::Result<Temporary> {
        Temporary::write(&self.root.join(TMP), body, durability == Durability::Durable)
    }

    fn make_parents(&self, path: &Path) -> io::Result<()> {
        path.parent().map_or(Ok(()), std::fs::create_dir_all)
    }

    fn check(&self, key: &str, when: &Precondition) -> Result<(), ObjectError> {
        let conflict = || Err(ObjectError::Conflict(key.to_owned()));
        match when {
            Precondition::None => Ok(()),
            Precondition::Absent => match self.open(key) {
                Ok(_) => conflict(),
                Err(ObjectError::NotFound(_)) => Ok(()),
                Err(e) => Err(e),
            },
            Precondition::Matches(expected) => match self.read(key) {
                Ok(body) if Tag::of(&body) == *expected => Ok(()),
                Ok(_) | Err(ObjectError::NotFound(_)) => conflict(),
                Err(e) => Err(e),
            },
        }
    }

    /// Opens the object's file. If the path is a folder, the object counts as not found.
    fn open(&self, key: &str) -> Result<File, ObjectError> {
        let not_found = || ObjectError::NotFound(key.to_owned());
        let path = self.path(key);
        open_regular(&path).map_err(|e| match e.kind() {
            io::ErrorKind::NotFound | io::ErrorKind::NotADirectory | io::ErrorKind::IsADirectory => not_found(),
            _ if path.is_dir() => not_found(),
            _ => failure("read", key, &e),
        })
    }

    fn read(&self, key: &str) -> Result<Bytes, ObjectError> {
        let failed = |e: io::Error| failure("read", key, &e);
        let mut file = self.open(key)?;
        let length = file.metadata().map_err(failed)?.len();
        self.check_size(key, length)?;
        let mut body = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
        file.read_to_end(&mut body).map_err(failed)?;
        Ok(body.into())
    }

    fn read_range(&self, key: &str, offset: u64, length: u64) -> Result<Bytes, ObjectError> {
        let failed = |e: io::Error| failure("read", key, &e);
        let mut file = self.open(key)?;
        let length = length.min(file.metadata().map_err(failed)?.len().saturating_sub(offset));
        self.check_size(key, length)?;
        file.seek(SeekFrom::Start(offset)).map_err(failed)?;
        let mut body = Vec::with_capacity(usize::try_from(length).unwrap_or(0));
        file.take(length).read_to_end(&mut body).map_err(failed)?;
        Ok(body.into())
    }

    fn delete(&self, key: &str) -> Result<(), ObjectError> {
        let _lock = KeyLock::take(&self.root, key, false, &self.options)?;
        let path = self.path(key);
        match std::fs::remove_file(&path) {
            Ok(()) => {}
            Err(e) if matches!(e.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => return Ok(()),
            // A folder is not an object, so there is nothing to delete. Linux reports "is a directory", other systems
            // "forbidden".
            Err(_) if path.is_dir() => return Ok(()),
            Err(e) => return Err(failure("delete", key, &e)),
        }
        // Folders exist only for their objects: remove the empty ancestors.
        for folder in path.ancestors().skip(1).take_while(|f| *f != self.root) {
            if std::fs::remove_dir(folder).is_err() {
                break;
            }
        }
        Ok(())
    }

    fn check_size(&self, key: &str, bytes: u64) -> Result<(), ObjectError> {
        let most = self.options.max_object_bytes;
        if bytes <= most {
            return Ok(());
        }
        let reason = format!("it has {bytes} bytes, more than the {most} allowed");
        Err(ObjectError::TooLarge { key: key.to_owned(), reason })
    }
}

fn modified(metadata: &std::fs::Metadata) -> UnixMicros {
    let since = metadata.modified().ok().and_then(|t| t.duration_since(UNIX_EPOCH).ok()).unwrap_or_default();
    i64::try_from(since.as_micros()).unwrap_or(i64::MAX)
}

pub fn failure(what: &'static str, key: &str, error: &io::Error) -> ObjectError {
    use io::ErrorKind::*;
    let (key, reason) = (key.to_owned(), error.to_string());
    let hint = match error.kind() {
        StorageFull | QuotaExceeded | FileTooLarge => "free some space, or point the state folder at another disk",
        ReadOnlyFilesystem => "mount the disk for writing, or point the state folder at another disk",
        PermissionDenied => "give this user access, or point the state folder elsewhere",
        NotADirectory | IsADirectory | AlreadyExists => "a key cannot be the folder of another key: rename one of them",
        _ if error.raw_os_error() == Some(rustix::io::Errno::IO.raw_os_error()) => {
            "check the disk and the system's log"
        }
        _ => return ObjectError::Transient { what, key, reason },
    };
    ObjectError::Storage { what, key, reason, hint }
}
