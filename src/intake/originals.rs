//! Opens the original files of documents, on this machine or in a bucket.
//!
//! An object in a bucket is first copied to an unnamed local file. The copy disappears when it is closed. The copy is
//! needed for two reasons: parsers receive open files, and the content is read twice (once for its hash, once by a
//! parser).

use std::fs::File;
use std::io;

use async_trait::async_trait;
use docweir_core::error::StageError;
use docweir_core::files::open_resolved;

use super::source;

/// Opens the original files of documents. A source URI names the file or object to open.
#[async_trait]
pub trait Originals: Send + Sync + 'static {
    /// Opens the current file of a source. The file is positioned at its start.
    ///
    /// # Errors
    /// Returns a permanent error if the file does not exist ([`GONE`]) or access to a local file is denied. Returns an
    /// error of class `Unavailable` while the bucket cannot be read ([`BUCKET`]), denies access, or the local disk is
    /// full ([`LOCAL_DISK`]).
    async fn open(&self, source: &str) -> Result<Original, StageError>;

    /// Returns the current properties of an object, or `None` if the object does not exist. The content of the object
    /// is not read.
    async fn look(&self, source: &str) -> Result<Option<Listed>, StageError> {
        Err(without_aws(source))
    }

    /// Lists the objects that a bucket URI names, and returns one page of this list. A URI that ends with a slash
    /// names all objects below it; any other URI names one object. The page begins with the first object after the
    /// source `after`. An empty page means that there are no more objects.
    async fn list(&self, uri: &str, after: Option<&str>) -> Result<Vec<Listed>, StageError> {
        let _ = after;
        Err(without_aws(uri))
    }

    /// Reads a byte of an object, to find out whether objects can be read now.
    async fn probe(&self, source: &str) -> Result<(), StageError> {
        self.look(source).await.map(drop)
    }
}

fn without_aws(uri: &str) -> StageError {
    let text = format!("cannot read {uri}: this docweir was built without AWS (`--features aws`)");
    StageError::permanent("unknown_source", text)
}

/// Error code for a source that no longer exists.
pub const GONE: &str = "source_gone";
/// Error code of an object that cannot be read at the moment, while other objects of its bucket can be read.
pub const ONE_OBJECT: &str = "source_object";
/// Error code of a bucket whose objects cannot be read at the moment.
pub const BUCKET: &str = "source_bucket";
/// Error code of a local disk that has no room for the copy of an object.
pub const LOCAL_DISK: &str = "local_disk";

/// Holds the open file of a document.
pub struct Original {
    pub file: File,
    /// Tag of the object version that was read; `None` for local files.
    pub tag: Option<String>,
}

/// Describes an object that may become a document.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Listed {
    pub source: String,
    pub bytes: u64,
    /// Tag of the object version. Versions with different content have different tags. Versions with the same content
    /// may have different tags too.
    pub tag: String,
}

/// Returns whether an object with this key is part of the quarantine, whatever bucket holds it. Objects of the
/// quarantine never become documents.
pub fn is_quarantined(key: &str) -> bool {
    key.starts_with("input/_quarantine/") || key.contains("/input/_quarantine/")
}

/// Opens files of this machine.
pub struct LocalOriginals;

#[async_trait]
impl Originals for LocalOriginals {
    async fn open(&self, source: &str) -> Result<Original, StageError> {
        let path = source::to_path(source)
            .ok_or_else(|| StageError::permanent("unknown_source", format!("{source} is not a local file")))?;
        let opened = tokio::task::spawn_blocking(move || open_resolved(&path)).await;
        let opened = opened.map_err(|_| StageError::crash("unreadable", "opening the file was interrupted"))?;
        let file = opened.map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => {
                StageError::permanent(GONE, "the file no longer exists; `ingest --prune` deletes the document")
            }
            io::ErrorKind::PermissionDenied => {
                StageError::permanent("permission_denied", "no permission to read the file; check the permissions")
            }
            io::ErrorKind::InvalidInput => {
                StageError::permanent("not_a_file", format!("cannot open the file: {e}; ingest it again"))
            }
            _ => StageError::transient("unreadable", format!("cannot open the file: {e}")),
        })?;
        Ok(Original { file, tag: None })
    }
}
