//! Opens a snapshot, either from a memory-mapped file or from bytes in memory.

use std::collections::HashMap;
use std::fs::File;
use std::sync::OnceLock;

use arrow_buffer::Buffer;
use bytes::Bytes;
use memmap2::Mmap;

use super::{Directory, FORMAT, MAGIC, SnapshotHeader, TRAILER_BYTES, section};
use crate::columns::{Documents, Labels, Rows, Strings, StringsBuilder, numbers};
use crate::error::VectorError;
use crate::options::Stemming;
use crate::search::postings::Postings;
use crate::search::tokens;

/// Holds the columns of an opened snapshot.
pub struct Snapshot {
    pub header: SnapshotHeader,
    pub documents: Documents,
    pub rows: Rows,
    /// Codes of the vectors; not set if the stored codes have another version and must be computed again.
    pub codes: OnceLock<Buffer>,
    /// Postings with their stemming; `None` if the stored postings have another version and must be built again.
    pub postings: Option<(Stemming, Postings)>,
    pub mapped: bool,
}

/// Maps a file into memory.
pub fn image_of(file: &File) -> std::io::Result<Bytes> {
    // SAFETY: the file is an object of the store. It is written under another name and never changes under this one.
    // Deleting the file does not affect the mapping. Truncating it from outside the store would crash the process.
    let map = unsafe { Mmap::map(file) }?;
    Ok(Bytes::from_owner(map))
}

/// Reads the directory from `end`, which holds the last bytes of a file. If `end` is too short, returns
/// `Ok(Err(bytes))`, where `bytes` is the required length.
pub fn directory(file: &str, end: &[u8]) -> Result<Result<Directory, u64>, VectorError> {
    let damaged = |reason: &str| VectorError::Damaged { file: file.to_owned(), reason: reason.to_owned() };
    let Some((rest, trailer)) = end.split_at_checked(end.len().saturating_sub(TRAILER_BYTES)) else {
        return Err(damaged("file is empty"));
    };
    let word = |at: usize| trailer.get(at..at + 8).and_then(|b| b.try_into().ok()).map(u64::from_le_bytes);
    let (Some(length), Some(crc), Some(true)) = (word(0), word(8), trailer.get(16..).map(|m| m == MAGIC)) else {
        return Err(damaged("file does not end like a snapshot; it is truncated or of another type"));
    };
    let Some(start) = usize::try_from(length).ok().and_then(|l| rest.len().checked_sub(l)) else {
        return Ok(Err(length.saturating_add(TRAILER_BYTES as u64)));
    };
    let text = rest.get(start..).unwrap_or_default();
    if u64::from(crc32fast::hash(text)) != crc {
        return Err(damaged("directory does not match its checksum"));
    }
    #[derive(serde::Deserialize)]
    struct Format {
        format: u32,
    }
    let bad = |e: serde_json::Error| damaged(&e.to_string());
    let Format { format } = serde_json::from_slice(text).map_err(bad)?;
    if format > FORMAT {
        return Err(VectorError::TooNew { key: file.to_owned(), found: format, known: FORMAT });
    }
    Ok(Ok(serde_json::from_slice(text).map_err(bad)?))
}

impl Snapshot {
    /// Opens a whole snapshot. If `verify` is true, compares every section with its checksum.
    pub fn open(file: &str, image: Bytes, mapped: bool, verify: bool) -> Result<Self, VectorError> {
        let damaged = |reason: String| VectorError::Damaged { file: file.to_owned(), reason };
        let directory =
            directory(file, &image)?.map_err(|_| damaged("directory claims to be longer than the file".into()))?;
        let image = Buffer::from(image);
        let mut sections = HashMap::with_capacity(directory.sections.len());
        for entry in &directory.sections {
            let place = usize::try_from(entry.offset).ok().zip(usize::try_from(entry.bytes).ok());
            let place = place.filter(|(at, bytes)| at.checked_add(*bytes).is_some_and(|end| end <= image.len()));
            let (at, bytes) = place.ok_or_else(|| damaged(format!("section `{}` is truncated", entry.name)))?;
            let section = image.slice_with_length(at, bytes);
            if verify && crc32fast::hash(&section) != entry.crc32 {
                return Err(damaged(format!("section `{}` does not match its checksum", entry.name)));
            }
            sections.insert(entry.name.as_str(), section);
        }
        let sections = Sections { file, sections };
        let header = directory.header;
        let documents = sections.documents()?;
        let rows = sections.rows()?;
        let (n, d) = (header.rows, u64::from(header.origin.model.dimension));
        let listed = documents.starts.last().copied().map(u64::from);
        if rows.chunk_ids.len() as u64 != n || rows.vectors.len() as u64 != n * d || listed != Some(n) {
            return Err(damaged(format!("columns do not have the {n} rows that the directory lists")));
        }
        let postings = match header.tokens_version == tokens::VERSION {
            true => Some((header.stemming, sections.postings()?)),
            false => None,
        };
        let codes = OnceLock::new();
        if header.codes_version == crate::search::codes::VERSION {
            let _ = codes.set(sections.take(section::CODES)?);
        }
        Ok(Self { header, documents, rows, codes, postings, mapped })
    }
}

struct Sections<'f> {
    file: &'f str,
    sections: HashMap<&'f str, Buffer>,
}

impl Sections<'_> {
    fn take(&self, name: &str) -> Result<Buffer, VectorError> {
        self.sections.get(name).cloned().ok_or_else(|| VectorError::Damaged {
            file: self.file.to_owned(),
            reason: format!("section `{name}` is missing"),
        })
    }

    fn numbers<T: arrow_buffer::ArrowNativeType>(
        &self,
        name: &str,
    ) -> Result<arrow_buffer::ScalarBuffer<T>, VectorError> {
        Ok(numbers(&self.take(name)?))
    }

    fn strings(&self, [offsets, bytes]: [&str; 2]) -> Result<Strings, VectorError> {
        Ok(Strings::new(self.numbers(offsets)?, self.take(bytes)?))
    }

    /// Reads an optional column of texts; returns an empty column if the file does not have the column.
    fn strings_if_any(&self, names: [&str; 2]) -> Result<Strings, VectorError> {
        match names.iter().any(|name| self.sections.contains_key(name)) {
            true => self.strings(names),
            false => Ok(StringsBuilder::default().finish()),
        }
    }

    fn labels(&self, [codes, offsets, bytes]: [&str; 3]) -> Result<Labels, VectorError> {
        Ok(Labels { codes: self.numbers(codes)?, values: self.strings([offsets, bytes])? })
    }

    fn documents(&self) -> Result<Documents, VectorError> {
        Ok(Documents {
            ids: self.strings(section::DOCUMENT_IDS)?,
            versions: self.numbers(section::DOCUMENT_VERSIONS)?,
            starts: self.numbers(section::DOCUMENT_STARTS)?,
            tombstones: self.take(section::DOCUMENT_TOMBSTONES)?,
            tombstones_added: match self.sections.contains_key(section::TOMBSTONES_ADDED) {
                true => self.numbers(section::TOMBSTONES_ADDED)?,
                false => Vec::new().into(),
            },
            sources: self.strings(section::DOCUMENT_SOURCES)?,
            parents: self.strings_if_any(section::DOCUMENT_PARENTS)?,
            facts: self.strings(section::DOCUMENT_FACTS)?,
            by_id: None,
        })
    }

    fn rows(&self) -> Result<Rows, VectorError> {
        Ok(Rows {
            chunk_ids: self.strings(section::CHUNK_IDS)?,
            texts: self.strings(section::TEXTS)?,
            kinds: self.labels(section::KINDS)?,
            languages: self.labels(section::LANGUAGES)?,
            headings: self.labels(section::HEADINGS)?,
            ordinals: self.numbers(section::ORDINALS)?,
            page_first: self.numbers(section::PAGE_FIRST)?,
            page_last: self.numbers(section::PAGE_LAST)?,
            tokens: self.numbers(section::TOKENS)?,
            spans: self.numbers(section::SPANS)?,
            box_starts: self.numbers(section::BOX_STARTS)?,
            box_pages: self.numbers(section::BOX_PAGES)?,
            box_sides: self.numbers(section::BOX_SIDES)?,
            metadata: self.strings(section::METADATA)?,
            vectors: self.numbers(section::VECTORS)?,
        })
    }

    fn postings(&self) -> Result<Postings, VectorError> {
        Ok(Postings {
            terms: self.strings(section::TERMS)?,
            starts: self.numbers(section::POSTING_STARTS)?,
            frequencies: self.numbers(section::POSTING_FREQUENCIES)?,
            lists: self.take(section::POSTING_LISTS)?,
            lengths: self.numbers(section::ROW_LENGTHS)?,
        })
    }
}
