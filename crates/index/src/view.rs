//! Provides a consistent view of a collection: one version of the manifest, and the winning version of each document.
//!
//! Opened files are shared by name (`opening`), so the first view after a commit opens only the new file. Each view
//! determines its visible rows again (`visible`), because the new file may supersede documents in older files. A view
//! keeps its files open, so it can still read files that were deleted meanwhile.

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::{Arc, OnceLock};

use docweir_core::documents::{DocumentId, Version};
use docweir_core::model::ModelIdentity;
use docweir_objects::ObjectError;
use frostem::Stemmer;

use super::columns::DocumentEntry;
use super::delta::{self, Footer, TAIL_BYTES};
use super::error::VectorError;
use super::listed::Listed;
use super::manifest::{FileKind, Manifest, ManifestVersion};
use super::search::bm25::{Source, Totals};
use super::search::stems;
use super::segment::Segment;
use super::validate::Precedence;
use super::visible::{Visible, visible};
use super::{VectorOptions, VectorStore};

/// Memory that a delta needs once it is opened and indexed, as a multiple of its file size. Measured as 1.5 for
/// chunks of 1,000 characters with 384 dimensions, and rounded up.
const MEMORY_FACTOR: u64 = 2;

pub struct View {
    pub(super) manifest: Arc<Manifest>,
    pub(super) segments: Vec<Visible>,
    pub(super) options: VectorOptions,
    rows: usize,
    /// Sums over all visible rows. Computed by the first full-text search.
    totals: OnceLock<Totals>,
    /// Rules for stems in all languages of the rows. Looked up by the first search.
    stem_rules: OnceLock<Vec<Stemmer>>,
}

/// Reports the size and content of a view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewStats {
    pub version: ManifestVersion,
    pub files: usize,
    /// Number of visible documents.
    pub documents: usize,
    pub rows: usize,
    /// Number of hidden rows, which are rows of superseded or deleted document versions. A compaction would remove
    /// them from the files.
    pub hidden_rows: usize,
    pub tombstones: usize,
    pub file_bytes: u64,
    pub memory_bytes: usize,
    pub model: Option<ModelIdentity>,
}

/// Lists the documents of a collection. Does not include their vectors. Serves to compare the collection with the
/// control store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    pub version: ManifestVersion,
    pub documents: BTreeMap<DocumentId, WinningVersion>,
    /// Parent of each visible document that has one. A parent is the document that contains another document.
    pub parents: BTreeMap<DocumentId, DocumentId>,
}

/// Describes the winning version of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WinningVersion {
    pub version: Version,
    pub rows: u32,
    pub tombstone: bool,
}

impl VectorStore {
    /// Returns a view of the current version of the collection. If the collection has not changed since the last
    /// view, the call is cheap. Otherwise the call reads and decodes the new files. Concurrent calls for the same
    /// version open its files once. A call waits for no files but those of its own version.
    pub async fn view(&self) -> Result<Arc<View>, VectorError> {
        let mut missing: Option<(ManifestVersion, String)> = None;
        for _ in 0..self.options.read_attempts {
            let read = self.cache().begin_read();
            let Some((manifest, tag)) = self.register.load().await? else {
                self.check_not_lost().await?;
                let empty = Manifest::empty(&self.collection, self.clock.now());
                return Ok(Arc::new(View::new(Arc::new(empty), Vec::new(), self.options.clone())));
            };
            if let Some(view) = self.cache().view(&tag) {
                return Ok(view);
            }
            let _turn = self.opening.take(&format!("MANIFEST {}", tag.0)).await;
            if let Some(view) = self.cache().view(&tag) {
                return Ok(view);
            }
            self.may_open(&manifest)?;
            match self.open_all(&manifest).await {
                Ok(segments) => {
                    let view = Arc::new(View::new(Arc::new(manifest), segments, self.options.clone()));
                    self.cache().keep_view(read, tag, view.clone());
                    return Ok(view);
                }
                Err(VectorError::Object(ObjectError::NotFound(key))) => {
                    // The file was collected since the manifest was read, or is lost if the manifest has not changed.
                    self.gone_for_good(&mut missing, manifest.version, key)?;
                }
                Err(e) => return Err(e),
            }
        }
        Err(self.no_stable_view())
    }

    /// Returns a view of a past version. The view itself is not cached. Its files are shared with other views, but stay
    /// open no longer than the views that use them.
    pub(super) async fn view_of(&self, manifest: Manifest, version: ManifestVersion) -> Result<Arc<View>, VectorError> {
        let live = manifest.live_at(version).into_iter().cloned().collect();
        let manifest = Manifest { version, live, ..manifest };
        self.may_open(&manifest)?;
        let segments = self.open_all(&manifest).await?;
        Ok(Arc::new(View::new(Arc::new(manifest), segments, self.options.clone())))
    }

    /// Lists every document of the collection, including tombstones, without decoding vectors.
    pub async fn inventory(&self) -> Result<Inventory, VectorError> {
        let Some((manifest, files)) = self.listed().await? else { return Ok(Inventory::default()) };
        let names = manifest.live.iter().map(|live| live.file.as_str());
        let entries: Vec<_> = names.zip(files.into_iter().map(Listed::into_entries)).collect();
        let documents = held(entries.iter().map(|(file, documents)| (*file, documents.as_slice())));
        let parents = parents(&documents, entries.into_iter().flat_map(|(_, documents)| documents));
        Ok(Inventory { version: manifest.version, documents, parents })
    }

    /// Reads the footer of a delta of this collection, whether the delta is live or not. `bytes` is the size of the
    /// file.
    pub async fn footer(&self, file: &str, bytes: u64) -> Result<Footer, VectorError> {
        let key = self.key(file);
        // One read is enough for most files; a long list of documents needs a second read.
        let guess = bytes.min(64 << 10);
        let end = self.objects.get_range(&key, bytes - guess, guess).await?;
        let (rest, tail) = end.split_at(end.len().saturating_sub(TAIL_BYTES as usize));
        let length = delta::footer_bytes(&key, tail)?;
        if let Some(body) = usize::try_from(length).ok().and_then(|l| rest.len().checked_sub(l)) {
            return delta::decode_footer(&key, rest.get(body..).unwrap_or_default());
        }
        let start = bytes.checked_sub(TAIL_BYTES + length).ok_or_else(|| VectorError::Damaged {
            file: key.clone(),
            reason: format!("footer claims to have {length} bytes, but the file has {bytes}"),
        })?;
        delta::decode_footer(&key, &self.objects.get_range(&key, start, length).await?)
    }

    /// Returns an error if the opened files would exceed the memory limit. The caller checks this before it reads any
    /// file, because a refusal is too late once memory is full.
    fn may_open(&self, manifest: &Manifest) -> Result<(), VectorError> {
        // Snapshots are memory-mapped, so the system can reclaim their memory.
        let held = manifest.live.iter().filter(|f| f.kind == FileKind::Delta).map(|f| f.bytes);
        let needed = held.sum::<u64>().saturating_mul(MEMORY_FACTOR);
        let limit = self.options.max_memory_bytes;
        if needed > limit {
            return Err(VectorError::Memory { collection: self.collection.clone(), needed, limit });
        }
        Ok(())
    }

    pub(super) fn gone_for_good(
        &self,
        missing: &mut Option<(ManifestVersion, String)>,
        version: ManifestVersion,
        key: String,
    ) -> Result<(), VectorError> {
        let now = (version, key);
        if missing.as_ref() == Some(&now) {
            return Err(self.missing(now.1, version));
        }
        *missing = Some(now);
        Ok(())
    }

    pub(super) fn missing(&self, key: String, version: ManifestVersion) -> VectorError {
        let reason = format!("manifest version {version} lists the file, but it is missing");
        VectorError::Damaged { file: key, reason }
    }

    pub(super) fn no_stable_view(&self) -> VectorError {
        VectorError::NoStableView { collection: self.collection.clone(), attempts: self.options.read_attempts }
    }
}

/// Returns the winning version of each document over all files.
fn held<'a>(files: impl Iterator<Item = (&'a str, &'a [DocumentEntry])>) -> BTreeMap<DocumentId, WinningVersion> {
    let mut winners: HashMap<&DocumentId, (Precedence<'a>, WinningVersion)> = HashMap::new();
    for (file, documents) in files {
        for entry in documents {
            let rank = Precedence { version: entry.version, tombstone: entry.tombstone, file };
            let held = WinningVersion { version: entry.version, rows: entry.rows, tombstone: entry.tombstone };
            let winner = winners.entry(&entry.id).or_insert((rank, held));
            if rank > winner.0 {
                *winner = (rank, held);
            }
        }
    }
    winners.into_iter().map(|(id, (_, held))| (id.clone(), held)).collect()
}

/// Returns the parent of each visible document. If several files hold the same version of a document, all of them
/// name the same parent.
fn parents(
    held: &BTreeMap<DocumentId, WinningVersion>,
    entries: impl Iterator<Item = DocumentEntry>,
) -> BTreeMap<DocumentId, DocumentId> {
    let visible =
        |entry: &DocumentEntry| held.get(&entry.id).is_some_and(|h| !h.tombstone && h.version == entry.version);
    entries.filter(visible).filter_map(|entry| Some((entry.id, entry.parent?))).collect()
}

/// Identifies a document of a view by the index of its segment and the document's index within that segment.
#[derive(Clone, Copy)]
struct Winner {
    segment: usize,
    document: usize,
}

impl View {
    fn new(manifest: Arc<Manifest>, segments: Vec<Arc<Segment>>, options: VectorOptions) -> Self {
        let segments = visible(segments);
        let rows = segments.iter().map(|s| s.rows.count()).sum();
        Self { manifest, segments, options, rows, totals: OnceLock::new(), stem_rules: OnceLock::new() }
    }

    pub(super) fn totals(&self, sources: &[Source<'_>]) -> &Totals {
        self.totals.get_or_init(|| Totals::of(sources))
    }

    pub(super) fn stem_rules(&self) -> &[Stemmer] {
        self.stem_rules.get_or_init(|| {
            let languages = self.segments.iter().flat_map(|s| s.segment.columns().languages.values());
            let languages: BTreeSet<&str> = languages.collect();
            languages.into_iter().filter_map(|language| stems::rules(language, self.options.stemming)).collect()
        })
    }

    /// Returns the manifest version of this view.
    pub fn version(&self) -> ManifestVersion {
        self.manifest.version
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// Iterates over the winning documents, including tombstones, each with its file.
    fn winning(&self) -> impl Iterator<Item = (&Segment, usize)> {
        self.segments.iter().flat_map(|s| {
            let winning = s.documents.runs(0..s.documents.len()).flatten();
            winning.map(|at| (&*s.segment, at))
        })
    }

    fn visible(&self) -> impl Iterator<Item = (&Segment, usize)> {
        self.winning().filter(|(segment, at)| !segment.documents().is_tombstone(*at))
    }

    /// Iterates over the entries of the visible documents, in no particular order.
    pub fn documents(&self) -> impl Iterator<Item = DocumentEntry> + '_ {
        self.visible().filter_map(|(segment, at)| segment.documents().entry(at))
    }

    /// Iterates over the visible documents with their rows, file by file.
    pub fn each_document(&self) -> impl Iterator<Item = (DocumentEntry, Vec<super::Row>)> + '_ {
        self.visible().filter_map(|(segment, at)| {
            let documents = segment.documents();
            let rows = documents.rows(at).filter_map(|row| segment.row(row)).collect();
            Some((documents.entry(at)?, rows))
        })
    }

    /// Returns the winning version of a document, even if it is a tombstone.
    fn find(&self, document: &DocumentId) -> Option<(Winner, WinningVersion)> {
        self.segments.iter().enumerate().find_map(|(segment, s)| {
            let documents = s.segment.documents();
            let at = documents.find(document.as_str()).filter(|&at| s.documents.contains(at))?;
            let (version, tombstone) = (documents.version(at), documents.is_tombstone(at));
            let held = WinningVersion { version, rows: documents.rows(at).len() as u32, tombstone };
            Some((Winner { segment, document: at }, held))
        })
    }

    /// Returns the version and the number of rows of a visible document.
    pub fn version_of(&self, document: &DocumentId) -> Option<(Version, u32)> {
        self.find(document).filter(|(_, held)| !held.tombstone).map(|(_, held)| (held.version, held.rows))
    }

    /// Returns the highest known version of a document, deleted or not.
    pub fn high_water(&self, document: &DocumentId) -> Option<Version> {
        self.find(document).map(|(_, held)| held.version)
    }

    /// Returns the rows of a visible document, in the order of the document.
    pub fn rows_of(&self, document: &DocumentId) -> Vec<super::Row> {
        let Some((winner, _)) = self.find(document).filter(|(_, held)| !held.tombstone) else { return Vec::new() };
        let Some(Visible { segment, .. }) = self.segments.get(winner.segment) else { return Vec::new() };
        segment.documents().rows(winner.document).filter_map(|row| segment.row(row)).collect()
    }

    /// Returns the number of visible rows.
    pub fn len(&self) -> usize {
        self.rows
    }

    pub fn is_empty(&self) -> bool {
        self.rows == 0
    }

    pub fn stats(&self) -> ViewStats {
        let all: usize = self.segments.iter().map(|s| s.segment.len()).sum();
        let (winning, documents) = (self.winning().count(), self.visible().count());
        ViewStats {
            version: self.manifest.version,
            files: self.segments.len(),
            documents,
            rows: self.rows,
            hidden_rows: all - self.rows,
            tombstones: winning - documents,
            file_bytes: self.manifest.live.iter().map(|f| f.bytes).sum(),
            memory_bytes: self.segments.iter().map(|s| s.segment.memory_bytes()).sum(),
            model: self.manifest.model().cloned(),
        }
    }
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
