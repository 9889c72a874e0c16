//! A consistent look at a collection: one version of the manifest, and of each document the version that wins.
//!
//! Opened files are kept by name, so that a view after a commit opens the new file only. Which rows are visible is
//! worked out per view, for the same file may have lost documents to a newer one.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, OnceLock};

use super::delta::{self, DocumentEntry, Footer, TAIL_BYTES};
use super::error::VectorError;
use super::manifest::{LiveFile, Manifest, ManifestVersion};
use super::search::bits::Bits;
use super::search::bm25::Postings;
use super::segment::Segment;
use super::validate::Precedence;
use super::{VectorOptions, VectorStore};
use crate::documents::{DocumentId, Version};
use crate::stages::model::ModelIdentity;
use crate::stores::objects::ObjectError;

/// Memory that a file takes once it is open and indexed, in multiples of its size: measured at 1.5 for chunks of
/// 1,000 characters with 384 dimensions, and rounded up.
const MEMORY_FACTOR: u64 = 2;

pub struct View {
    pub(super) manifest: Arc<Manifest>,
    pub(super) segments: Vec<Visible>,
    pub(super) options: VectorOptions,
    documents: HashMap<DocumentId, Winner>,
    rows: usize,
    tombstones: usize,
    /// Terms of all visible rows; counted by the first search by words.
    length: OnceLock<u64>,
}

/// A file and the rows of it that count.
pub(super) struct Visible {
    pub segment: Arc<Segment>,
    pub rows: Bits,
}

#[derive(Clone, Copy)]
struct Winner {
    version: Version,
    tombstone: bool,
    segment: usize,
    document: usize,
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
    pub documents: BTreeMap<DocumentId, Held>,
}

/// The winning version of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Held {
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
        Err(self.unsettled())
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
            let winners = winners(entries.iter().map(|(file, documents)| (*file, documents.as_slice())));
            let held = |w: Winner| {
                let rows = entries.get(w.segment).and_then(|(_, d)| d.get(w.document)).map_or(0, |d| d.rows);
                Held { version: w.version, rows, tombstone: w.tombstone }
            };
            let documents = winners.into_iter().map(|(id, w)| (id.clone(), held(w))).collect();
            return Ok(Inventory { version: manifest.version, documents });
        }
        Err(self.unsettled())
    }

    async fn documents_of(&self, live: &LiveFile) -> Result<Vec<DocumentEntry>, VectorError> {
        if let Some(segment) = self.cache().segments.get(&live.file) {
            return Ok(segment.documents().to_vec());
        }
        Ok(self.footer(&live.file, live.bytes).await?.documents)
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

    async fn open(&self, live: &LiveFile) -> Result<Segment, VectorError> {
        let key = self.key(&live.file);
        let (body, _) = self.objects.get(&key).await?;
        if body.len() as u64 != live.bytes {
            let reason = format!("it has {} bytes instead of {}", body.len(), live.bytes);
            return Err(VectorError::Damaged { file: key, reason });
        }
        let crc32 = self.options.verify_checksums.then_some(live.crc32);
        Segment::open(&live.file, body, crc32).map_err(|e| match e {
            VectorError::Damaged { reason, .. } => VectorError::Damaged { file: key, reason },
            e => e,
        })
    }

    /// Before anything is read: a refusal that comes when memory is full comes too late.
    fn may_open(&self, manifest: &Manifest) -> Result<(), VectorError> {
        let needed = manifest.live.iter().map(|f| f.bytes).sum::<u64>().saturating_mul(MEMORY_FACTOR);
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
            let reason = format!("manifest version {version} names it and it is not there");
            return Err(VectorError::Damaged { file: now.1, reason });
        }
        *missing = Some(now);
        Ok(())
    }

    fn unsettled(&self) -> VectorError {
        VectorError::Unsettled { collection: self.collection.clone(), attempts: self.options.read_attempts }
    }
}

/// Of each document the version that wins over all files.
fn winners<'a>(files: impl Iterator<Item = (&'a str, &'a [DocumentEntry])>) -> HashMap<&'a DocumentId, Winner> {
    let mut winners: HashMap<&DocumentId, (Precedence<'a>, Winner)> = HashMap::new();
    for (segment, (file, documents)) in files.enumerate() {
        for (document, entry) in documents.iter().enumerate() {
            let rank = Precedence { version: entry.version, tombstone: entry.tombstone, file };
            let winner = Winner { version: entry.version, tombstone: entry.tombstone, segment, document };
            winners
                .entry(&entry.id)
                .and_modify(|held| {
                    if rank > held.0 {
                        *held = (rank, winner);
                    }
                })
                .or_insert((rank, winner));
        }
    }
    winners.into_iter().map(|(id, (_, winner))| (id, winner)).collect()
}

impl View {
    fn new(manifest: Arc<Manifest>, segments: Vec<Arc<Segment>>, options: VectorOptions) -> Self {
        let winners = winners(segments.iter().map(|s| (s.file(), s.documents())));
        let mut visible: Vec<Bits> = segments.iter().map(|s| Bits::none(s.len())).collect();
        let (mut rows, mut tombstones) = (0, 0);
        let mut documents = HashMap::with_capacity(winners.len());
        for (id, winner) in winners {
            if winner.tombstone {
                tombstones += 1;
            } else if let (Some(bits), Some(segment)) = (visible.get_mut(winner.segment), segments.get(winner.segment))
            {
                let range = segment.rows_of(winner.document);
                rows += range.len();
                bits.set_range(range);
            }
            documents.insert(id.clone(), winner);
        }
        let segments = segments.into_iter().zip(visible).map(|(segment, rows)| Visible { segment, rows }).collect();
        Self { manifest, segments, options, documents, rows, tombstones, length: OnceLock::new() }
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

    /// Visible documents, in no order.
    pub fn documents(&self) -> impl Iterator<Item = &DocumentEntry> {
        self.documents.values().filter(|w| !w.tombstone).filter_map(|w| self.entry(w))
    }

    fn entry(&self, winner: &Winner) -> Option<&DocumentEntry> {
        self.segments.get(winner.segment)?.segment.documents().get(winner.document)
    }

    /// Version and number of rows of a document that is visible.
    pub fn version_of(&self, document: &DocumentId) -> Option<(Version, u32)> {
        let winner = self.documents.get(document).filter(|w| !w.tombstone)?;
        Some((winner.version, self.entry(winner)?.rows))
    }

    /// The highest version that is known of a document, deleted or not.
    pub fn high_water(&self, document: &DocumentId) -> Option<Version> {
        self.documents.get(document).map(|w| w.version)
    }

    /// The rows of a visible document, in their order.
    pub fn rows_of(&self, document: &DocumentId) -> Vec<super::Row> {
        let Some(winner) = self.documents.get(document).filter(|w| !w.tombstone) else { return Vec::new() };
        let Some(visible) = self.segments.get(winner.segment) else { return Vec::new() };
        visible.segment.rows_of(winner.document).filter_map(|row| visible.segment.row(row)).collect()
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
        ViewStats {
            version: self.manifest.version,
            files: self.segments.len(),
            documents: self.documents.len() - self.tombstones,
            rows: self.rows,
            hidden_rows: all - self.rows,
            tombstones: self.tombstones,
            file_bytes: self.manifest.live.iter().map(|f| f.bytes).sum(),
            memory_bytes: self.segments.iter().map(|s| s.segment.memory_bytes()).sum(),
            model: self.manifest.model().cloned(),
        }
    }
}

#[cfg(test)]
#[path = "view_tests.rs"]
mod tests;
