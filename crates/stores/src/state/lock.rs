//! Locks the state folder, so that only one process at a time ingests into it.

use std::fs::{File, OpenOptions, TryLockError};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::Duration;

use docweir_core::clock::{Clock, timestamp};
use serde::{Deserialize, Serialize};
use ulid::Ulid;

use super::StateError;

/// Describes the process that holds the state folder's lock.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct LockHolder {
    pub path: PathBuf,
    /// Process id; 0 if unknown.
    pub pid: u32,
    pub host: String,
    pub started: String,
    pub command: String,
}

impl std::fmt::Display for LockHolder {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let path = self.path.display();
        if self.pid == 0 {
            return write!(f, "another docweir is working on {path}; wait for it or stop it");
        }
        let LockHolder { pid, command, started, .. } = self;
        write!(f, "process {pid} (`{command}`, since {started}) is working on {path}; wait for it or stop it")
    }
}

#[derive(Debug, thiserror::Error)]
pub enum LockError {
    #[error("{0}")]
    Held(LockHolder),
    #[error(transparent)]
    State(#[from] StateError),
}

/// Holds the lock of the state folder. The lock is released when this value is dropped or the process ends for any
/// reason.
#[derive(Debug)]
pub struct OrchestratorLock {
    file: File,
}

impl Drop for OrchestratorLock {
    /// Clears the content of the lock file, which describes the former holder. The file itself is kept, because its
    /// removal would allow two processes to lock two different files of the same name.
    fn drop(&mut self) {
        let _ = self.file.set_len(0);
        let _ = self.file.unlock();
    }
}

/// Maximum number of bytes that are read from the lock file, in which the holder describes itself.
const MAX_NOTE: u64 = 64 * 1024;

pub(super) fn take(root: &Path, command: &str, clock: &dyn Clock) -> Result<OrchestratorLock, LockError> {
    let path = root.join("lock");
    let failed = |what, e| LockError::State(StateError::storage(what, &path, e));
    // The file is closed on exec, so that child processes do not inherit the lock and outlive their parent with it.
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(|e| failed("open the lock", e))?;
    match file.try_lock() {
        Ok(()) => {}
        Err(TryLockError::WouldBlock) => return Err(LockError::Held(holder(&mut file, root))),
        Err(TryLockError::Error(e)) => return Err(failed("lock", e)),
    }
    let held = LockHolder {
        path: root.to_owned(),
        pid: std::process::id(),
        host: host(),
        started: timestamp(clock.now()),
        command: command.to_owned(),
    };
    let note = serde_json::to_vec(&held).unwrap_or_default();
    let written = file.set_len(0).and_then(|()| file.seek(SeekFrom::Start(0))).and_then(|_| file.write_all(&note));
    written.map_err(|e| failed("write the lock", e))?;
    Ok(OrchestratorLock { file })
}

/// Reads the note that the lock's holder wrote about itself. The holder may not have written the note yet, so this
/// retries for 0.1 s.
#[expect(clippy::disallowed_methods, reason = "sleeps up to 0.1 s at start-up, before other work has begun")]
fn holder(file: &mut File, root: &Path) -> LockHolder {
    let mut read = || -> io::Result<LockHolder> {
        file.seek(SeekFrom::Start(0))?;
        let mut note = Vec::new();
        Read::take(&mut *file, MAX_NOTE).read_to_end(&mut note)?;
        Ok(serde_json::from_slice(&note)?)
    };
    for _ in 0..10 {
        if let Ok(held) = read() {
            return LockHolder { path: root.to_owned(), ..held };
        }
        std::thread::sleep(Duration::from_millis(10));
    }
    LockHolder { path: root.to_owned(), ..LockHolder::default() }
}

fn host() -> String {
    let name = std::fs::read_to_string("/proc/sys/kernel/hostname").or_else(|_| std::env::var("HOSTNAME"));
    let name: String = name
        .unwrap_or_default()
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || matches!(c, '-' | '.' | '_'))
        .take(64)
        .collect();
    if name.is_empty() { "localhost".into() } else { name }
}

/// Returns a name under which this process claims documents, in the form `host-pid-ulid`. Every call returns a new
/// name.
pub fn owner_id(clock: &dyn Clock) -> String {
    let milliseconds = u64::try_from(clock.now() / 1000).unwrap_or(0);
    format!("{}-{}-{}", host(), std::process::id(), Ulid::from_parts(milliseconds, fastrand::u128(..)))
}
