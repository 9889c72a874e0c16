//! Holds the content of an opened vector file in two sets of columns, one for documents and one for rows. The columns
//! are the same for both file formats.
//!
//! A snapshot is memory-mapped, and its sections serve directly as columns, so opening it costs nothing. The columns
//! of a delta are decoded from its Parquet table. Search, merge and verification therefore work on the same
//! representation. Every access is checked: a damaged file yields empty values, never a panic.

use arrow_buffer::{ArrowNativeType, Buffer, ScalarBuffer};
use docweir_core::documents::{DocumentId, Version};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Describes one document version in a file.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DocumentEntry {
    pub id: DocumentId,
    pub version: Version,
    #[serde(default, skip_serializing_if = "is_zero")]
    pub rows: u32,
    #[serde(default, skip_serializing_if = "is_false")]
    pub tombstone: bool,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub source: String,
    /// Document that contains this document. Older programs ignore this field, so the field did not need a new format
    /// number. If an older program merges a file, the merged file lacks the parents, but the control store still has
    /// them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parent: Option<DocumentId>,
    #[serde(default, skip_serializing_if = "Map::is_empty")]
    pub metadata: Map<String, Value>,
}

fn is_zero(n: &u32) -> bool {
    *n == 0
}

fn is_false(b: &bool) -> bool {
    !*b
}

pub type U32s = ScalarBuffer<u32>;
pub type U64s = ScalarBuffer<u64>;
pub type F32s = ScalarBuffer<f32>;

/// Returns the content of `buffer` as numbers. Copies the buffer if it is not aligned. A memory-mapped buffer is
/// always aligned.
pub fn numbers<T: ArrowNativeType>(buffer: &Buffer) -> ScalarBuffer<T> {
    let whole = buffer.len() / size_of::<T>() * size_of::<T>();
    let aligned = buffer.as_ptr().align_offset(align_of::<T>()) == 0;
    let buffer = if aligned { buffer.slice_with_length(0, whole) } else { Buffer::from(buffer.as_slice()) };
    ScalarBuffer::new(buffer, 0, whole / size_of::<T>())
}

pub fn number<T: ArrowNativeType>(column: &ScalarBuffer<T>, at: usize) -> T {
    column.get(at).copied().unwrap_or_default()
}

/// Holds many texts, one after the other in one buffer.
#[derive(Clone, Debug)]
pub struct Strings {
    /// Start offset of each text, and the end offset of the last text.
    offsets: U64s,
    bytes: Buffer,
}

impl Strings {
    pub fn new(offsets: U64s, bytes: Buffer) -> Self {
        Self { offsets, bytes }
    }

    pub fn len(&self) -> usize {
        self.offsets.len().saturating_sub(1)
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn get(&self, at: usize) -> &str {
        std::str::from_utf8(self.raw(at)).unwrap_or_default()
    }

    pub fn raw(&self, at: usize) -> &[u8] {
        let range = self.offsets.get(at).zip(self.offsets.get(at + 1));
        let range =
            range.and_then(|(&from, &to)| self.bytes.get(usize::try_from(from).ok()?..usize::try_from(to).ok()?));
        range.unwrap_or_default()
    }

    pub fn memory_bytes(&self) -> usize {
        self.offsets.len() * 8 + self.bytes.len()
    }
}

/// Builds [`Strings`] in memory.
pub struct StringsBuilder {
    offsets: Vec<u64>,
    bytes: Vec<u8>,
}

impl Default for StringsBuilder {
    fn default() -> Self {
        Self { offsets: vec![0], bytes: Vec::new() }
    }
}

impl StringsBuilder {
    pub fn push(&mut self, text: &str) {
        self.bytes.extend_from_slice(text.as_bytes());
        self.offsets.push(self.bytes.len() as u64);
    }

    /// Returns the number of texts that were added.
    pub fn count(&self) -> usize {
        self.offsets.len() - 1
    }

    pub fn finish(self) -> Strings {
        Strings { offsets: self.offsets.into(), bytes: Buffer::from_vec(self.bytes) }
    }
}

/// Holds a column with one text per row and few distinct texts. The distinct texts are stored in a list, and each row
/// holds the index of its text in this list.
#[derive(Clone, Debug)]
pub struct Labels {
    pub codes: U32s,
    pub values: Strings,
}

impl Labels {
    pub fn get(&self, at: usize) -> &str {
        self.codes.get(at).map_or("", |&code| self.values.get(code as usize))
    }

    /// Returns the distinct texts, in the order of their codes.
    pub fn values(&self) -> impl Iterator<Item = &str> {
        (0..self.values.len()).map(|at| self.values.get(at))
    }

    /// Returns the code of a row, which is the index of its text among the distinct texts.
    pub fn code(&self, at: usize) -> usize {
        self.codes.get(at).map_or(usize::MAX, |&code| code as usize)
    }

    pub fn memory_bytes(&self) -> usize {
        self.codes.len() * 4 + self.values.memory_bytes()
    }
}

/// Holds the documents of a file, including tombstones.
pub struct Documents {
    pub ids: Strings,
    pub versions: U64s,
    /// Index of each document's first row. One further entry holds the total number of rows.
    pub starts: U32s,
    /// Tombstone flag of each document, as one byte: 1 for a tombstone, 0 otherwise.
    pub tombstones: Buffer,
    /// Manifest version in which each tombstone became live; 0 for documents that are no tombstones. The whole column
    /// is empty if the file does not record these versions. All tombstones of the file are then as old as the file.
    pub tombstones_added: U64s,
    pub sources: Strings,
    /// Id of each document's parent; an empty text if the document has no parent. The whole column is empty if no
    /// document in the file has a parent.
    pub parents: Strings,
    /// Metadata of each document as a JSON object; an empty text if the document has no metadata.
    pub facts: Strings,
    /// Document indexes, sorted by document id. `None` if the file already stores the documents in this order.
    pub by_id: Option<Vec<u32>>,
}

impl Documents {
    pub fn of_entries(entries: &[DocumentEntry]) -> Self {
        let (mut ids, mut sources, mut facts) =
            (StringsBuilder::default(), StringsBuilder::default(), StringsBuilder::default());
        let mut parents = StringsBuilder::default();
        let have_parents = entries.iter().any(|entry| entry.parent.is_some());
        let (mut starts, mut next) = (Vec::with_capacity(entries.len() + 1), 0);
        for entry in entries {
            ids.push(entry.id.as_str());
            sources.push(&entry.source);
            if have_parents {
                parents.push(entry.parent.as_ref().map_or("", DocumentId::as_str));
            }
            facts.push(&if entry.metadata.is_empty() {
                String::new()
            } else {
                serde_json::to_string(&entry.metadata).unwrap_or_default()
            });
            starts.push(next);
            next += entry.rows;
        }
        starts.push(next);
        let sorted = entries.is_sorted_by(|a, b| a.id < b.id);
        let by_id = (!sorted).then(|| {
            let mut places: Vec<u32> = (0..entries.len() as u32).collect();
            places
                .sort_by(|&a, &b| entries.get(a as usize).map(|e| &e.id).cmp(&entries.get(b as usize).map(|e| &e.id)));
            places
        });
        Self {
            ids: ids.finish(),
            versions: entries.iter().map(|e| e.version).collect::<Vec<_>>().into(),
            starts: starts.into(),
            tombstones: Buffer::from_vec(entries.iter().map(|e| u8::from(e.tombstone)).collect::<Vec<u8>>()),
            tombstones_added: Vec::new().into(),
            sources: sources.finish(),
            parents: parents.finish(),
            facts: facts.finish(),
            by_id,
        }
    }

    pub fn len(&self) -> usize {
        self.ids.len()
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn id(&self, at: usize) -> &str {
        self.ids.get(at)
    }

    pub fn version(&self, at: usize) -> Version {
        number(&self.versions, at)
    }

    pub fn is_tombstone(&self, at: usize) -> bool {
        self.tombstones.get(at).is_some_and(|&flag| flag != 0)
    }

    pub fn rows(&self, at: usize) -> std::ops::Range<usize> {
        match (self.starts.get(at), self.starts.get(at + 1)) {
            // In a damaged file the values may be arbitrary. Limit them to the last row, which is checked on opening.
            (Some(&from), Some(&to)) => {
                let end = self.starts.last().copied().unwrap_or_default();
                let (from, to) = (from.min(end), to.min(end));
                from as usize..to.max(from) as usize
            }
            _ => 0..0,
        }
    }

    /// Returns the index of the document that contains a row.
    pub fn of_row(&self, row: usize) -> Option<usize> {
        // A document without rows has the same start as the next document. Of several documents with one start, the
        // last has the row.
        self.starts.partition_point(|&s| s as usize <= row).checked_sub(1).filter(|&at| at < self.len())
    }

    /// Returns the index of the document that contains a row, like [`Documents::of_row`]. The search begins at the
    /// document `from`, which must not come after the row. It is fast if the row is near.
    pub fn of_row_from(&self, row: usize, from: usize) -> Option<usize> {
        let later = |at: usize| self.starts.get(at).is_none_or(|&start| start as usize > row);
        let mut step = 1;
        while !later(from + step) {
            step *= 2;
        }
        let range = from + step / 2..(from + step).min(self.starts.len());
        let within = self.starts.get(range.clone())?.partition_point(|&start| start as usize <= row);
        (range.start + within).checked_sub(1).filter(|&at| at < self.len())
    }

    /// Returns the index of the document that comes `n`th when the documents are sorted by id.
    pub fn in_order(&self, n: usize) -> usize {
        self.by_id.as_ref().map_or(n, |places| places.get(n).map_or(n, |&place| place as usize))
    }

    /// Returns the index of the document with the id `id`.
    pub fn find(&self, id: &str) -> Option<usize> {
        let (mut low, mut high) = (0, self.len());
        while low < high {
            let middle = low.midpoint(high);
            let place = self.in_order(middle);
            match self.id(place).cmp(id) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Greater => high = middle,
                std::cmp::Ordering::Equal => return Some(place),
            }
        }
        None
    }

    /// Returns the entry of a document; `None` if the document's id is invalid, which happens only in a damaged file.
    pub fn entry(&self, at: usize) -> Option<DocumentEntry> {
        Some(DocumentEntry {
            id: DocumentId::parse(self.id(at))?,
            version: self.version(at),
            rows: self.rows(at).len() as u32,
            tombstone: self.is_tombstone(at),
            source: self.sources.get(at).to_owned(),
            parent: self.parent(at),
            metadata: self.metadata(at),
        })
    }

    /// Returns the id of the document's parent; `None` if the document has no parent.
    pub fn parent(&self, at: usize) -> Option<DocumentId> {
        DocumentId::parse(self.parents.get(at))
    }

    /// Returns the metadata of a document.
    pub fn metadata(&self, at: usize) -> serde_json::Map<String, serde_json::Value> {
        object(self.facts.get(at))
    }

    pub fn memory_bytes(&self) -> usize {
        let texts =
            [&self.ids, &self.sources, &self.parents, &self.facts].map(Strings::memory_bytes).iter().sum::<usize>();
        texts + self.len() * 13 + self.tombstones_added.len() * 8 + self.by_id.as_ref().map_or(0, |p| p.len() * 4)
    }
}

/// Holds the rows of a file. The rows of a document are adjacent.
#[derive(Debug)]
pub struct Rows {
    pub chunk_ids: Strings,
    pub texts: Strings,
    pub kinds: Labels,
    /// Language of each row; empty if unknown.
    pub languages: Labels,
    /// Heading path of each row as a JSON list.
    pub headings: Labels,
    pub ordinals: U32s,
    pub page_first: U32s,
    pub page_last: U32s,
    pub tokens: U32s,
    /// Position of each row's text within the document. The position consists of four numbers: `start`, `end`,
    /// `start_byte`, `end_byte`.
    pub spans: U64s,
    /// Index of each row's first box (a rectangle on a page). One further entry holds the total number of boxes.
    pub box_starts: U64s,
    pub box_pages: U32s,
    /// Coordinates of each box, as four numbers: `x0`, `y0`, `x1`, `y1`.
    pub box_sides: F32s,
    /// Metadata of each row as a JSON object; an empty text if the row has no metadata.
    pub metadata: Strings,
    /// Vectors of all rows, one after another. Each vector has as many numbers as the model has dimensions.
    pub vectors: F32s,
}

impl Rows {
    pub fn memory_bytes(&self) -> usize {
        let texts = [&self.chunk_ids, &self.texts, &self.metadata].map(Strings::memory_bytes).iter().sum::<usize>();
        let labels = [&self.kinds, &self.languages, &self.headings].map(Labels::memory_bytes).iter().sum::<usize>();
        let numbers = self.ordinals.len() * 16 + self.spans.len() * 8 + self.box_starts.len() * 8;
        texts + labels + numbers + self.box_pages.len() * 4 + (self.box_sides.len() + self.vectors.len()) * 4
    }
}

pub fn object(text: &str) -> serde_json::Map<String, serde_json::Value> {
    match text {
        "" | "{}" => serde_json::Map::new(),
        text => serde_json::from_str(text).unwrap_or_default(),
    }
}
