//! Stores objects, which are bytes under a key. The stores of this crate use a local folder or, for tests, memory;
//! `docweir-aws-backend` has a store in S3. [`cached`] keeps local copies of objects that never change.
//!
//! [`ObjectStore`] promises nothing that S3 cannot provide. Of these promises, the vector store's manifest needs only
//! the conditional put. If the outcome of a put is unknown ([`ObjectError::Unknown`]), the caller must read the object
//! again before it decides what to do.

pub mod cached;
#[cfg(any(test, feature = "testing"))]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "used only in tests")]
pub mod conformance;
pub mod keys;
pub mod lease;
pub mod local;
#[cfg(any(test, feature = "testing"))]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "used only in tests")]
pub mod memory;
pub mod routed;
pub mod turns;

use std::fs::File;
use std::io::Write;

use async_trait::async_trait;
use bytes::Bytes;
use docweir_core::documents::Sha256Hex;
use docweir_core::files::open_regular;

/// Identifies one state of an object by a tag, as an ETag does in S3. Equal tags mean equal states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag(pub String);

impl Tag {
    /// Returns the tag of an object in stores whose tags are the SHA-256 of the content.
    pub fn of(body: &[u8]) -> Self {
        Self(Sha256Hex::of(body).as_str().to_owned())
    }
}

/// Describes the condition under which a put is applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Precondition {
    None,
    /// Applies the put only if the key does not exist (`If-None-Match: *`).
    Absent,
    /// Applies the put only if the object still has this tag (`If-Match: tag`).
    Matches(Tag),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectMeta {
    pub key: String,
    pub bytes: u64,
    /// Time of the last write, in Unix microseconds.
    pub modified: i64,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum ObjectError {
    #[error("no object `{0}`")]
    NotFound(String),
    /// The precondition did not hold. Read the object again before the next attempt.
    #[error("`{0}` was changed by another writer")]
    Conflict(String),
    /// The write may or may not have been applied, for example after a timeout or a lost reply.
    #[error("unknown whether `{key}` was written: {reason}")]
    Unknown { key: String, reason: String },
    /// The storage is full or read-only, or access is denied. A retry cannot succeed until an operator has solved the
    /// problem.
    #[error("can't {what} `{key}`: {reason}; {hint}")]
    Storage { what: &'static str, key: String, reason: String, hint: &'static str },
    #[error("invalid object key `{0}`: use `/`-separated parts of letters, digits, `.`, `_`, `-`, `=`, `+`, `%`")]
    BadKey(String),
    /// The object was moved to an archive (S3 Glacier) and cannot be read until it is restored.
    #[error("`{0}` is archived: restore it (S3 Glacier) before reading, or restart the document at an earlier stage")]
    Archived(String),
    /// The object is larger than `max_object_bytes`. Other objects are not affected.
    #[error("`{key}` is too large: {reason}; raise `max_object_bytes`, or split the document")]
    TooLarge { key: String, reason: String },
    /// The operation failed for a reason that may pass without intervention, so a retry can succeed.
    #[error("can't {what} `{key}`: {reason}")]
    Transient { what: &'static str, key: String, reason: String },
}

#[async_trait]
pub trait ObjectStore: Send + Sync + 'static {
    /// Returns the location of the objects for use in messages, as a path or as `s3://bucket/prefix`.
    fn location(&self) -> String;

    /// Writes the whole object or nothing; readers never see a partial object. `durability` decides whether the object
    /// survives a power loss.
    async fn put(&self, key: &str, body: Bytes, when: Precondition, durability: Durability)
    -> Result<Tag, ObjectError>;

    /// Writes several objects without preconditions. After a failure, some of the objects may exist. The last object
    /// exists only if all the others do.
    async fn put_all(&self, objects: Vec<(String, Bytes)>, durability: Durability) -> Result<(), ObjectError> {
        for (key, body) in objects {
            self.put(&key, body, Precondition::None, durability).await?;
        }
        Ok(())
    }

    /// Begins to write an object that is too large for memory. [`Upload::finish`] replaces any existing object under
    /// the key.
    async fn create(&self, key: &str) -> Result<Box<dyn Upload>, ObjectError>;

    async fn get(&self, key: &str) -> Result<(Bytes, Tag), ObjectError>;

    /// Returns `length` bytes from `offset`, or fewer if the object ends earlier.
    async fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Bytes, ObjectError>;

    async fn head(&self, key: &str) -> Result<ObjectMeta, ObjectError>;

    /// Returns the tag of the object's current state.
    async fn tag(&self, key: &str) -> Result<Tag, ObjectError> {
        self.get(key).await.map(|(_, tag)| tag)
    }

    /// Deletes the object. A missing object is not an error.
    async fn delete(&self, key: &str) -> Result<(), ObjectError>;

    /// Lists at most `limit` objects in the store's order of keys. The key of each listed object begins with `prefix`
    /// and comes after `after`.
    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ObjectMeta>, ObjectError>;

    /// Returns the local path of the object for memory mapping, or `None` if the store does not keep objects as files.
    fn local_path(&self, key: &str) -> Option<std::path::PathBuf>;

    /// Opens the object's file, or a local copy of the object, for memory mapping. Returns `None` if the store can
    /// provide neither. Call this only for objects that never change, because a copy may be outdated. The file stays
    /// readable after the object is deleted.
    async fn local_copy(&self, key: &str) -> Result<Option<File>, ObjectError> {
        let Some(path) = self.local_path(key) else { return Ok(None) };
        match open_regular(&path) {
            Ok(file) => Ok(Some(file)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(ObjectError::NotFound(key.to_owned())),
            Err(e) => Err(local::failure("map", key, &e)),
        }
    }

    /// Returns the size, in bytes, of the largest object that [`Self::local_copy`] can provide; `None` if the size is
    /// not limited.
    fn max_copy_bytes(&self) -> Option<u64> {
        None
    }

    /// Removes what remains of deleted objects on this machine, such as local copies of objects that other processes
    /// have deleted.
    ///
    /// # Errors
    /// Returns an error if something remains, for example because a reader still needs it.
    async fn forget_deleted(&self) -> Result<(), ObjectError> {
        Ok(())
    }

    /// Deletes a damaged local copy, so that the next [`Self::local_copy`] fetches the object again. Returns `false`
    /// if there was no copy.
    fn forget_copy(&self, key: &str) -> bool {
        let _ = key;
        false
    }

    /// Returns whether the store keeps the content of deleted and overwritten objects, as a versioned bucket does.
    async fn is_versioned(&self) -> Result<bool, ObjectError> {
        Ok(false)
    }

    /// Deletes the kept content of deleted and overwritten objects under a prefix. Objects that exist stay. Returns the
    /// number of deleted versions.
    async fn delete_noncurrent(&self, prefix: &str) -> Result<u64, ObjectError> {
        let _ = prefix;
        Ok(0)
    }

    /// Copies the whole object into an empty file. Memory use does not grow with the size of the object.
    async fn read_into(&self, key: &str, mut file: File) -> Result<(), ObjectError> {
        const PIECE: u64 = 8 << 20;
        let bytes = self.head(key).await?.bytes;
        let mut offset = 0;
        while offset < bytes {
            let piece = self.get_range(key, offset, PIECE.min(bytes - offset)).await?;
            if piece.is_empty() {
                let reason = format!("the object ended after {offset} of {bytes} bytes");
                return Err(ObjectError::Transient { what: "read", key: key.to_owned(), reason });
            }
            offset += piece.len() as u64;
            file.write_all(&piece).map_err(|e| local::failure("copy", key, &e))?;
        }
        Ok(())
    }
}

/// Writes one object sequentially. Each write blocks the thread. The object becomes visible when [`Upload::finish`]
/// returns. An upload that is dropped without finishing leaves nothing behind.
#[async_trait]
pub trait Upload: std::io::Write + Send {
    /// Makes the object durable and then visible.
    async fn finish(self: Box<Self>) -> Result<(), ObjectError>;
}

/// Converts a failed write of an [`Upload`] into an [`ObjectError`].
pub fn write_failure(key: &str, error: &std::io::Error) -> ObjectError {
    // Stores other than a disk wrap their own error; return it unchanged.
    let own = error.get_ref().and_then(|e| e.downcast_ref::<ObjectError>());
    own.cloned().unwrap_or_else(|| local::failure("write", key, error))
}

/// Iterates over the objects under a prefix in order, page by page. Objects may be deleted between two pages.
pub struct Pages<'o> {
    objects: &'o dyn ObjectStore,
    prefix: String,
    after: Option<String>,
}

impl<'o> Pages<'o> {
    pub fn new(objects: &'o dyn ObjectStore, prefix: impl Into<String>) -> Self {
        Self { objects, prefix: prefix.into(), after: None }
    }

    /// Returns the next page, or `None` after the last page.
    pub async fn next(&mut self) -> Result<Option<Vec<ObjectMeta>>, ObjectError> {
        const PAGE: usize = 500;
        let page = self.objects.list(&self.prefix, self.after.as_deref(), PAGE).await?;
        self.after = page.last().map(|o| o.key.clone());
        Ok((!page.is_empty()).then_some(page))
    }
}

/// Describes the failures that a finished put survives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// The object survives a power loss, because the file and its folders are synced.
    Durable,
    /// The object survives the end of the process, but not a power loss. Use this only for objects that can be rebuilt
    /// and that are checked against a hash on every read. An example is the artefact of a stage.
    Rebuildable,
}

/// Deletes every object under a prefix, page by page.
pub async fn delete_prefix(objects: &dyn ObjectStore, prefix: &str) -> Result<(), ObjectError> {
    let mut pages = Pages::new(objects, prefix);
    while let Some(page) = pages.next().await? {
        for object in page {
            objects.delete(&object.key).await?;
        }
    }
    Ok(())
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
