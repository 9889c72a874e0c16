//! Checks a collection for missing, damaged and contradictory files.

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

/// Describes one missing, damaged or contradictory file of a collection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Finding {
    /// Object key of the file.
    pub key: String,
    pub what: String,
    /// If true, the current version needs the file. If false, only a past version needs the file.
    pub live: bool,
}

/// Reports the result of checking all files.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Verified {
    pub files: u64,
    pub bytes: u64,
    pub rows: u64,
    pub findings: Vec<Finding>,
    /// Object keys of files that no version lists. Such a file is either the remains of a crash, or a process has not
    /// finished its commit or merge yet. The collector deletes abandoned files.
    pub orphans: Vec<String>,
}

impl VectorStore {
    /// Reads every file that the current version or a retained past version lists. Checks the file's checksums and
    /// counts, the order of its documents and the lengths of its vectors.
    pub async fn verify(&self) -> Result<Verified, VectorError> {
        let mut verified = Verified::default();
        let Some(manifest) = self.manifest().await? else {
            self.check_not_lost().await?;
            return Ok(verified);
        };
        let past = manifest.removed.iter().filter(|r| r.at_version > manifest.retained_from).map(|r| &r.file);
        // A file that a rollback restored is listed twice; read it once.
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
                Err(VectorError::Object(ObjectError::NotFound(_))) => faults.push((*file, "file is missing".into())),
                Err(e) => return Err(e),
            }
        }
        // Other processes may change the collection meanwhile. A file that is no longer listed is not lost, and a
        // file that was listed since then is not an orphan.
        let now = self.manifest().await?.unwrap_or_else(|| manifest.clone());
        for (file, what) in faults {
            let live = now.is_live(&file.file);
            let retained = |r: &RemovedFile| r.file.file == file.file && r.at_version > now.retained_from;
            if live || now.removed.iter().any(retained) {
                verified.findings.push(Finding { key: self.key(&file.file), what, live });
            }
        }
        let there = self.objects_there().await?;
        // A file of a past version that the collector has not yet deleted is not an orphan.
        let now = self.manifest().await?.unwrap_or(now);
        verified.orphans = self.not_named(&now, there).collect();
        Ok(verified)
    }

    /// Returns a description of the first fault in a file; `None` if the file is intact.
    pub(super) async fn verify_file(&self, file: &LiveFile) -> Result<Option<String>, VectorError> {
        let segment = self.open_to_merge(file).await?;
        let (expected, kind) = ((file.rows, file.documents, file.tombstones), file.kind);
        Ok(blocking(move || fault(&segment, expected, kind)).await)
    }

    /// Returns all texts of the given documents, exactly as they were embedded. Reads every version of the documents
    /// in every listed file that holds one of them. Of the other files, reads only the lists of documents. Caches may
    /// hold vectors of these texts.
    pub async fn texts_of(&self, ids: &[DocumentId]) -> Result<Vec<String>, VectorError> {
        let Some(manifest) = self.manifest().await? else { return Ok(Vec::new()) };
        let mut texts = Vec::new();
        // A file that a rollback restored is listed twice.
        let named: BTreeMap<&str, &LiveFile> = manifest.files().map(|file| (file.file.as_str(), file)).collect();
        for file in named.into_values() {
            let segment = match self.lists_any(file, ids).await {
                Ok(false) | Err(VectorError::Object(ObjectError::NotFound(_))) => continue,
                Ok(true) => self.open(file).await,
                Err(e) => Err(e),
            };
            let segment = match segment {
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

    /// Exports the visible rows as Parquet files, which have the format of deltas and about `bytes` bytes each. Calls
    /// `part` with each file in order, and returns the number of exported rows.
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
            "file has (rows, documents, tombstones) {counts:?}, but the manifest lists {:?}",
            (rows, documents, tombstones)
        ));
    }
    if let Some(at) = (0..held.len()).find(|&at| held.entry(at).is_none()) {
        return Some(format!("document {at} has an invalid id"));
    }
    if kind == FileKind::Snapshot && !in_order(held) {
        return Some("documents are not sorted by id, or an id occurs twice".into());
    }
    if !held.parents.is_empty() && held.parents.len() != held.len() {
        return Some("list of parents and list of documents differ in length".into());
    }
    if let Some(at) = (0..held.parents.len()).find(|&at| !held.parents.raw(at).is_empty() && held.parent(at).is_none())
    {
        return Some(format!("document {at} has an invalid parent id"));
    }
    if !held.tombstones_added.is_empty() && held.tombstones_added.len() != held.len() {
        return Some("list of tombstones' versions and list of documents differ in length".into());
    }
    let columns = segment.columns();
    let rows = segment.len();
    if columns.texts.len() != rows || columns.metadata.len() != rows || columns.spans.len() != 4 * rows {
        return Some("columns have different lengths".into());
    }
    let unit = |v: &[f32]| (v.iter().map(|x| x * x).sum::<f32>().sqrt() - 1.0).abs() < 1e-2;
    let bad = segment.vectors().chunks_exact(segment.dimension().max(1)).position(|v| !unit(v));
    bad.map(|row| format!("vector of row {row} does not have length 1"))
}

fn in_order(documents: &Documents) -> bool {
    (1..documents.len()).all(|at| documents.id(at - 1) < documents.id(at))
}

/// Describes a document about which the control store and the collection disagree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub enum Disagreement {
    /// The control store records a version of the document as loaded, but this version is not visible. A retry loads
    /// the document again.
    NotVisible { document: DocumentId, recorded: u64, visible: Option<u64> },
    /// The document is visible, but the control store records it as deleted or has no record of it.
    NotRecorded { document: DocumentId, visible: u64 },
}

/// Describes the state that the control store records for a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Recorded {
    Loaded(u64),
    Deleted,
    /// The document is being loaded or deleted; any visible version is correct.
    UnderWay,
}

/// Compares the records of the control store with the visible documents.
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
