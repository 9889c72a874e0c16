//! Finds the files that list certain documents, without reading rows and vectors.
//!
//! A delta lists its documents in its footer. A snapshot lists them in two sections, which take about one hundredth of
//! the file. Both lists have checksums of their own, so a damaged list is not taken for the absence of a document.

use std::collections::HashSet;
use std::future::Future;

use bytes::{Buf, Bytes};
use docweir_core::documents::DocumentId;
use docweir_objects::ObjectMeta;

use super::VectorStore;
use super::delta::damaged;
use super::error::VectorError;
use super::manifest::{FileKind, LiveFile};
use super::snapshot::{SectionEntry, section};

/// Number of bytes of a section that are read at once.
const PIECE: u64 = 1 << 20;
/// Size of an offset in bytes.
const OFFSET: usize = 8;

impl VectorStore {
    /// Returns whether a file lists any of the documents, as rows or as a tombstone.
    pub(super) async fn lists_any(&self, file: &LiveFile, ids: &[DocumentId]) -> Result<bool, VectorError> {
        let open = self.cache().segment(&file.file);
        match (open, file.kind) {
            (Some(segment), _) => Ok(ids.iter().any(|id| segment.documents().find(id.as_str()).is_some())),
            (None, FileKind::Delta) => {
                let footer = self.footer(&file.file, file.bytes).await?;
                Ok(footer.documents.iter().any(|listed| ids.contains(&listed.id)))
            }
            (None, FileKind::Snapshot) => self.snapshot_lists_any(file, ids).await,
        }
    }

    async fn snapshot_lists_any(&self, file: &LiveFile, ids: &[DocumentId]) -> Result<bool, VectorError> {
        let key = self.key(&file.file);
        let wanted: HashSet<&[u8]> = ids.iter().map(|id| id.as_str().as_bytes()).collect();
        let directory = self.directory_of(&ObjectMeta { key: key.clone(), bytes: file.bytes, modified: 0 }).await?;
        let entry = |name: &str| {
            let found = directory.sections.iter().find(|s| s.name == name);
            found.ok_or_else(|| damaged(&key, format!("section `{name}` is missing")))
        };
        let [offsets, texts] = section::DOCUMENT_IDS;
        let (offsets, texts) = (entry(offsets)?, entry(texts)?);
        let mut offsets = Section::new(&key, offsets, |at, bytes| self.objects.get_range(&key, at, bytes));
        let mut texts = Section::new(&key, texts, |at, bytes| self.objects.get_range(&key, at, bytes));
        let mut from = offsets.take(OFFSET).await?.get_u64_le();
        let mut found = false;
        while !offsets.is_at_end() {
            let to = offsets.take(OFFSET).await?.get_u64_le();
            let length = to.checked_sub(from).and_then(|length| usize::try_from(length).ok());
            let length = length.ok_or_else(|| damaged(&key, "offsets of the document ids do not increase"))?;
            found |= wanted.contains(&*texts.take(length).await?);
            from = to;
        }
        offsets.check()?;
        texts.check()?;
        Ok(found)
    }
}

/// Reads a section of a snapshot from its beginning to its end, piece by piece.
struct Section<'s, R> {
    key: &'s str,
    entry: &'s SectionEntry,
    /// Reads a range of the file: offset and length in bytes.
    read: R,
    /// Number of bytes that were read.
    done: u64,
    crc: crc32fast::Hasher,
    /// Bytes that were read but not yet taken.
    rest: Bytes,
}

impl<'s, R, F> Section<'s, R>
where
    R: Fn(u64, u64) -> F,
    F: Future<Output = Result<Bytes, docweir_objects::ObjectError>>,
{
    fn new(key: &'s str, entry: &'s SectionEntry, read: R) -> Self {
        Self { key, entry, read, done: 0, crc: crc32fast::Hasher::new(), rest: Bytes::new() }
    }

    fn is_at_end(&self) -> bool {
        self.rest.is_empty() && self.done >= self.entry.bytes
    }

    /// Returns the next `length` bytes.
    async fn take(&mut self, length: usize) -> Result<Bytes, VectorError> {
        let truncated = || damaged(self.key, format!("section `{}` is truncated", self.entry.name));
        if length as u64 > self.rest.len() as u64 + (self.entry.bytes - self.done) {
            return Err(truncated());
        }
        while self.rest.len() < length {
            let piece = PIECE.min(self.entry.bytes - self.done);
            let read = (self.read)(self.entry.offset.saturating_add(self.done), piece).await?;
            if read.is_empty() {
                return Err(truncated());
            }
            self.done += read.len() as u64;
            self.crc.update(&read);
            self.rest = match self.rest.is_empty() {
                true => read,
                false => [&*self.rest, &*read].concat().into(),
            };
        }
        Ok(self.rest.split_to(length))
    }

    /// Compares the whole section with its checksum.
    fn check(self) -> Result<(), VectorError> {
        match self.is_at_end() && self.crc.finalize() == self.entry.crc32 {
            true => Ok(()),
            false => Err(damaged(self.key, format!("section `{}` does not match its checksum", self.entry.name))),
        }
    }
}
