//! Notices that the manifest of a collection is lost, and rebuilds it from the files.
//!
//! A collection without a manifest is empty, unless one of its files shows that there was a manifest: every snapshot,
//! and every delta whose commit began at a manifest version above zero. Without this check, the next commit would start
//! an empty manifest, and the collector would delete all other files as garbage. A delta that began at version zero
//! shows nothing, because a process may have died before the first swap, or may be about to make it.

use docweir_core::clock::timestamp;
use docweir_objects::{ObjectError, ObjectMeta};
use serde::Serialize;

use super::VectorStore;
use super::delta::{self, TAIL_BYTES};
use super::error::VectorError;
use super::manifest::{FileKind, Generation, HistoryEntry, LiveFile, Manifest, ManifestVersion};
use super::register::Swap;
use super::retry::ulid;
use super::snapshot::{self, Directory};
use super::validate::proposed;

/// Number of bytes that are read at once to compute the checksum of a file.
const PIECE: u64 = 8 << 20;

/// Describes a manifest that was rebuilt from the files of its collection.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct RebuiltManifest {
    pub version: ManifestVersion,
    pub files: u64,
    pub documents: u64,
    pub rows: u64,
}

/// Holds what a file says about itself.
struct FileHeader {
    generation: Generation,
    base_version: ManifestVersion,
    rows: u64,
    documents: u64,
    tombstones: u64,
}

impl VectorStore {
    /// Checks that the manifest is not lost. Call this if the collection has no manifest.
    ///
    /// # Errors
    /// Returns [`VectorError::ManifestLost`] if a file shows that the collection had a manifest.
    pub(super) async fn check_not_lost(&self) -> Result<(), VectorError> {
        let there = self.objects_there().await?;
        for object in &there {
            match self.base_in(object).await {
                Ok(base) if base > 0 || !self.file_of(&object.key).starts_with("delta/") => {
                    // The first commit may have been made after the manifest was read.
                    return match self.register.load().await? {
                        Some(_) => Ok(()),
                        None => Err(self.manifest_lost(there.len())),
                    };
                }
                // The collector does not delete files that it cannot read.
                Ok(_) | Err(VectorError::Damaged { .. } | VectorError::Object(ObjectError::NotFound(_))) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }

    /// Returns whether the collection has any file, listed or not.
    pub async fn has_files(&self) -> Result<bool, VectorError> {
        for folder in ["delta/", "snap/"] {
            if !self.objects.list(&self.key(folder), None, 1).await?.is_empty() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    fn manifest_lost(&self, files: usize) -> VectorError {
        VectorError::ManifestLost { key: self.manifest_key(), files: files as u64 }
    }

    /// Writes a manifest that lists all files of the collection, if the collection has files but no manifest. Returns
    /// `None` if there is a manifest, or if there are no files.
    ///
    /// The files do not tell which of them a merge had replaced already, so documents that were deleted before the
    /// merge may be found again. The caller compares the documents with the control store and deletes those.
    ///
    /// # Errors
    /// Returns [`VectorError::Damaged`] if a file cannot be read. In this case nothing is written.
    pub async fn rebuild_manifest(&self) -> Result<Option<RebuiltManifest>, VectorError> {
        if self.manifest().await?.is_some() {
            return Ok(None);
        }
        let mut live = Vec::new();
        let mut generations: Vec<Generation> = Vec::new();
        for object in self.objects_there().await? {
            let (file, generation) = self.described(&object).await?;
            match generations.iter_mut().find(|g| g.number == generation.number) {
                Some(known) => known.created_at = generation.created_at.min(std::mem::take(&mut known.created_at)),
                None => generations.push(generation),
            }
            live.push(file);
        }
        let Some(newest) = generations.iter().map(|g| g.number).max() else { return Ok(None) };
        // Files of earlier generations are not part of the current content.
        live.retain(|file| file.generation == newest);
        generations.sort_by_key(|g| g.number);
        live.sort_by(|a, b| (a.base_version, &a.file).cmp(&(b.base_version, &b.file)));
        let now = self.clock.now();
        let version = live.iter().map(|file| file.base_version).max().unwrap_or_default() + 1;
        live.iter_mut().for_each(|file| file.added_version = file.base_version + 1);
        let rebuilt = RebuiltManifest {
            version,
            files: live.len() as u64,
            documents: live.iter().map(|file| file.documents).sum(),
            rows: live.iter().map(|file| file.rows).sum(),
        };
        let manifest = Manifest {
            version,
            // A commit or merge that began before the loss must begin again.
            gc_floor: version,
            retained_from: version,
            commit_id: ulid(self, &mut self.random()),
            generation: newest,
            generations,
            live,
            history: vec![HistoryEntry { version, at_ms: now.div_euclid(1000) }],
            updated_at: timestamp(now),
            ..Manifest::empty(&self.collection, now)
        };
        for file in &manifest.live {
            if let Some(reason) = self.verify_file(file).await? {
                return Err(delta::damaged(&self.key(&file.file), reason));
            }
        }
        match self.register.swap(None, &manifest).await? {
            Swap::Done => Ok(Some(rebuilt)),
            // Another process was faster, or the reply was lost.
            Swap::Conflict | Swap::Unknown => match self.manifest().await? {
                Some(stored) if stored.commit_id == manifest.commit_id => Ok(Some(rebuilt)),
                _ => Err(VectorError::Contention { collection: self.collection.clone(), attempts: 1 }),
            },
        }
    }

    /// Returns the manifest entry of a file, and its generation.
    async fn described(&self, object: &ObjectMeta) -> Result<(LiveFile, Generation), VectorError> {
        let name = self.file_of(&object.key).to_owned();
        let (kind, header) = match name.starts_with("delta/") {
            true => {
                let footer = self.footer(&name, object.bytes).await?;
                let tombstones = footer.documents.iter().filter(|d| d.tombstone).count() as u64;
                let header = FileHeader {
                    generation: Generation {
                        number: footer.header.generation,
                        model: Some(footer.header.model),
                        created_at: footer.header.created_at,
                    },
                    base_version: footer.header.base_version,
                    rows: footer.rows,
                    documents: footer.documents.len() as u64 - tombstones,
                    tombstones,
                };
                (FileKind::Delta, header)
            }
            false => {
                let header = self.directory_of(object).await?.header;
                let header = FileHeader {
                    generation: Generation {
                        number: header.origin.generation,
                        model: Some(header.origin.model),
                        created_at: header.origin.created_at,
                    },
                    base_version: header.origin.base_version,
                    rows: header.rows,
                    documents: header.documents,
                    tombstones: header.tombstones,
                };
                (FileKind::Snapshot, header)
            }
        };
        let FileHeader { generation, base_version, rows, documents, tombstones } = header;
        let (bytes, crc32) = (object.bytes, self.checksum(object).await?);
        let entry = proposed(name, kind, generation.number, base_version);
        Ok((LiveFile { rows, documents, tombstones, bytes, crc32, ..entry }, generation))
    }

    async fn checksum(&self, object: &ObjectMeta) -> Result<u32, VectorError> {
        let (mut hasher, mut at) = (crc32fast::Hasher::new(), 0);
        while at < object.bytes {
            let piece = self.objects.get_range(&object.key, at, PIECE.min(object.bytes - at)).await?;
            if piece.is_empty() {
                return Err(delta::damaged(&object.key, format!("file has {at} bytes instead of {}", object.bytes)));
            }
            at += piece.len() as u64;
            hasher.update(&piece);
        }
        Ok(hasher.finalize())
    }

    /// Returns the base version of a file: the manifest version that its commit or merge had read before writing the
    /// file.
    pub(super) async fn base_in(&self, object: &ObjectMeta) -> Result<ManifestVersion, VectorError> {
        let file = self.file_of(&object.key);
        match file.starts_with("delta/") {
            true => Ok(self.footer(file, object.bytes).await?.header.base_version),
            false => Ok(self.directory_of(object).await?.header.origin.base_version),
        }
    }

    /// Reads the directory of a snapshot, without the rest of the file.
    pub(super) async fn directory_of(&self, object: &ObjectMeta) -> Result<Directory, VectorError> {
        let mut length = (4 << 10).max(TAIL_BYTES).min(object.bytes);
        loop {
            let end = self.objects.get_range(&object.key, object.bytes - length, length).await?;
            match snapshot::directory(&object.key, &end)? {
                Ok(directory) => return Ok(directory),
                Err(needed) if needed > length && needed <= object.bytes => length = needed,
                Err(needed) => {
                    let reason = format!("directory claims to have {needed} bytes, but the file has {}", object.bytes);
                    return Err(delta::damaged(&object.key, reason));
                }
            }
        }
    }
}

#[cfg(test)]
#[path = "lost_tests.rs"]
mod tests;
