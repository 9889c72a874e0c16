//! Objects: bytes under a key. A local folder, S3, memory for tests; copies on the local disk of what never changes.
//!
//! The trait is as small as what S3 can promise. A conditional put is the one primitive that the vector store's
//! manifest builds on; where its result is not known ([`ObjectError::Unknown`]) the caller looks again, it never
//! assumes.

pub mod cached;
#[cfg(any(test, feature = "testing"))]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "it is for tests")]
pub mod conformance;
pub mod keys;
pub mod lease;
pub mod local;
#[cfg(any(test, feature = "testing"))]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "it is for tests")]
pub mod memory;
pub mod routed;

use std::fs::File;
use std::io::Write;

use async_trait::async_trait;
use bytes::Bytes;

/// An opaque mark of an object's state (an ETag). Equal tags mean equal states.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tag(pub String);

/// What must hold for a put to be applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Precondition {
    None,
    /// `If-None-Match: *`
    Absent,
    /// `If-Match: tag`
    Matches(Tag),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ObjectMeta {
    pub key: String,
    pub bytes: u64,
    /// Unix microseconds of the last write.
    pub modified: i64,
}

#[derive(Clone, Debug, thiserror::Error)]
pub enum ObjectError {
    #[error("no object `{0}`")]
    NotFound(String),
    /// The precondition did not hold: reload and decide again.
    #[error("`{0}` was changed by someone else")]
    Conflict(String),
    /// The write may or may not have been applied (timeout, lost reply).
    #[error("it is not known whether `{key}` was written: {reason}")]
    Unknown { key: String, reason: String },
    /// Full, read-only or forbidden: nothing a retry of this object would mend.
    #[error("can't {what} `{key}`: {reason}; {hint}")]
    Storage { what: &'static str, key: String, reason: String, hint: &'static str },
    #[error("`{0}` is no valid object key: use `/`-separated parts of letters, digits, `.`, `_`, `-`, `=`, `+`, `%`")]
    BadKey(String),
    /// It was moved to an archive, from where nothing can be read at once.
    #[error("`{0}` is archived: restore it to read it (S3 Glacier), or begin at an earlier stage")]
    Archived(String),
    /// Anything that may go away by itself.
    #[error("can't {what} `{key}`: {reason}")]
    Transient { what: &'static str, key: String, reason: String },
}

#[async_trait]
pub trait ObjectStore: Send + Sync + 'static {
    /// Where the objects are, for messages: a path or `s3://bucket/prefix`.
    fn location(&self) -> String;

    /// Writes the whole object or nothing; nobody sees a half. `Durability` says what a power loss may take back.
    async fn put(&self, key: &str, body: Bytes, when: Precondition, durability: Durability)
    -> Result<Tag, ObjectError>;

    /// Writes several objects, unconditionally. After a failure some of them may be there; the last one only if all the
    /// others are.
    async fn put_all(&self, objects: Vec<(String, Bytes)>, durability: Durability) -> Result<(), ObjectError> {
        for (key, body) in objects {
            self.put(&key, body, Precondition::None, durability).await?;
        }
        Ok(())
    }

    /// Begins an object that is too large to be held in memory. Replaces what is under the key when it is finished.
    async fn create(&self, key: &str) -> Result<Box<dyn Upload>, ObjectError>;

    async fn get(&self, key: &str) -> Result<(Bytes, Tag), ObjectError>;

    /// `length` bytes from `offset`; fewer at the end.
    async fn get_range(&self, key: &str, offset: u64, length: u64) -> Result<Bytes, ObjectError>;

    async fn head(&self, key: &str) -> Result<ObjectMeta, ObjectError>;

    /// The mark of the object's state.
    async fn tag(&self, key: &str) -> Result<Tag, ObjectError> {
        self.get(key).await.map(|(_, tag)| tag)
    }

    /// Deleting what is not there is no error.
    async fn delete(&self, key: &str) -> Result<(), ObjectError>;

    /// Keys under `prefix` in order, after `after`, at most `limit`.
    async fn list(&self, prefix: &str, after: Option<&str>, limit: usize) -> Result<Vec<ObjectMeta>, ObjectError>;

    /// A local path, where the objects are files: for memory mapping. `None` elsewhere.
    fn local_path(&self, key: &str) -> Option<std::path::PathBuf>;

    /// The object as an open file, where it is one or a copy is kept: for memory mapping. Only of objects that never
    /// change under their name: the copy may have been made long ago. Stays readable when it is deleted.
    async fn local_copy(&self, key: &str) -> Result<Option<File>, ObjectError> {
        let Some(path) = self.local_path(key) else { return Ok(None) };
        match File::open(path) {
            Ok(file) => Ok(Some(file)),
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => Err(ObjectError::NotFound(key.to_owned())),
            Err(e) => Err(local::failure("map", key, &e)),
        }
    }

    /// Takes a copy away that turned out to be damaged, so that the next one is made anew; `false` where none is kept.
    fn forget_copy(&self, key: &str) -> bool {
        let _ = key;
        false
    }

    /// Reads the whole object into an empty file, with as little memory as a small one takes.
    async fn read_into(&self, key: &str, mut file: File) -> Result<(), ObjectError> {
        const PIECE: u64 = 8 << 20;
        let bytes = self.head(key).await?.bytes;
        let mut offset = 0;
        while offset < bytes {
            let piece = self.get_range(key, offset, PIECE.min(bytes - offset)).await?;
            if piece.is_empty() {
                let reason = format!("it ended after {offset} of {bytes} bytes");
                return Err(ObjectError::Transient { what: "read", key: key.to_owned(), reason });
            }
            offset += piece.len() as u64;
            file.write_all(&piece).map_err(|e| local::failure("copy", key, &e))?;
        }
        Ok(())
    }
}

/// An object that is being written, from first byte to last; writing blocks. Nobody sees it until it is finished;
/// dropped before that, it leaves nothing.
#[async_trait]
pub trait Upload: std::io::Write + Send {
    /// Makes the object durable, then visible.
    async fn finish(self: Box<Self>) -> Result<(), ObjectError>;
}

/// What an [`Upload`] that can't be written means.
pub fn write_failure(key: &str, error: &std::io::Error) -> ObjectError {
    // A store that is not a disk says it in its own words.
    let own = error.get_ref().and_then(|e| e.downcast_ref::<ObjectError>());
    own.cloned().unwrap_or_else(|| local::failure("write", key, error))
}

/// The objects under a prefix, page by page and in order; those that are deleted meanwhile don't matter.
pub struct Pages<'o> {
    objects: &'o dyn ObjectStore,
    prefix: String,
    after: Option<String>,
}

impl<'o> Pages<'o> {
    pub fn new(objects: &'o dyn ObjectStore, prefix: impl Into<String>) -> Self {
        Self { objects, prefix: prefix.into(), after: None }
    }

    /// `None` after the last.
    pub async fn next(&mut self) -> Result<Option<Vec<ObjectMeta>>, ObjectError> {
        const PAGE: usize = 500;
        let page = self.objects.list(&self.prefix, self.after.as_deref(), PAGE).await?;
        self.after = page.last().map(|o| o.key.clone());
        Ok((!page.is_empty()).then_some(page))
    }
}

/// What a put promises on return.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Survives a power loss: synced, its folder too.
    Durable,
    /// Survives the process, may be lost with the power. Only for what can be made again and is checked by its hash
    /// when it is read: the stages' artefacts.
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
