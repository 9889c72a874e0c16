//! The files that documents are made of: on this machine, or in a bucket.
//!
//! An object is copied to a file without a name first, which is gone when it is closed: parsers are handed open files, and
//! nothing else than a file can be hashed and read twice.

use std::fs::File;
use std::io;

use async_trait::async_trait;
use docweir_core::error::StageError;

use super::source;

/// Opens documents' files by their sources.
#[async_trait]
pub trait Originals: Send + Sync + 'static {
    /// The file as it is now, at its beginning.
    ///
    /// # Errors
    /// Permanent where it is gone ([`GONE`]) or may not be read, transient where it can't be read just now.
    async fn open(&self, source: &str) -> Result<Original, StageError>;

    /// An object as it is now, unread; `None` where there is none.
    async fn look(&self, source: &str) -> Result<Option<Listed>, StageError> {
        Err(without_aws(source))
    }

    /// Objects at a URI of a bucket, in order, after a source: the one with that key, or those below it where it ends
    /// with a slash. Empty after the last.
    async fn list(&self, uri: &str, after: Option<&str>) -> Result<Vec<Listed>, StageError> {
        let _ = after;
        Err(without_aws(uri))
    }
}

fn without_aws(uri: &str) -> StageError {
    let text = format!("can't look at {uri}: this docweir was built without AWS (`--features aws`)");
    StageError::permanent("unknown_source", text)
}

/// The code of the error that there is nothing at a source any more.
pub const GONE: &str = "source_gone";

/// An open file.
pub struct Original {
    pub file: File,
    /// Of an object: the mark of the state that was read.
    pub tag: Option<String>,
}

/// An object that may become a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub source: String,
    pub bytes: u64,
    /// A mark of its state: other content, another mark. The same content may have several.
    pub tag: String,
}

/// What the quarantine keeps, in whatever bucket: it never becomes a document.
pub fn is_quarantined(key: &str) -> bool {
    key.starts_with("input/_quarantine/") || key.contains("/input/_quarantine/")
}

/// Files of this machine.
pub struct LocalOriginals;

#[async_trait]
impl Originals for LocalOriginals {
    async fn open(&self, source: &str) -> Result<Original, StageError> {
        let path = source::to_path(source)
            .ok_or_else(|| StageError::permanent("unknown_source", format!("{source} is no local file")))?;
        let opened = tokio::task::spawn_blocking(move || source::open_regular(&path)).await;
        let opened = opened.map_err(|_| StageError::crash("unreadable", "opening the file was interrupted"))?;
        let file = opened.map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => {
                StageError::permanent(GONE, "the file is no longer there; `ingest --prune` removes it")
            }
            io::ErrorKind::PermissionDenied => {
                StageError::permanent("permission_denied", "the file may not be read; check its permissions")
            }
            _ => StageError::transient("unreadable", format!("the file can't be opened: {e}")),
        })?;
        Ok(Original { file, tag: None })
    }
}
