//! A consistent look at a collection: one version of the manifest, and of each document the version that wins.
//!
//! Opened files are kept by name, so that a view after a commit opens the new file only. Which rows are visible is
//! worked out per view (`visible`), for the same file may have lost documents to a newer one. A view
//! keeps its files open, so nothing that is deleted meanwhile is missed.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use docweir_core::documents::{DocumentId, Version};
use docweir_core::model::ModelIdentity;
use docweir_objects::ObjectError;

use super::columns::DocumentEntry;
use super::delta::{self, Footer, TAIL_BYTES};
use super::error::VectorError;
use super::manifest::{FileKind, LiveFile, Manifest, ManifestVersion};
use super::retry::blocking;
use super::search::bits::Bits;
use super::search::postings::Postings;
use super::segment::{self, Segment};
use super::snapshot::{self, Snapshot};
use super::validate::Precedence;
use super::visible::{Visible, visible};
use super::{VectorOptions, VectorStore};

/// Memory that a file takes once it is open and indexed, in multiples of its size: measured at 1.5 for chunks of
/// 1,000 characters with 384 dimensions, and rounded up.
const MEMORY_FACTOR: u64 = 2;

pub struct View {
    pub(super) manifest: Arc<Manifest>,
    pub(super) segments: Vec<Visible>,
    pub(super) options: VectorOptions,
    rows: usize,
    /// Terms of all visible rows; counted by the first search by words.
    length: OnceLock<u64>,
}

/// Of one view.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ViewStats {
    pub version: ManifestVersion,
    pub files: usize,
    /// Visible ones.
    pub documents: usize,
    pub rows: usize,
    /// In files, superseded or deleted: what a compaction would drop.
    pub hidden_rows: usize,
    pub tombstones: usize,
    pub file_bytes: u64,
    pub memory_bytes: usize,
    pub model: Option<ModelIdentity>,
}

/// Which documents a collection holds, without opening its vectors: for reconciling with the control store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Inventory {
    pub version: ManifestVersion,
    pub documents: BTreeMap<DocumentId, WinningVersion>,
    /// Of visible documents that another one contains: that one.
    pub parents: BTreeMap<DocumentId, DocumentId>,
}

/// The winning version of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct WinningVersion {
    pub version: Version,
    pub rows: u32,
    pub tombstone: bool,
}

impl VectorStore {
    /// The collection as it is now. Cheap when nothing has changed since the last view; decodes new files on the
    /// calling thread otherwise.
    pub async fn view(&self) -> Result<Arc<View>, VectorError> {
        let _one_at_a_time = self.opening.lock().await;
        let mut missing: Option<(ManifestVersion, String)> = None;
        for _ in 0..self.options.read_attempts {
            let Some((manifest, tag)) = self.register.load().await? else {
                let empty = Manifest::empty(&self.collection, self.clock.now());
                return Ok(Arc::new(View::new(Arc::new(empty), Vec::new(), self.options.clone())));
            };
            if let Some((held, view)) = &self.cache().view
                && *held == tag
            {
                return Ok(view.clone());
            }
            self.may_open(&manifest)?;
            match self.open_all(&manifest).await {
                Ok(segments) => {
                    let view = Arc::new(View::new(Arc::new(manifest), segments.clone(), self.options.clone()));
                    let mut cache = self.cache();
                    cache.segments = segments.into_iter().map(|s| (s.file().to_owned(), s)).collect();
                    cache.view = Some((tag, view.clone()));
                    return Ok(view);
                }
                Err(VectorError::Object(ObjectError::NotFound(key))) => {
                    // Collected between our look at the manifest and now, or gone for good if nothing has changed.
                    self.gone_for_good(&mut missing, manifest.version, key)?;
                }
                Err(e) => return Err(e),
            }
        }
        Err(self.no_stable_view())
    }

    /// The files of a past version. They are not kept for the next view.
    pub(super) async fn view_of(&self, manifest: Manifest, version: ManifestVersion) -> Result<Arc<View>, VectorError> {
        let live = manifest.live_at(version).into_iter().cloned().collect();
        let manifest = Manifest { version, live, ..manifest };
        self.may_open(&manifest)?;
        let segments = self.open_all(&manifest).await?;
        Ok(Arc::new(View::new(Arc::new(manifest), segments, self.options.clone())))
    }

    /// Every document of the collection, tombstones included, from the files' footers.
    pub async fn inventory(&self) -> Result<Inventory, VectorError> {
        let mut missing: Option<(ManifestVersion, String)> = None;
        'again: for _ in 0..self.options.read_attempts {
            let Some((manifest, _)) = self.register.load().await? else { return Ok(Inventory::default()) };
            let mut entries = Vec::with_capacity(manifest.live.len());
            for live in &manifest.live {
                match self.documents_of(live).await {
                    Ok(documents) => entries.push((live.file.as_str(), documents)),
                    Err(VectorError::Object(ObjectError::NotFound(key))) => {
                        self.gone_for_good(&mut missing, manifest.version, key)?;
                        continue 'again;
                    }
                    Err(e) => return Err(e),
                }
            }
            let documents = held(entries.iter().map(|(file, documents)| (*file, documents.as_slice())));
            let parents = parents(&documents, entries.into_iter().flat_map(|(_, documents)| documents));
            return Ok(Inventory { version: manifest.version, documents, parents });
        }
        Err(self.no_stable_view())
    }

    async fn documents_of(&self, live: &LiveFile) -> Result<Vec<DocumentEntry>, VectorError> {
        let held = self.cache().segments.get(&live.file).cloned();
        match (held, live.kind) {
            (Some(segment), _) => Ok(segment.entries().collect()),
            (None, FileKind::Delta) => Ok(self.footer(&live.file, live.bytes).await?.documents),
            (None, FileKind::Snapshot) => Ok(self.open(live).await?.entries().collect()),
        }
    }

    /// The footer of a file of this collection, live or not.
    pub async fn footer(&self, file: &str, bytes: u64) -> Result<Footer, VectorError> {
        let key = self.key(file);
        // One read serves most files; a long list of documents takes a second one.
        let guess = bytes.min(64 << 10);
        let end = self.objects.get_range(&key, bytes - guess, guess).await?;
        let (rest, tail) = end.split_at(end.len().saturating_sub(TAIL_BYTES as usize));
        let length = delta::footer_bytes(&key, tail)?;
        if let Some(body) = usize::try_from(length).ok().and_then(|l| rest.len().checked_sub(l)) {
            return delta::decode_footer(&key, rest.get(body..).unwrap_or_default());
        }
        let start = bytes.checked_sub(TAIL_BYTES + length).ok_or_else(|| VectorError::Damaged {
            file: key.clone(),
            reason: format!("its footer claims {length} bytes of {bytes}"),
        })?;
        delta::decode_footer(&key, &self.objects.get_range(&key, start, length).await?)
    }

    /// In the manifest's order, from the cache where they are.
    async fn open_all(&self, manifest: &Manifest) -> Result<Vec<Arc<Segment>>, VectorError> {
        let mut segments = Vec::with_capacity(manifest.live.len());
        for live in &manifest.live {
            let held = self.cache().segments.get(&live.file).cloned();
            segments.push(match held {
                Some(segment) => segment,
                None => Arc::new(self.open(live).await?),
            });
        }
        Ok(segments)
    }

    /// Opens a file: a delta is read and decoded, a snapshot is mapped where it is a local file or has a local copy.
    pub(super) async fn open(&self, live: &LiveFile) -> Result<Segment, VectorError> {
        let small = live.kind == FileKind::Delta || live.bytes <= self.options.verify_bytes;
        self.open_checked(live, self.options.verify_checksums && small).await
    }

    /// As [`VectorStore::open`], with every checksum looked at: damage must not be copied under a new checksum.
    pub(super) async fn open_to_merge(&self, live: &LiveFile) -> Result<Segment, VectorError> {
        self.open_checked(live, true).await
    }

    async fn open_checked(&self, live: &LiveFile, verify: bool) -> Result<Segment, VectorError> {
        match self.open_as_it_is(live, verify).await {
            // A copy on this machine's disk may have rotted where the file itself is whole.
            Err(error @ VectorError::Damaged { .. }) if self.objects.forget_copy(&self.key(&live.file)) => {
                tracing::warn!(%error, "its copy on this disk is damaged: fetching it anew");
                self.open_as_it_is(live, verify).await
            }
            opened => opened,
        }
    }

    async fn open_as_it_is(&self, live: &LiveFile, verify: bool) -> Result<Segment, VectorError> {
        let key = self.key(&live.file);
        let check = |bytes: usize| {
            let reason = format!("it has {bytes} bytes instead of {}", live.bytes);
            let damaged = || VectorError::Damaged { file: key.clone(), reason };
            if bytes as u64 == live.bytes { Ok(()) } else { Err(damaged()) }
        };
        let file = live.file.clone();
        let mapped = match live.kind {
            FileKind::Delta => None,
            FileKind::Snapshot => self.objects.local_copy(&key).await?,
        };
        let opened = match (live.kind, mapped) {
            (FileKind::Delta, _) => {
                // One byte more than there should be. Not a `get`: its tag would be a hash of the whole.
                let body = self.objects.get_range(&key, 0, live.bytes.saturating_add(1)).await?;
                check(body.len())?;
                let crc32 = verify.then_some(live.crc32);
                blocking(move || Segment::of_delta(&file, body, crc32)).await
            }
            (FileKind::Snapshot, Some(copy)) => {
                let image = snapshot::image_of(&copy).map_err(|e| self.not_mapped(&key, &e))?;
                check(image.len())?;
                let open = move || Snapshot::open(&file, image, true, verify).map(|s| Segment::of_snapshot(&file, s));
                // Without the checksums it reads the directory alone.
                if verify { blocking(open).await } else { open() }
            }
            (FileKind::Snapshot, None) => {
                let body = self.objects.get_range(&key, 0, live.bytes.saturating_add(1)).await?;
                check(body.len())?;
                blocking(move || Snapshot::open(&file, body, false, verify).map(|s| Segment::of_snapshot(&file, s)))
                    .await
            }
        };
        let segment = opened.map_err(|e| match e {
            VectorError::Damaged { reason, .. } => VectorError::Damaged { file: key.clone(), reason },
            e => e,
        })?;
        if !segment::matches(&segment, live) {
            let reason = "it is not the file that the manifest lists under its name".to_owned();
            return Err(VectorError::Damaged { file: key, reason });
        }
        Ok(segment)
    }

    fn not_mapped(&self, key: &str, error: &std::io::Error) -> VectorError {
        ObjectError::Transient { what: "map", key: key.to_owned(), reason: error.to_string() }.into()
    }

    /// Before anything is read: a refusal that comes when memory is full comes too late.
    fn may_open(&self, manifest: &Manifest) -> Result<(), VectorError> {
        // Snapshots are mapped: their memory is the system's to take back.
        let held = manifest.live.iter().filter(|f| f.kind == FileKind::Delta).map(|f| f.bytes);
        let needed = held.sum::<u64>().saturating_mul(MEMORY_FACTOR);
        let limit = self.options.max_memory_bytes;
        if needed > limit {
            return Err(VectorError::Memory { collection: self.collection.clone(), needed, limit });
        }
        Ok(())
    }

    fn gone_for_good(
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
        let reason = format!("manifest version {version} names it and it is not there");
        VectorError::Damaged { file: key, reason }
    }

    fn no_stable_view(&self) -> VectorError {
        VectorError::NoStableView { collection: self.collection.clone(), attempts: self.options.read_attempts }
    }
}

/// Of each document the version that wins over all files.
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

/// Returns the parents of those entries that win and are visible. Entries of one version are the same in every file.
fn parents(
    held: &BTreeMap<DocumentId, WinningVersion>,
    entries: impl Iterator<Item = DocumentEntry>,
) -> BTreeMap<DocumentId, DocumentId> {
    let visible =
        |entry: &DocumentEntry| held.get(&entry.id).is_some_and(|h| !h.tombstone && h.version == entry.version);
    entries.filter(visible).filter_map(|entry| Some((entry.id, entry.parent?))).collect()
}

/// A document of a view.
#[derive(Clone, Copy)]
struct Winner {
    segment: usize,
    document: usize,
}

impl View {
    fn new(manifest: Arc<Manifest>, segments: Vec<Arc<Segment>>, options: VectorOptions) -> Self {
        let segments = visible(segments);
        let rows = segments.iter().map(|s| s.rows.count()).sum();
        Self { manifest, segments, options, rows, length: OnceLock::new() }
    }

    pub(super) fn total_length(&self, segments: &[(&Postings, &Bits)]) -> u64 {
        *self.length.get_or_init(|| segments.iter().map(|(postings, rows)| postings.total_length(rows)).sum())
    }

    /// The manifest version that is seen.
    pub fn version(&self) -> ManifestVersion {
        self.manifest.version
    }

    pub fn manifest(&self) -> &Manifest {
        &self.manifest
    }

    /// The winning documents and their files, tombstones too.
    fn winning(&self) -> impl Iterator<Item = (&Segment, usize)> {
        self.segments.iter().flat_map(|s| {
            let winning = s.documents.runs(0..s.documents.len()).flatten();
            winning.map(|at| (&*s.segment, at))
        })
    }

    fn visible(&self) -> impl Iterator<Item = (&Segment, usize)> {
        self.winning().filter(|(segment, at)| !segment.documents().is_tombstone(*at))
    }

    /// Visible documents, in no order.
    pub fn documents(&self) -> impl Iterator<Item = DocumentEntry> + '_ {
        self.visible().filter_map(|(segment, at)| segment.documents().entry(at))
    }

    /// Visible documents with their rows, file after file.
    pub fn each_document(&self) -> impl Iterator<Item = (DocumentEntry, Vec<super::Row>)> + '_ {
        self.visible().filter_map(|(segment, at)| {
            let documents = segment.documents();
            let rows = documents.rows(at).filter_map(|row| segment.row(row)).collect();
            Some((documents.entry(at)?, rows))
        })
    }

    /// The winning version of a document, tombstones too.
    fn find(&self, document: &DocumentId) -> Option<(Winner, WinningVersion)> {
        self.segments.iter().enumerate().find_map(|(segment, s)| {
            let documents = s.segment.documents();
            let at = documents.find(document.as_str()).filter(|&at| s.documents.contains(at))?;
            let (version, tombstone) = (documents.version(at), documents.is_tombstone(at));
            let held = WinningVersion { version, rows: documents.rows(at).len() as u32, tombstone };
            Some((Winner { segment, document: at }, held))
        })
    }

    /// Version and number of rows of a document that is visible.
    pub fn version_of(&self, document: &DocumentId) -> Option<(Version, u32)> {
        self.find(document).filter(|(_, held)| !held.tombstone).map(|(_, held)| (held.version, held.rows))
    }

    /// The highest version that is known of a document, deleted or not.
    pub fn high_water(&self, document: &DocumentId) -> Option<Version> {
        self.find(document).map(|(_, held)| held.version)
    }

    /// The rows of a visible document, in their order.
    pub fn rows_of(&self, document: &DocumentId) -> Vec<super::Row> {
        let Some((winner, _)) = self.find(document).filter(|(_, held)| !held.tombstone) else { return Vec::new() };
        let Some(Visible { segment, .. }) = self.segments.get(winner.segment) else { return Vec::new() };
        segment.documents().rows(winner.document).filter_map(|row| segment.row(row)).collect()
    }

    /// Visible rows.
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
