//! Provides the content of an opened vector file, which is a delta or a snapshot. Caches values that searches derive
//! from the content.

use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arrow_buffer::Buffer;
use bytes::Bytes;
use docweir_codes::Codec;
use docweir_core::model::{ModelIdentity, PageBox, Span, embedded_text};

use super::columns::DocumentEntry;
use super::columns::{Documents, Rows, number};
use super::delta;
use super::error::VectorError;
use super::manifest::{FileKind, LiveFile, ManifestVersion};
use super::options::Stemming;
use super::search::bits::Bits;
use super::search::facet::Facet;
use super::search::filter::Filter;
use super::search::postings::Postings;
use super::search::stems;
use super::snapshot::Snapshot;
use docweir_target::{Row, RowMetadata};

/// Maximum number of metadata paths in a segment's cache. The cache holds the values of all rows at each path. When
/// the maximum is reached, the cache is cleared.
const CACHED_PATHS: usize = 16;
/// Maximum number of filters in a segment's cache. The cache holds the result of each filter, which takes one bit per
/// row.
const KEPT_FILTERS: usize = 16;

pub struct Segment {
    file: Arc<str>,
    kind: FileKind,
    base_version: ManifestVersion,
    model: ModelIdentity,
    documents: Documents,
    rows: Rows,
    dimension: usize,
    codes: OnceLock<Buffer>,
    /// Postings stored in the file, and the stemming that was used to build them.
    stored_postings: Option<(Stemming, Postings)>,
    postings: OnceLock<Postings>,
    facets: Mutex<HashMap<String, Arc<Facet>>>,
    /// Cached results of filters. An entry holds a filter as text and the rows that match the filter. The most
    /// recently used entry is last.
    filtered: Mutex<Vec<(String, Arc<Bits>)>>,
    /// Heap memory of the file's content, in bytes; 0 if the file is memory-mapped.
    bytes: usize,
}

impl Segment {
    /// Decodes a delta. `file` is the delta's name and `crc32` is its checksum, both from the manifest.
    pub fn of_delta(file: &str, body: Bytes, crc32: Option<u32>) -> Result<Self, VectorError> {
        let (footer, rows) = delta::decode(file, body, crc32)?;
        let documents = Documents::of_entries(&footer.documents);
        let bytes = rows.memory_bytes() + documents.memory_bytes();
        Ok(Self {
            file: file.into(),
            kind: FileKind::Delta,
            base_version: footer.header.base_version,
            dimension: footer.header.model.dimension as usize,
            model: footer.header.model,
            documents,
            rows,
            codes: OnceLock::new(),
            stored_postings: None,
            postings: OnceLock::new(),
            facets: Mutex::default(),
            filtered: Mutex::default(),
            bytes,
        })
    }

    pub fn of_snapshot(file: &str, snapshot: Snapshot) -> Self {
        let bytes = if snapshot.mapped { 0 } else { snapshot.rows.memory_bytes() + snapshot.documents.memory_bytes() };
        Self {
            file: file.into(),
            kind: FileKind::Snapshot,
            base_version: snapshot.header.origin.base_version,
            dimension: snapshot.header.origin.model.dimension as usize,
            model: snapshot.header.origin.model,
            documents: snapshot.documents,
            rows: snapshot.rows,
            codes: snapshot.codes,
            stored_postings: snapshot.postings,
            postings: OnceLock::new(),
            facets: Mutex::default(),
            filtered: Mutex::default(),
            bytes,
        }
    }

    pub fn file(&self) -> &str {
        &self.file
    }

    pub fn kind(&self) -> FileKind {
        self.kind
    }

    /// Returns the base version: the manifest version that the commit or merge had read before it wrote the file.
    pub fn base_version(&self) -> ManifestVersion {
        self.base_version
    }

    /// Returns the model of the vectors.
    pub fn model(&self) -> &ModelIdentity {
        &self.model
    }

    /// Returns the documents of the file, including tombstones.
    pub fn documents(&self) -> &Documents {
        &self.documents
    }

    pub fn columns(&self) -> &Rows {
        &self.rows
    }

    pub fn entries(&self) -> impl Iterator<Item = DocumentEntry> + '_ {
        (0..self.documents.len()).filter_map(|at| self.documents.entry(at))
    }

    /// Returns the number of rows.
    pub fn len(&self) -> usize {
        self.rows.chunk_ids.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// Returns all vectors, one after the other.
    pub fn vectors(&self) -> &[f32] {
        &self.rows.vectors
    }

    pub fn vector(&self, row: usize) -> &[f32] {
        self.vectors().get(row * self.dimension..(row + 1) * self.dimension).unwrap_or_default()
    }

    pub fn chunk_id(&self, row: usize) -> &str {
        self.rows.chunk_ids.get(row)
    }

    pub fn text(&self, row: usize) -> &str {
        self.rows.texts.get(row)
    }

    /// Returns the first and last page of a row.
    pub fn pages(&self, row: usize) -> (u32, u32) {
        (number(&self.rows.page_first, row), number(&self.rows.page_last, row))
    }

    pub fn heading_path(&self, row: usize) -> Vec<String> {
        match self.rows.headings.get(row) {
            "" => Vec::new(),
            list => serde_json::from_str(list).unwrap_or_default(),
        }
    }

    fn boxes(&self, row: usize) -> Vec<PageBox> {
        let range = number(&self.rows.box_starts, row)..number(&self.rows.box_starts, row + 1);
        // The end of a damaged list may be out of range.
        let most = self.rows.box_pages.len() as u64;
        (range.start..range.end.min(most))
            .map(|b| b as usize)
            .map(|b| PageBox {
                page: number(&self.rows.box_pages, b),
                bbox: std::array::from_fn(|side| number(&self.rows.box_sides, 4 * b + side)),
            })
            .collect()
    }

    /// Returns a copy of the whole row.
    pub fn row(&self, row: usize) -> Option<Row> {
        let span = |field: usize| number(&self.rows.spans, 4 * row + field);
        let language = self.rows.languages.get(row);
        (row < self.len()).then(|| Row {
            chunk_id: self.chunk_id(row).to_owned(),
            ordinal: number(&self.rows.ordinals, row),
            kind: self.rows.kinds.get(row).to_owned(),
            text: self.text(row).to_owned(),
            heading_path: self.heading_path(row),
            pages: self.pages(row),
            span: Span { start: span(0), end: span(1), start_byte: span(2), end_byte: span(3) },
            boxes: self.boxes(row),
            tokens: number(&self.rows.tokens, row),
            language: (!language.is_empty()).then(|| language.to_owned()),
            metadata: RowMetadata::from_text(self.rows.metadata.get(row)).unwrap_or_default(),
            vector: self.vector(row).to_vec(),
        })
    }

    /// Returns the postings for the given stemming. If the file does not store postings for this stemming, builds
    /// them on first use.
    pub fn postings(&self, stemming: Stemming) -> &Postings {
        if let Some((stored, postings)) = &self.stored_postings
            && *stored == stemming
        {
            return postings;
        }
        self.postings.get_or_init(|| self.index_rows(stemming))
    }

    /// Builds the postings from the texts of the rows.
    pub(crate) fn index_rows(&self, stemming: Stemming) -> Postings {
        // Few languages occur, so their rules are looked up once.
        let languages = &self.rows.languages;
        let rules: Vec<_> = languages.values().map(|language| stems::rules(language, stemming)).collect();
        let rules = |row| rules.get(languages.code(row)).copied().flatten();
        Postings::build((0..self.len()).map(|row| (self.indexed_text(row), rules(row))))
    }

    /// Returns the vector codes. If the file does not store codes, computes them on first use.
    pub fn codes(&self, codec: &Codec) -> &[u8] {
        self.codes.get_or_init(|| {
            let mut blocks = codec.writer();
            for vector in self.vectors().chunks_exact(self.dimension.max(1)) {
                // A vector that cannot be encoded (in a damaged file) still needs a code, so that row numbers stay
                // correct.
                if blocks.push(vector).is_err() {
                    let _ = blocks.push(&vec![0.0; self.dimension]);
                }
            }
            Buffer::from_vec(blocks.finish())
        })
    }

    /// Returns the headings and the text of a row as one text. The row's vector was computed from this text.
    pub fn indexed_text(&self, row: usize) -> Cow<'_, str> {
        let path = self.heading_path(row);
        match path.is_empty() {
            true => Cow::Borrowed(self.text(row)),
            false => Cow::Owned(embedded_text(&path, self.text(row))),
        }
    }

    /// Returns the values at a metadata path, for all rows. If a row has no value at this path, it inherits the value
    /// of its document.
    pub fn facet(&self, path: &str) -> Arc<Facet> {
        let held = |facets: &HashMap<String, Arc<Facet>>| facets.get(path).cloned();
        if let Some(facet) = held(&self.facets.lock().unwrap_or_else(PoisonError::into_inner)) {
            return facet;
        }
        let facet = Arc::new(Facet::of_metadata(&self.documents, &self.rows, path));
        let mut facets = self.facets.lock().unwrap_or_else(PoisonError::into_inner);
        if facets.len() >= CACHED_PATHS {
            facets.clear();
        }
        facets.insert(path.to_owned(), facet.clone());
        facet
    }

    /// Returns the rows that match a filter, whether visible or not. `name` is the filter as text. The result is
    /// cached, because a file never changes and searches often use the same filters, for example for a tenant or a
    /// folder.
    pub fn filtered(&self, name: &str, filter: &Filter) -> Arc<Bits> {
        let kept = || self.filtered.lock().unwrap_or_else(PoisonError::into_inner);
        {
            let mut kept = kept();
            if let Some(at) = kept.iter().position(|(known, _)| known == name) {
                let found = kept.remove(at);
                let rows = found.1.clone();
                kept.push(found);
                return rows;
            }
        }
        let mut rows = Bits::all(self.len());
        filter.restrict(self, &mut rows);
        let rows = Arc::new(rows);
        let mut kept = kept();
        if kept.len() >= KEPT_FILTERS {
            kept.remove(0);
        }
        kept.push((name.to_owned(), rows.clone()));
        rows
    }

    /// Returns the heap memory of the segment in bytes. Includes everything that was derived from the file since it
    /// was opened.
    pub fn memory_bytes(&self) -> usize {
        let facets = self.facets.lock().unwrap_or_else(PoisonError::into_inner);
        let facets: usize = facets.values().map(|f| f.memory_bytes()).sum();
        let filtered = self.filtered.lock().unwrap_or_else(PoisonError::into_inner).len() * self.len() / 8;
        self.bytes + self.postings.get().map_or(0, Postings::memory_bytes) + facets + filtered
    }
}

/// Returns whether an opened file agrees with its entry in the manifest.
pub fn matches(segment: &Segment, live: &LiveFile) -> bool {
    segment.kind == live.kind && segment.base_version == live.base_version && segment.len() as u64 == live.rows
}
