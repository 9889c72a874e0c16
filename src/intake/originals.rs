//! Opens the original files of documents, on this machine or in a bucket.
//!
//! An object in a bucket is first copied to an unnamed local file, which disappears when it is closed. The copy is
//! needed because parsers receive open files, and because the content is read twice, first to compute its hash.

use docweir_core::files::open_regular;
use std::fs::File;
use std::io;

use async_trait::async_trait;
use docweir_core::error::StageError;

use super::source;

/// Opens the original files of documents. A source URI names the file or object to open.
#[async_trait]
pub trait Originals: Send + Sync + 'static {
    /// Opens the current file of a source. The file is positioned at its start.
    ///
    /// # Errors
    /// The error is permanent if the file does not exist ([`GONE`]) or access is denied, and transient if the file
    /// cannot be read at the moment.
    async fn open(&self, source: &str) -> Result<Original, StageError>;

    /// Returns the current properties of an object without reading it, or `None` if it does not exist.
    async fn look(&self, source: &str) -> Result<Option<Listed>, StageError> {
        Err(without_aws(source))
    }

    /// Returns one page of the objects at a bucket URI, in order. The page begins after the source `after`. A URI that
    /// ends with a slash names all objects below it; any other URI names one object. An empty page means that there are
    /// no more objects.
    async fn list(&self, uri: &str, after: Option<&str>) -> Result<Vec<Listed>, StageError> {
        let _ = after;
        Err(without_aws(uri))
    }
}

fn without_aws(uri: &str) -> StageError {
    let text = format!("cannot read {uri}: this docweir was built without AWS (`--features aws`)");
    StageError::permanent("unknown_source", text)
}

/// Error code for a source that no longer exists.
pub const GONE: &str = "source_gone";

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
    /// Tag of the object version. Different content has different tags; the same content may have several tags.
    pub tag: String,
}

/// Returns whether a key belongs to the quarantine, in any bucket. Such objects never become documents.
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
        let opened = tokio::task::spawn_blocking(move || open_regular(&path)).await;
        let opened = opened.map_err(|_| StageError::crash("unreadable", "opening the file was interrupted"))?;
        let file = opened.map_err(|e| match e.kind() {
            io::ErrorKind::NotFound => {
                StageError::permanent(GONE, "the file no longer exists; `ingest --prune` deletes the document")
            }
            io::ErrorKind::PermissionDenied => {
                StageError::permanent("permission_denied", "no permission to read the file; check the permissions")
            }
            _ => StageError::transient("unreadable", format!("cannot open the file: {e}")),
        })?;
        Ok(Original { file, tag: None })
    }
}
