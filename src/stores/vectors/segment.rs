//! An opened vector file: its rows as columns, and its full-text index once somebody searches by text.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, UInt32Type, UInt64Type};
use arrow_array::{Array, ListArray, PrimitiveArray, RecordBatch, StringArray};
use bytes::Bytes;
use serde_json::{Map, Value};

use super::delta::{self, DeltaHeader, DocumentEntry};
use super::error::VectorError;
use super::options::Stemming;
use super::rows::Row;
use super::search::bm25::Postings;
use super::search::filter::{Scalar, scalars_at};
use crate::stages::model::{PageBox, Span, embedded_text};

/// Metadata paths whose values are kept decoded, a segment; a path beyond starts the cache anew.
const CACHED_PATHS: usize = 8;

type Strings = StringArray;
type U32s = PrimitiveArray<UInt32Type>;
type U64s = PrimitiveArray<UInt64Type>;

/// The values at one metadata path, a list a row.
pub type MetadataColumn = Arc<Vec<Box<[Scalar]>>>;

pub struct Segment {
    file: Arc<str>,
    header: DeltaHeader,
    documents: Vec<DocumentEntry>,
    /// First row of each document, and one past the last of all.
    starts: Vec<u32>,
    dimension: usize,
    vectors: PrimitiveArray<Float32Type>,
    chunk_ids: Strings,
    kinds: Strings,
    texts: Strings,
    languages: Strings,
    metadata: Strings,
    headings: ListArray,
    boxes: ListArray,
    ordinals: U32s,
    page_first: U32s,
    page_last: U32s,
    tokens: U32s,
    spans: [U64s; 4],
    postings: OnceLock<(Stemming, Postings)>,
    columns: Mutex<HashMap<String, MetadataColumn>>,
    bytes: usize,
}

impl Segment {
    /// Decodes a file. `file` is its name in the manifest, `crc32` its checksum there.
    pub fn open(file: &str, body: Bytes, crc32: Option<u32>) -> Result<Self, VectorError> {
        let (footer, batch) = delta::decode(file, body, crc32)?;
        let missing = |name: &str| VectorError::Damaged {
            file: file.to_owned(),
            reason: format!("its column `{name}` is missing or of another type"),
        };
        let column = |name: &str| batch.column_by_name(name).ok_or_else(|| missing(name));
        let text = |name: &str| column(name)?.as_string_opt::<i32>().cloned().ok_or_else(|| missing(name));
        let u32s = |name: &str| column(name)?.as_primitive_opt::<UInt32Type>().cloned().ok_or_else(|| missing(name));
        let u64s = |name: &str| column(name)?.as_primitive_opt::<UInt64Type>().cloned().ok_or_else(|| missing(name));
        let list = |name: &str| column(name)?.as_list_opt::<i32>().cloned().ok_or_else(|| missing(name));
        let vectors = column("vector")?.as_fixed_size_list_opt().ok_or_else(|| missing("vector"))?;
        let dimension = usize::try_from(vectors.value_length()).map_err(|_| missing("vector"))?;
        let numbers = vectors.values().as_primitive_opt::<Float32Type>().cloned().ok_or_else(|| missing("vector"))?;
        if numbers.null_count() > 0 || numbers.len() != dimension * batch.num_rows() {
            return Err(missing("vector"));
        }
        let mut starts = Vec::with_capacity(footer.documents.len() + 1);
        let mut next = 0;
        for d in &footer.documents {
            starts.push(next);
            next += d.rows;
        }
        starts.push(next);
        Ok(Self {
            file: file.into(),
            dimension,
            vectors: numbers,
            chunk_ids: text("chunk_id")?,
            kinds: text("kind")?,
            texts: text("text")?,
            languages: text("language")?,
            metadata: text("metadata")?,
            headings: list("heading_path")?,
            boxes: list("boxes")?,
            ordinals: u32s("ordinal")?,
            page_first: u32s("page_first")?,
            page_last: u32s("page_last")?,
            tokens: u32s("tokens")?,
            spans: [u64s("span_start")?, u64s("span_end")?, u64s("span_start_byte")?, u64s("span_end_byte")?],
            postings: OnceLock::new(),
            columns: Mutex::default(),
            bytes: memory(&batch, &footer.documents),
            header: footer.header,
            documents: footer.documents,
            starts,
        })
    }

    pub fn file(&self) -> &str {
        &self.file
    }

    pub fn header(&self) -> &DeltaHeader {
        &self.header
    }

    /// In the order of their rows.
    pub fn documents(&self) -> &[DocumentEntry] {
        &self.documents
    }

    /// The rows of a document, by its place in [`Segment::documents`].
    pub fn rows_of(&self, document: usize) -> std::ops::Range<usize> {
        match (self.starts.get(document), self.starts.get(document + 1)) {
            (Some(&from), Some(&to)) => from as usize..to as usize,
            _ => 0..0,
        }
    }

    /// The document that a row belongs to, by its place.
    pub fn document_of(&self, row: usize) -> Option<&DocumentEntry> {
        let after = self.starts.partition_point(|&s| s as usize <= row);
        // Documents without rows share their start with the next one: the last of them has the row.
        self.documents.get(after.checked_sub(1)?)
    }

    /// Number of rows.
    pub fn len(&self) -> usize {
        self.chunk_ids.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// All vectors, one after the other.
    pub fn vectors(&self) -> &[f32] {
        self.vectors.values()
    }

    pub fn vector(&self, row: usize) -> &[f32] {
        self.vectors().get(row * self.dimension..(row + 1) * self.dimension).unwrap_or_default()
    }

    pub fn chunk_id(&self, row: usize) -> &str {
        at(&self.chunk_ids, row)
    }

    pub fn text(&self, row: usize) -> &str {
        at(&self.texts, row)
    }

    pub fn kind(&self, row: usize) -> &str {
        at(&self.kinds, row)
    }

    pub fn language(&self, row: usize) -> Option<&str> {
        (row < self.languages.len() && self.languages.is_valid(row)).then(|| self.languages.value(row))
    }

    /// First and last page.
    pub fn pages(&self, row: usize) -> (u32, u32) {
        (number(&self.page_first, row), number(&self.page_last, row))
    }

    pub fn heading_path(&self, row: usize) -> Vec<String> {
        if row >= self.headings.len() {
            return Vec::new();
        }
        let items = self.headings.value(row);
        let items = items.as_string_opt::<i32>();
        items.map(|a| a.iter().flatten().map(str::to_owned).collect()).unwrap_or_default()
    }

    fn boxes(&self, row: usize) -> Vec<PageBox> {
        if row >= self.boxes.len() {
            return Vec::new();
        }
        let items = self.boxes.value(row);
        let Some(fields) = items.as_struct_opt() else { return Vec::new() };
        let Some(pages) = fields.columns().first().and_then(|c| c.as_primitive_opt::<UInt32Type>()) else {
            return Vec::new();
        };
        let side = |i: usize, b: usize| {
            let column = fields.columns().get(i + 1).and_then(|c| c.as_primitive_opt::<Float32Type>());
            column.map_or(0.0, |c| c.value(b))
        };
        let one = |b| PageBox { page: pages.value(b), bbox: std::array::from_fn(|i| side(i, b)) };
        (0..fields.len()).map(one).collect()
    }

    fn metadata(&self, row: usize) -> Map<String, Value> {
        match at(&self.metadata, row) {
            "" | "{}" => Map::new(),
            text => serde_json::from_str(text).unwrap_or_default(),
        }
    }

    /// The whole row, copied out.
    pub fn row(&self, row: usize) -> Option<Row> {
        let [start, end, start_byte, end_byte] = &self.spans;
        (row < self.len()).then(|| Row {
            chunk_id: self.chunk_id(row).to_owned(),
            ordinal: number(&self.ordinals, row),
            kind: self.kind(row).to_owned(),
            text: self.text(row).to_owned(),
            heading_path: self.heading_path(row),
            pages: self.pages(row),
            span: Span {
                start: start.value(row),
                end: end.value(row),
                start_byte: start_byte.value(row),
                end_byte: end_byte.value(row),
            },
            boxes: self.boxes(row),
            tokens: number(&self.tokens, row),
            language: self.language(row).map(str::to_owned),
            metadata: self.metadata(row),
            vector: self.vector(row).to_vec(),
        })
    }

    /// Built by the first search that needs it: headings and text together, as they were embedded.
    pub fn postings(&self, stemming: Stemming) -> &Postings {
        let (_, postings) = self.postings.get_or_init(|| {
            let texts = (0..self.len()).map(|row| {
                let path = self.heading_path(row);
                match path.is_empty() {
                    true => std::borrow::Cow::Borrowed(self.text(row)),
                    false => std::borrow::Cow::Owned(embedded_text(&path, self.text(row))),
                }
            });
            (stemming, Postings::build(texts, stemming))
        });
        postings
    }

    /// The values at a metadata path, of each row; the document's own where the row has none.
    pub fn metadata_column(&self, path: &str) -> MetadataColumn {
        let held = |columns: &HashMap<String, MetadataColumn>| columns.get(path).cloned();
        if let Some(column) = held(&self.columns.lock().unwrap_or_else(PoisonError::into_inner)) {
            return column;
        }
        let mut column = Vec::with_capacity(self.len());
        for (i, document) in self.documents.iter().enumerate() {
            let own = scalars_at(&document.metadata, path);
            for row in self.rows_of(i) {
                let values = scalars_at(&self.metadata(row), path);
                column.push(if values.is_empty() { own.clone().into() } else { values.into_boxed_slice() });
            }
        }
        let column = Arc::new(column);
        let mut columns = self.columns.lock().unwrap_or_else(PoisonError::into_inner);
        if columns.len() >= CACHED_PATHS {
            columns.clear();
        }
        columns.insert(path.to_owned(), column.clone());
        column
    }

    /// Bytes of memory, the full-text index included where it has been built.
    pub fn memory_bytes(&self) -> usize {
        self.bytes + self.postings.get().map_or(0, |(_, p)| p.memory_bytes())
    }
}

fn at(column: &Strings, row: usize) -> &str {
    if row < column.len() { column.value(row) } else { "" }
}

fn number(column: &U32s, row: usize) -> u32 {
    if row < column.len() { column.value(row) } else { 0 }
}

fn memory(batch: &RecordBatch, documents: &[DocumentEntry]) -> usize {
    let entries: usize =
        documents.iter().map(|d| size_of::<DocumentEntry>() + d.id.as_str().len() + d.source.len()).sum();
    batch.get_array_memory_size() + entries
}
