//! Stores small objects together in one SQLite file, and all others in a second object store.
//!
//! ```text
//! put of a small object that can be rebuilt ─▶ row of the file
//! any other put ─────────────────────────────▶ the second store (files); a row of this key is deleted
//! read, list, delete ────────────────────────▶ both; if both hold a key, the row counts
//! ```
//! A file for each artefact takes a block of the disk, an inode and several calls to the file system, so a million
//! small documents would need five million files. Rows are compressed and share pages. A process crash loses no row. A
//! power loss may undo the last writes, as [`Durability::Rebuildable`] allows.
//!
//! A damaged file is moved aside, and an empty one is started, because every row can be rebuilt.

mod file;
mod rows;
#[cfg(test)]
mod tests;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use async_trait::async_trait;
use bytes::Bytes;
use docweir_core::clock::SharedClock;
use docweir_objects::keys::check_key;
use docweir_objects::{Durability, ObjectError, ObjectMeta, ObjectStore, Precondition, Tag, Upload};

use self::file::PackedFile;
use self::rows::{Packed, Row};

/// Stores small objects in one SQLite file and all others in `files`. Clones are cheap and share the file.
#[derive(Clone)]
pub struct PackedObjects {
    rows: PackedFile,
    files: Arc<dyn ObjectStore>,
    /// Maximum size, in bytes, of an object that becomes a row.
    most_bytes: usize,
    clock: SharedClock,
    /// False if `files` holds no object. A new row hides no file then.
    any_files: Arc<AtomicBool>,
}

impl PackedObjects {
    /// Uses the SQLite file at `path`, which the first write creates. Objects of more than `most_bytes` bytes are
    /// stored in `files`, and objects that are there already stay readable.
    pub fn new(path: &Path, files: Arc<dyn ObjectStore>, most_bytes: usize, clock: SharedClock) -> Self {
        let rows = PackedFile::new(path);
        Self { rows, files, most_bytes, clock, any_files: Arc::new(AtomicBool::new(true)) }
    }

    /// Promises that `files` holds no object. Until an object is put there, a new row is not followed by the deletion
    /// of a file of the same key.
    #[must_use]
    pub fn without_files(self) -> Self {
        self.any_files.store(false, Ordering::Relaxed);
        self
    }

    fn is_row(&self, body: &Bytes, when: &Precondition, durability: Durability) -> bool {
        durability == Durability::Rebuildable && *when == Precondition::None && body.len() <= self.most_bytes
    }

    /// Writes an object to the second store, and deletes a row of the same key. The transaction that checks the row
    /// stays open meanwhile, so no other writer changes the row between the check and the deletion.
    async fn put_file(
        &self,
        key: &str,
        body: Bytes,
        when: Precondition,
        durability: Durability,
    ) -> Result<Tag, ObjectError> {
        self.any_files.store(true, Ordering::Relaxed);
        // Usually there is no row, and other reads and writes need not wait for the file.
        if self.row(key).await?.is_none() {
            return self.files.put(key, body, when, durability).await;
        }
        let (files, owned, runtime) = (self.files.clone(), key.to_owned(), tokio::runtime::Handle::current());
        self.rows
            .write("write", key, move |rows| {
                let row = rows.get(&owned)?;
                let conflict = match (&row, &when) {
                    (Some(_), Precondition::Absent) => true,
                    (Some(row), Precondition::Matches(expected)) => Tag::of(&row.body) != *expected,
                    _ => false,
                };
                if conflict {
                    return Ok(Err(ObjectError::Conflict(owned)));
                }
                // The condition was checked against the row, which hides a file of the same key.
                let when = if row.is_some() { Precondition::None } else { when };
                let put = runtime.block_on(files.put(&owned, body, when, durability));
                if put.is_ok() && row.is_some() {
                    rows.delete(&owned)?;
                }
                Ok(put)
            })
            .await?
    }

    async fn put_rows(&self, objects: Vec<(String, Bytes)>) -> Result<(), ObjectError> {
        let Some((first, _)) = objects.first() else { return Ok(()) };
        let (first, now) = (first.clone(), self.clock.now());
        let any_files = self.any_files.load(Ordering::Relaxed);
        let keys: Vec<String> =
            if any_files { objects.iter().map(|(key, _)| key.clone()).collect() } else { Vec::new() };
        // Compressed before the file is locked.
        let packed: Vec<_> = objects.into_iter().map(|(key, body)| (key, Packed::of(body))).collect();
        self.rows
            .write("write", &first, move |rows| packed.iter().try_for_each(|(key, body)| rows.put(key, body, now)))
            .await?;
        if any_files { self.delete_hidden(keys).await } else { Ok(()) }
    }

    /// Deletes the files that rows of the same keys hide. A transaction that may write keeps out the other writers,
    /// which could replace a row by a file meanwhile.
    async fn delete_hidden(&self, keys: Vec<String>) -> Result<(), ObjectError> {
        let mut hidden = Vec::new();
        for key in keys {
            match self.files.head(&key).await {
                Ok(_) => hidden.push(key),
                Err(ObjectError::NotFound(_)) => {}
                Err(error) => return Err(error),
            }
        }
        let Some(first) = hidden.first().cloned() else { return Ok(()) };
        let (files, runtime) = (self.files.clone(), tokio::runtime::Handle::current());
        self.rows
            .write("replace", &first, move |rows| {
                for key in hidden {
                    if rows.get(&key)?.is_some()
                        && let Err(error) = runtime.block_on(files.delete(&key))
                    {
                        return Ok(Err(error));
                    }
                }
                Ok(Ok(()))
            })
            .await?
    }

    /// Returns the row of a key, or `None` if the key has no row.
    async fn row(&self, key: &str) -> Result<Option<Row>, ObjectError> {
        check_key(key)?;
        let owned = key.to_owned();
        self.rows.read("read", key, move |rows| rows.get(&owned)).await
    }
}

#[async_trait]
impl ObjectStore for PackedObjects {
    fn location(&self) -> String {
        self.files.location()
    }

    async fn put(
        &self,
        key: &str,
        body: Bytes,
        when: Precondition,
        durability: Durability,
    ) -> Result<Tag, ObjectError> {
        check_key(key)?;
        if !self.is_row(&body, &when, durability) {
            return self.put_file(key, body, when, durability).await;
        }
        let written = Tag::of(&body);
        self.put_rows(vec![(key.to_owned(), body)]).await?;
        Ok(written)
    }

    async fn put_all(&self, objects: Vec<(String, Bytes)>, durability: Durability) -> Result<(), ObjectError> {
        objects.iter().try_for_each(|(key, _)| check_key(key))?;
        let mut rows = Vec::new();
        for (key, body) in objects {
            if self.is_row(&body, &Precondition::None, durability) {
                rows.push((key, body));
                continue;
            }
            // The order of the objects is kept: the last one must not exist before the others.
            self.put_rows(std::mem::take(&mut rows)).await?;
            self.put_file(&key, body, Precondition::None, durability).await?;
        }
        self.put_rows(rows).await
    }

    async fn create(&self, key: &str) -> Result<Box<dyn Upload>, ObjectError> {
        self.any_files.store(true, Ordering::Relaxed);
        let upload = self.files.create(key).await?;
        Ok(Box::new(FileUpload { upload, key: key.to_owned(), rows: self.rows.clone() }))
    }

    async fn get(&self, key: &str) -> Result<(Bytes, Tag), ObjectError> {
        match self.row(key).await? {
            Some(row) => Ok((row.body.clone(), Tag::of(&row.body))),
            None => match self.files.get(key).await {
                // A row may have replaced the file since.
                Err(ObjectError::NotFound(_)) => {
                    let row = self.row(key).await?.ok_or_else(|| ObjectError::NotFound(key.to_owned()))?;
                    Ok((row.body.clone(), Tag::of(&row.body)))
                }
                found => found,
            },
        }
    }

    async fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Bytes, ObjectError> {
        let Some(row) = self.row(key).await? else { return self.files.get_range(key, offset, length).await };
        let at = |position: u64| usize::try_from(position).unwrap_or(usize::MAX).min(row.body.len());
        Ok(row.body.slice(at(offset)..at(offset.saturating_add(length))))
    }

    async fn head(&self, key: &str) -> Result<ObjectMeta, ObjectError> {
        match self.row(key).await? {
            Some(row) => Ok(ObjectMeta { key: key.to_owned(), bytes: row.body.len() as u64, modified: row.modified }),
            None => self.files.head(key).await,
        }
    }

    async fn delete(&self, key: &str) -> Result<(), ObjectError> {
        check_key(key)?;
        // The file is deleted first: otherwise it would be visible for a moment. Another process may have written it.
        self.files.delete(key).await?;
        let owned = key.to_owned();
        self.rows.change("delete", key, move |rows| rows.delete(&owned)).await
    }

    async fn is_versioned(&self) -> Result<bool, ObjectError> {
        self.files.is_versioned().await
    }

    async fn delete_noncurrent(&self, prefix: &str) -> Result<u64, ObjectError> {
        self.files.delete_noncurrent(prefix).await
    }

    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ObjectMeta>, ObjectError> {
        let (owned, start) = (prefix.to_owned(), after.map(ToOwned::to_owned));
        // The files come first: a file that a row replaces meanwhile is then listed at least once.
        let mut found = self.files.list(prefix, after, limit).await?;
        let rows = self.rows.read("list", prefix, move |rows| rows.list(&owned, start.as_deref(), limit)).await?;
        // Both lists are in byte order and hold the first `limit` keys of their store. A row hides the file of its key.
        found.retain(|file| rows.binary_search_by(|row| row.key.cmp(&file.key)).is_err());
        found.extend(rows);
        found.sort_by(|a, b| a.key.cmp(&b.key));
        found.truncate(limit);
        Ok(found)
    }

    async fn forget_deleted(&self) -> Result<(), ObjectError> {
        self.rows.forget().await?;
        self.files.forget_deleted().await
    }

    /// Returns `None`, because an object may be a row. Callers that map files use objects that are never rows.
    fn local_path(&self, key: &str) -> Option<PathBuf> {
        let _ = key;
        None
    }
}

/// Writes a large object to the second store. The row of the same key is deleted once the object is complete.
struct FileUpload {
    upload: Box<dyn Upload>,
    key: String,
    rows: PackedFile,
}

impl std::io::Write for FileUpload {
    fn write(&mut self, buffer: &[u8]) -> std::io::Result<usize> {
        self.upload.write(buffer)
    }

    fn flush(&mut self) -> std::io::Result<()> {
        self.upload.flush()
    }
}

#[async_trait]
impl Upload for FileUpload {
    async fn finish(self: Box<Self>) -> Result<(), ObjectError> {
        let Self { upload, key, rows } = *self;
        upload.finish().await?;
        let owned = key.clone();
        rows.change("replace", &key, move |rows| rows.delete(&owned)).await
    }
}
