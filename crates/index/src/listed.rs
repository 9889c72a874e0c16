//! Lists the documents of all live files of a collection, without decoding vectors.

use std::sync::Arc;

use docweir_core::documents::Version;
use docweir_objects::ObjectError;

use super::VectorStore;
use super::columns::DocumentEntry;
use super::error::VectorError;
use super::manifest::{FileKind, LiveFile, Manifest, ManifestVersion};
use super::segment::Segment;

/// Holds the documents of one file.
pub enum Listed {
    Delta(Vec<DocumentEntry>),
    Open(Arc<Segment>),
}

/// Describes a document of a file without its source and metadata.
pub struct ListedDocument<'l> {
    pub id: &'l str,
    pub version: Version,
    pub tombstone: bool,
    pub rows: u64,
}

impl Listed {
    pub fn len(&self) -> usize {
        match self {
            Listed::Delta(entries) => entries.len(),
            Listed::Open(segment) => segment.documents().len(),
        }
    }

    /// Iterates over the documents without copying them.
    pub fn documents(&self) -> impl Iterator<Item = ListedDocument<'_>> {
        (0..self.len()).filter_map(|at| match self {
            Listed::Delta(entries) => entries.get(at).map(|entry| ListedDocument {
                id: entry.id.as_str(),
                version: entry.version,
                tombstone: entry.tombstone,
                rows: u64::from(entry.rows),
            }),
            Listed::Open(segment) => {
                let documents = segment.documents();
                Some(ListedDocument {
                    id: documents.id(at),
                    version: documents.version(at),
                    tombstone: documents.is_tombstone(at),
                    rows: documents.rows(at).len() as u64,
                })
            }
        })
    }

    pub fn into_entries(self) -> Vec<DocumentEntry> {
        match self {
            Listed::Delta(entries) => entries,
            Listed::Open(segment) => segment.entries().collect(),
        }
    }
}

impl VectorStore {
    /// Lists the documents of all live files, in the order of the manifest. Of deltas, only the lists of documents are
    /// read. Returns `None` before the first commit.
    pub(super) async fn listed(&self) -> Result<Option<(Manifest, Vec<Listed>)>, VectorError> {
        let mut missing: Option<(ManifestVersion, String)> = None;
        'again: for _ in 0..self.options.read_attempts {
            let Some((manifest, _)) = self.register.load().await? else {
                self.check_not_lost().await?;
                return Ok(None);
            };
            let mut files = Vec::with_capacity(manifest.live.len());
            for live in &manifest.live {
                match self.listed_in(live).await {
                    Ok(listed) => files.push(listed),
                    Err(VectorError::Object(ObjectError::NotFound(key))) => {
                        self.gone_for_good(&mut missing, manifest.version, key)?;
                        continue 'again;
                    }
                    Err(e) => return Err(e),
                }
            }
            return Ok(Some((manifest, files)));
        }
        Err(self.no_stable_view())
    }

    async fn listed_in(&self, live: &LiveFile) -> Result<Listed, VectorError> {
        let held = self.cache().segment(&live.file);
        Ok(match (held, live.kind) {
            (Some(segment), _) => Listed::Open(segment),
            (None, FileKind::Delta) => Listed::Delta(self.footer(&live.file, live.bytes).await?.documents),
            (None, FileKind::Snapshot) => Listed::Open(Arc::new(self.open(live).await?)),
        })
    }
}
