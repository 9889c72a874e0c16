//! Looks through a collection for what should not be: missing, damaged or contradictory files.

use std::collections::BTreeMap;

use bytes::Bytes;
use docweir_core::clock::timestamp;
use docweir_core::documents::DocumentId;
use docweir_objects::ObjectError;
use serde::Serialize;

use super::columns::Documents;
use super::delta::{self, DeltaHeader};
use super::error::VectorError;
use super::manifest::{FileKind, LiveFile, RemovedFile};
use super::retry::blocking;
use super::segment::Segment;
use super::{VectorStore, View, WinningVersion};
use docweir_target::{DocumentRows, Write};

/// Something that is wrong with the files of a collection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Object key.
    pub key: String,
    pub what: String,
    /// Whether the collection as it is now needs the file; otherwise only its past does.
    pub live: bool,
}

/// What a look through the files came to.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    pub files: u64,
    pub bytes: u64,
    pub rows: u64,
    pub findings: Vec<Finding>,
    /// Files that no version names: what a crash left, or what is being written just now. The collector takes them.
    pub orphans: Vec<String>,
}

impl VectorStore {
    /// Reads every file that the manifest names, all checksums, counts and orders.
    pub async fn verify(&self) -> Result<Verified, VectorError> {
        let mut verified = Verified::default();
        let Some(manifest) = self.manifest().await? else { return Ok(verified) };
        let past = manifest.removed.iter().filter(|r| r.at_version > manifest.retained_from).map(|r| &r.file);
        // A file that was rolled back to is named twice and read once.
        let named: BTreeMap<&str, &LiveFile> =
            past.chain(&manifest.live).map(|file| (file.file.as_str(), file)).collect();
        let mut faults = Vec::new();
        for file in named.values() {
            verified.files += 1;
            verified.bytes += file.bytes;
            verified.rows += file.rows;
            match self.verify_file(file).await {
                Ok(None) => {}
                Ok(Some(what)) | Err(VectorError::Damaged { reason: what, .. }) => faults.push((*file, what)),
                Err(VectorError::Object(ObjectError::NotFound(_))) => faults.push((*file, "it is missing".into())),
                Err(e) => return Err(e),
            }
        }
        // Others go on meanwhile: what is no longer named is no loss, what has been named since is no orphan.
        let now = self.manifest().await?.unwrap_or_else(|| manifest.clone());
        for (file, what) in faults {
            let live = now.is_live(&file.file);
            let retained = |r: &RemovedFile| r.file.file == file.file && r.at_version > now.retained_from;
            if live || now.removed.iter().any(retained) {
                verified.findings.push(Finding { key: self.key(&file.file), what, live });
            }
        }
        let there = self.objects_there().await?;
        // A file of the past that the collector has not come to yet is no orphan.
        let now = self.manifest().await?.unwrap_or(now);
        verified.orphans = self.not_named(&now, there).collect();
        Ok(verified)
    }

    /// What is wrong with one file, if anything.
    async fn verify_file(&self, file: &LiveFile) -> Result<Option<String>, VectorError> {
        let segment = self.open_to_merge(file).await?;
        let (expected, kind) = ((file.rows, file.documents, file.tombstones), file.kind);
        Ok(blocking(move || fault(&segment, expected, kind)).await)
    }

    /// Every text of these documents that is in any file, of whatever version, as it was embedded: what a cache may have
    /// of them.
    pub async fn texts_of(&self, ids: &[DocumentId]) -> Result<Vec<String>, VectorError> {
        let Some(manifest) = self.manifest().await? else { return Ok(Vec::new()) };
        let mut texts = Vec::new();
        for file in manifest.files() {
            let segment = match self.open(file).await {
                Ok(segment) => segment,
                Err(VectorError::Object(ObjectError::NotFound(_))) => continue,
                Err(e) => return Err(e),
            };
            for at in ids.iter().filter_map(|id| segment.documents().find(id.as_str())) {
                texts.extend(segment.documents().rows(at).map(|row| segment.indexed_text(row).into_owned()));
            }
        }
        Ok(texts)
    }

    /// The visible rows as Parquet files of about `bytes` each, in the form of deltas, one after the other.
    pub fn export<E: From<VectorError>>(
        &self,
        view: &View,
        bytes: u64,
        mut part: impl FnMut(Bytes) -> Result<(), E>,
    ) -> Result<u64, E> {
        let Some(model) = view.manifest().model().cloned() else { return Ok(0) };
        let header = DeltaHeader {
            format: delta::FORMAT,
            collection: self.collection.clone(),
            generation: view.manifest().generation,
            model,
            base_version: view.version(),
            writer: "export".into(),
            sequence: 0,
            commit_id: String::new(),
            created_at: timestamp(self.clock.now()),
        };
        let (mut total, mut held, mut weight) = (0, Vec::new(), 0);
        let mut documents = view.each_document().peekable();
        while let Some((entry, rows)) = documents.next() {
            let write = Write::Upsert(DocumentRows {
                rows,
                document_id: entry.id,
                version: entry.version,
                source: entry.source,
                parent: entry.parent,
                metadata: entry.metadata,
            });
            weight += write.weight_bytes() as u64;
            total += write.rows().len() as u64;
            held.push(write);
            if weight >= bytes || documents.peek().is_none() {
                part(delta::encode(&header, &held)?)?;
                weight = 0;
                held.clear();
            }
        }
        Ok(total)
    }
}

fn fault(segment: &Segment, (rows, documents, tombstones): (u64, u64, u64), kind: FileKind) -> Option<String> {
    let held = segment.documents();
    let deleted = (0..held.len()).filter(|&at| held.is_tombstone(at)).count() as u64;
    let counts = (segment.len() as u64, held.len() as u64 - deleted, deleted);
    if counts != (rows, documents, tombstones) {
        return Some(format!(
            "it holds (rows, documents, tombstones) {counts:?} and the manifest lists {:?}",
            (rows, documents, tombstones)
        ));
    }
    if let Some(at) = (0..held.len()).find(|&at| held.entry(at).is_none()) {
        return Some(format!("the id of its document {at} is no id"));
    }
    if kind == FileKind::Snapshot && !in_order(held) {
        return Some("its documents are not in the order of their ids, or one is there twice".into());
    }
    if !held.parents.is_empty() && held.parents.len() != held.len() {
        return Some("its list of parents is not as long as that of its documents".into());
    }
    if let Some(at) = (0..held.parents.len()).find(|&at| !held.parents.raw(at).is_empty() && held.parent(at).is_none())
    {
        return Some(format!("the parent of its document {at} is no id"));
    }
    let columns = segment.columns();
    let rows = segment.len();
    if columns.texts.len() != rows || columns.metadata.len() != rows || columns.spans.len() != 4 * rows {
        return Some("its columns are of different lengths".into());
    }
    let unit = |v: &[f32]| (v.iter().map(|x| x * x).sum::<f32>().sqrt() - 1.0).abs() < 1e-2;
    let bad = segment.vectors().chunks_exact(segment.dimension().max(1)).position(|v| !unit(v));
    bad.map(|row| format!("the vector of its row {row} is not of unit length"))
}

fn in_order(documents: &Documents) -> bool {
    (1..documents.len()).all(|at| documents.id(at - 1) < documents.id(at))
}

/// A document that the control store and the collection disagree about.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Disagreement {
    /// The control store says that it is loaded and it can't be found: a retry loads it again.
    NotVisible { document: DocumentId, recorded: u64, visible: Option<u64> },
    /// It can be found and the control store says that it was deleted, or knows nothing of it.
    NotRecorded { document: DocumentId, visible: u64 },
}

/// What the control store says of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    Loaded(u64),
    Deleted,
    /// On its way in or out: whatever is visible is right.
    UnderWay,
}

/// Compares what was recorded with what is visible.
pub fn compare(
    recorded: &BTreeMap<DocumentId, Recorded>,
    visible: &BTreeMap<DocumentId, WinningVersion>,
) -> Vec<Disagreement> {
    let mut found = Vec::new();
    for (document, says) in recorded {
        let held = visible.get(document).filter(|h| !h.tombstone).map(|h| h.version);
        match (*says, held) {
            (Recorded::Loaded(recorded), held) if held.is_none_or(|v| v < recorded) => {
                found.push(Disagreement::NotVisible { document: document.clone(), recorded, visible: held });
            }
            (Recorded::Deleted, Some(visible)) => {
                found.push(Disagreement::NotRecorded { document: document.clone(), visible });
            }
            _ => {}
        }
    }
    let unknown = visible.iter().filter(|(id, held)| !held.tombstone && !recorded.contains_key(id));
    found.extend(unknown.map(|(id, held)| Disagreement::NotRecorded { document: id.clone(), visible: held.version }));
    found
}

#[cfg(test)]
#[path = "verify_tests.rs"]
mod tests;
