//! Provides the file operations that a put needs: temporary files, locks and syncs.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use docweir_core::backoff::Backoff;
use docweir_core::clock::UnixMicros;
use docweir_core::files::open_regular;
use sha2::{Digest, Sha256};
use ulid::Ulid;

use super::{LOCKS, LocalObjectOptions, ObjectError, failure, modified};

/// Owns a temporary file and removes it on drop, unless the file was renamed. The file stays locked until the
/// `Temporary` is dropped. [`remove_leftovers`] uses the lock to distinguish the files of crashed writers from the
/// files of running writers, even if the writers run in other containers.
pub struct Temporary {
    path: PathBuf,
    file: File,
    renamed: bool,
}

impl Temporary {
    /// Creates an empty temporary file in `folder` and locks it.
    pub fn create(folder: &Path) -> io::Result<Self> {
        let path = folder.join(Ulid(fastrand::u128(..)).to_string());
        let file = OpenOptions::new().write(true).create_new(true).open(&path)?;
        // No other process can hold the lock yet. If locking fails, the file only counts as abandoned after a minute.
        let _ = file.try_lock();
        Ok(Self { path, file, renamed: false })
    }

    pub fn write(folder: &Path, body: &[u8], sync: bool) -> io::Result<Self> {
        let mut this = Self::create(folder)?;
        this.file.write_all(body)?;
        if sync {
            this.sync()?;
        }
        Ok(this)
    }

    pub fn file(&mut self) -> &mut File {
        &mut self.file
    }

    pub fn sync(&self) -> io::Result<()> {
        self.file.sync_all()
    }

    pub fn exists(&self) -> bool {
        self.path.exists()
    }

    pub fn rename(&mut self, to: &Path) -> io::Result<()> {
        std::fs::rename(&self.path, to)?;
        self.renamed = true;
        Ok(())
    }
}

impl Drop for Temporary {
    fn drop(&mut self) {
        if !self.renamed {
            let _ = std::fs::remove_file(&self.path);
        }
    }
}

/// Minimum age at which an unlocked temporary file counts as abandoned. The writer of a younger file may be running and
/// may not have locked the file yet.
const YOUNG: Duration = Duration::from_secs(60);

/// Removes temporary files whose writers have ended, and also every temporary file older than `age`, even if the file
/// is locked. If the put that wrote such an old file is still running, the put notices the loss and writes the file
/// again. Returns the number of removed files.
pub fn remove_leftovers(folder: &Path, now: UnixMicros, age: Duration) -> io::Result<usize> {
    let mut removed = 0;
    for entry in std::fs::read_dir(folder)? {
        let path = entry?.path();
        let Ok(metadata) = path.symlink_metadata() else { continue };
        let since = now.saturating_sub(modified(&metadata));
        let older_than = |d: Duration| since > i64::try_from(d.as_micros()).unwrap_or(i64::MAX);
        let abandoned = || open_regular(&path).is_ok_and(|f| f.try_lock().is_ok());
        if older_than(age) || (older_than(YOUNG) && abandoned()) {
            removed += usize::from(std::fs::remove_file(&path).is_ok());
        }
    }
    if removed > 0 {
        tracing::info!(removed, folder = %folder.display(), "removed leftovers of crashed writes");
    }
    Ok(removed)
}

/// Syncs every folder from `root` to `path`, so that the path survives a power loss. Existing folders are synced too,
/// because a put without durability may have created them.
pub fn sync_folders(path: &Path, root: &Path) -> io::Result<()> {
    for folder in path.ancestors().skip(1).take_while(|f| f.starts_with(root)) {
        File::open(folder)?.sync_all()?;
    }
    Ok(())
}

/// Holds the lock of a key while the object under the key is changed. Dropping this releases the lock; so does the end
/// of the process.
pub struct KeyLock {
    _file: File,
}

impl KeyLock {
    /// Acquires the lock, or fails after `lock_wait_seconds`. This polls instead of blocking, because the wait must
    /// end even if a suspended process holds the lock.
    #[expect(clippy::disallowed_methods, reason = "runs on a thread that may block, and waits for other processes")]
    pub fn take(root: &Path, key: &str, exclusive: bool, options: &LocalObjectOptions) -> Result<Self, ObjectError> {
        // Jitter keeps two waiting processes from polling in step.
        const PAUSES: Backoff =
            Backoff::doubling(Duration::from_micros(50), Duration::from_millis(10)).with_jitter(0.5, 1.5);
        // All keys share a few lock files. Two keys with the same file only wait for each other briefly.
        let shard = Sha256::digest(key.as_bytes()).first().copied().unwrap_or(0) % 64;
        let path = root.join(LOCKS).join(format!("{shard:02x}"));
        let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path);
        let file = file.map_err(|e| failure("lock", key, &e))?;
        let mut left = Duration::from_secs(options.lock_wait_seconds);
        let mut pauses = 0;
        loop {
            match if exclusive { file.try_lock() } else { file.try_lock_shared() } {
                Ok(()) => return Ok(Self { _file: file }),
                Err(TryLockError::WouldBlock) if !left.is_zero() => {
                    let pause = PAUSES.wait(pauses, fastrand::f64());
                    std::thread::sleep(pause);
                    left = left.saturating_sub(pause);
                    pauses = pauses.saturating_add(1);
                }
                Err(TryLockError::WouldBlock) => {
                    let reason = format!("another process has held the key's lock for {} s", options.lock_wait_seconds);
                    return Err(ObjectError::Transient { what: "lock", key: key.to_owned(), reason });
                }
                Err(TryLockError::Error(e)) => return Err(failure("lock", key, &e)),
            }
        }
    }
}
