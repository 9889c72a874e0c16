//! Keeps copies of remote objects on the local disk. An object is copied only if it never changes and is read through
//! memory mapping.
//!
//! ```text
//! folder/<hash of location and key>   a complete copy; the file's modification time is the time of the last use
//! folder/.tmp/…                       unfinished copies
//! ```
//! A copy is complete or absent: a fetch writes a temporary file, checks the file's size, syncs the file and then
//! renames it. The underlying store verifies the object's checksum. Concurrent requests for one object wait for the
//! first request. Copies outlive the process. Several processes may share a folder; at worst, two processes fetch the
//! same object. The folder may be emptied at any time, because open files stay readable.
//!
//! If the copies exceed `max_bytes`, the least recently used copies are deleted. A process does not count the
//! unfinished copies of other processes. If several processes fetch at the same time, the folder may therefore exceed
//! the limit by the size of all unfinished copies.

use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use async_trait::async_trait;
use bytes::Bytes;
use docweir_core::clock::SharedClock;
use docweir_core::documents::Sha256Hex;
use docweir_core::files::open_regular;
use docweir_core::ranges::out_of_range;
use serde::{Deserialize, Serialize};

use super::local::failure;
use super::local::files::{Temporary, remove_leftovers};
use super::turns::Turns;
use super::{Durability, ObjectError, ObjectMeta, ObjectStore, Precondition, Tag, Upload};

const TMP: &str = ".tmp";
/// Age after which an unfinished copy is deleted even if its file is locked. Younger copies are kept while they are
/// locked, because a fetch may still be writing them.
const LEFTOVER: Duration = Duration::from_secs(86_400);

/// Configures the local copies of remote objects.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct CopyOptions {
    /// Maximum disk space, in bytes, for all local copies of objects. If searches need more space than this for their
    /// snapshots, the snapshots are fetched repeatedly.
    pub max_bytes: u64,
}

impl Default for CopyOptions {
    fn default() -> Self {
        Self { max_bytes: 20 << 30 }
    }
}

impl CopyOptions {
    /// Returns each field that is out of range, with a message that names the valid range.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        out_of_range("max_bytes", self.max_bytes, 1 << 20, (1 << 56) - 1).into_iter().collect()
    }
}

/// Wraps an object store. Memory mapping uses local copies of the objects; all other operations are passed to the
/// wrapped store.
pub struct CachedObjects {
    objects: Arc<dyn ObjectStore>,
    folder: PathBuf,
    options: CopyOptions,
    clock: SharedClock,
    /// Locks of the objects that are being fetched, by their keys. Further requests for the same object wait.
    turns: Turns,
    /// Total size, in bytes, of unfinished copies.
    promised: Arc<Mutex<u64>>,
}

impl CachedObjects {
    /// Opens the folder and creates it if it is missing. Blocks the thread.
    pub fn open(
        objects: Arc<dyn ObjectStore>,
        folder: &Path,
        options: CopyOptions,
        clock: SharedClock,
    ) -> Result<Self, ObjectError> {
        let failed = |e: io::Error| failure("open the cache", &folder.display().to_string(), &e);
        std::fs::create_dir_all(folder.join(TMP)).map_err(failed)?;
        if let Err(error) = remove_leftovers(&folder.join(TMP), clock.now(), LEFTOVER) {
            tracing::warn!(%error, folder = %folder.display(), "unfinished copies of crashed processes not removed");
        }
        let (turns, promised) = (Turns::default(), Arc::default());
        Ok(Self { objects, folder: folder.to_owned(), options, clock, turns, promised })
    }

    fn path(&self, key: &str) -> PathBuf {
        let name = format!("{}\n{key}", self.objects.location());
        self.folder.join(Sha256Hex::of(name.as_bytes()).as_str())
    }

    /// Opens an existing copy and marks it as the most recently used.
    fn held(&self, path: &Path) -> Option<File> {
        let file = open_regular(path).ok()?;
        // Ignore the failure: a cache on a read-only disk can still be read.
        let _ = file.set_modified(self.now());
        Some(file)
    }

    fn now(&self) -> SystemTime {
        UNIX_EPOCH + Duration::from_micros(u64::try_from(self.clock.now()).unwrap_or(0))
    }

    async fn fetch(&self, key: &str, path: &Path) -> Result<File, ObjectError> {
        let bytes = self.objects.head(key).await?.bytes;
        let _room = self.make_room(key, bytes).await?;
        let failed = |e: io::Error| failure("copy", key, &e);
        let temporary = Temporary::create(&self.folder.join(TMP)).map_err(failed)?;
        let mut copy = UnfinishedCopy { temporary };
        self.objects.read_into(key, copy.temporary.file().try_clone().map_err(failed)?).await?;
        let (to, now) = (path.to_owned(), self.now());
        let copied = tokio::task::spawn_blocking(move || copy.finish(&to, bytes, now)).await;
        copied.unwrap_or_else(|e| Err(io::Error::other(e))).map_err(failed)
    }

    /// Reserves `bytes` bytes of disk space for a copy. Deletes the least recently used copies until the remaining
    /// copies and all reservations together fit into `max_bytes`.
    async fn make_room(&self, key: &str, bytes: u64) -> Result<SpaceReservation, ObjectError> {
        let most = self.options.max_bytes;
        if bytes > most {
            let reason = format!("the object has {bytes} bytes, more than the {most} that the object cache may use");
            let hint = "raise `max_bytes` of the object cache";
            return Err(ObjectError::Storage { what: "copy", key: key.to_owned(), reason, hint });
        }
        let promise = SpaceReservation::new(&self.promised, bytes);
        let (folder, promised) = (self.folder.clone(), promise.all());
        let evicted = tokio::task::spawn_blocking(move || evict(&folder, most.saturating_sub(promised))).await;
        evicted.unwrap_or_else(|e| Err(io::Error::other(e))).map_err(|e| failure("make room for", key, &e))?;
        Ok(promise)
    }
}

/// Holds the temporary file of an unfinished copy. Dropping an `UnfinishedCopy` removes the file, unless the copy was
/// finished.
struct UnfinishedCopy {
    temporary: Temporary,
}

impl UnfinishedCopy {
    fn finish(mut self, to: &Path, bytes: u64, now: SystemTime) -> io::Result<File> {
        let copied = self.temporary.file().metadata()?.len();
        if copied != bytes {
            return Err(io::Error::other(format!("received {copied} bytes instead of {bytes}")));
        }
        self.temporary.file().set_modified(now)?;
        // After a power loss the name must not exist without its bytes.
        self.temporary.sync()?;
        self.temporary.rename(to)?;
        File::open(to)
    }
}

/// Reserves disk space for an unfinished copy. Dropping the reservation frees the space.
struct SpaceReservation {
    promised: Arc<Mutex<u64>>,
    bytes: u64,
}

impl SpaceReservation {
    fn new(promised: &Arc<Mutex<u64>>, bytes: u64) -> Self {
        *promised.lock().unwrap_or_else(PoisonError::into_inner) += bytes;
        Self { promised: promised.clone(), bytes }
    }

    fn all(&self) -> u64 {
        *self.promised.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for SpaceReservation {
    fn drop(&mut self) {
        *self.promised.lock().unwrap_or_else(PoisonError::into_inner) -= self.bytes;
    }
}

fn evict(folder: &Path, most: u64) -> io::Result<()> {
    let mut copies = Vec::new();
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        // Another process may already have deleted this copy.
        let Ok(metadata) = entry.metadata() else { continue };
        if metadata.is_file() {
            copies.push((metadata.modified()?, metadata.len(), entry.path()));
        }
    }
    copies.sort_unstable();
    let mut all: u64 = copies.iter().map(|(_, bytes, _)| bytes).sum();
    for (_, bytes, path) in copies {
        if all <= most {
            break;
        }
        match std::fs::remove_file(&path) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => all -= bytes,
        }
    }
    Ok(())
}

/// Deletes the files in a folder. Folders stay.
fn delete_files(folder: &Path) -> io::Result<()> {
    for entry in std::fs::read_dir(folder)? {
        let entry = entry?;
        if entry.file_type()?.is_dir() {
            continue;
        }
        match std::fs::remove_file(entry.path()) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
            _ => {}
        }
    }
    Ok(())
}

#[async_trait]
impl ObjectStore for CachedObjects {
    fn location(&self) -> String {
        self.objects.location()
    }

    async fn put(
        &self,
        key: &str,
        body: Bytes,
        when: Precondition,
        durability: Durability,
    ) -> Result<Tag, ObjectError> {
        self.objects.put(key, body, when, durability).await
    }

    async fn put_all(&self, objects: Vec<(String, Bytes)>, durability: Durability) -> Result<(), ObjectError> {
        self.objects.put_all(objects, durability).await
    }

    async fn create(&self, key: &str) -> Result<Box<dyn Upload>, ObjectError> {
        self.objects.create(key).await
    }

    async fn get(&self, key: &str) -> Result<(Bytes, Tag), ObjectError> {
        self.objects.get(key).await
    }

    async fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Bytes, ObjectError> {
        self.objects.get_range(key, offset, length).await
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta, ObjectError> {
        self.objects.head(key).await
    }

    async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        self.objects.delete(key).await?;
        // Copies of other processes are deleted when they become the least recently used.
        let _ = std::fs::remove_file(self.path(key));
        Ok(())
    }

    async fn is_versioned(&self) -> Result<bool, ObjectError> {
        self.objects.is_versioned().await
    }

    async fn delete_noncurrent(&self, prefix: &str) -> Result<u64, ObjectError> {
        self.objects.delete_noncurrent(prefix).await
    }

    /// Deletes all copies, because a copy does not tell whether another process has deleted its object. Objects that
    /// are needed again are copied again.
    async fn forget_deleted(&self) -> Result<(), ObjectError> {
        let folder = self.folder.clone();
        let deleted = tokio::task::spawn_blocking(move || delete_files(&folder)).await;
        let deleted = deleted.unwrap_or_else(|e| Err(io::Error::other(e)));
        deleted.map_err(|e| failure("delete the copies in", &self.folder.display().to_string(), &e))?;
        self.objects.forget_deleted().await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ObjectMeta>, ObjectError> {
        self.objects.list(prefix, after, limit).await
    }

    fn local_path(&self, key: &str) -> Option<PathBuf> {
        self.objects.local_path(key)
    }

    async fn local_copy(&self, key: &str) -> Result<Option<File>, ObjectError> {
        // An object that is already a local file needs no copy.
        if let Some(file) = self.objects.local_copy(key).await? {
            return Ok(Some(file));
        }
        let path = self.path(key);
        if let Some(file) = self.held(&path) {
            return Ok(Some(file));
        }
        let _turn = self.turns.take(key).await;
        match self.held(&path) {
            Some(file) => Ok(Some(file)),
            None => self.fetch(key, &path).await.map(Some),
        }
    }

    fn max_copy_bytes(&self) -> Option<u64> {
        Some(self.options.max_bytes)
    }

    fn forget_copy(&self, key: &str) -> bool {
        std::fs::remove_file(self.path(key)).is_ok()
    }

    async fn read_into(&self, key: &str, file: File) -> Result<(), ObjectError> {
        self.objects.read_into(key, file).await
    }
}

#[cfg(test)]
#[path = "cached_tests.rs"]
mod tests;
