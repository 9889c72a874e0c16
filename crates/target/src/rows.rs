//! Defines the writes to a target: documents with their rows, and deletions.

use std::collections::HashMap;
use std::collections::HashSet;

use docweir_core::documents::{DocumentId, Version};
use docweir_core::model::{Chunk, ChunkKind, EmbeddedDocument, ModelIdentity, PageBox, Span};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use crate::{Capabilities, Limit, RowMetadata, WriteError};

/// Largest permitted deviation of a vector's length from 1.
const UNIT_TOLERANCE: f32 = 1e-3;

/// Describes one change to one document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Write {
    /// Stores this version of the document with its rows. All rows of older versions disappear in the same step.
    Upsert(DocumentRows),
    /// Deletes the document as of this version.
    Delete { document_id: DocumentId, version: Version },
}

/// Holds all rows of one document version. A document without text has no rows. Such a document exists, but no search
/// finds it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DocumentRows {
    pub document_id: DocumentId,
    pub version: Version,
    /// URI of the document's source.
    pub source: String,
    /// Document that contains this document. The parent is shown to users. It has no influence on which documents are
    /// visible.
    pub parent: Option<DocumentId>,
    /// Metadata of the whole document, usable in search filters (`media_type`, `tenant`, `title`).
    pub metadata: Map<String, Value>,
    pub rows: Vec<Row>,
}

/// Holds a chunk and its vector. The results of a search are rows.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Row {
    /// Id of the chunk, unique across all documents.
    pub chunk_id: String,
    pub ordinal: u32,
    /// Kind of the chunk: `text`, `table`, `code`, `figure`, or another kind that the collection uses.
    pub kind: String,
    pub text: String,
    pub heading_path: Vec<String>,
    /// First and last page of the chunk, counted from 1.
    pub pages: (u32, u32),
    pub span: Span,
    pub boxes: Vec<PageBox>,
    pub tokens: u32,
    /// ISO 639-3 code of the chunk's language, if known.
    pub language: Option<String>,
    /// Metadata of the chunk, usable in search filters.
    pub metadata: RowMetadata,
    /// Embedding of the text, scaled to length 1.
    pub vector: Vec<f32>,
}

impl Row {
    /// Creates a row of kind `text` from an id, a text and a vector. Scales the vector to length 1.
    ///
    /// A vector that cannot be scaled (all zeros, or not finite) stays unchanged, and a write of the row is refused.
    /// The other columns have defaults: no headings, page 1, no boxes, no language, no metadata.
    pub fn new(chunk_id: impl Into<String>, text: impl Into<String>, vector: Vec<f32>) -> Self {
        let text: String = text.into();
        let (characters, bytes) = (text.chars().count() as u64, text.len() as u64);
        Self {
            chunk_id: chunk_id.into(),
            ordinal: 0,
            kind: kind_name(ChunkKind::Text).to_owned(),
            text,
            heading_path: Vec::new(),
            pages: (1, 1),
            span: Span { start: 0, end: characters, start_byte: 0, end_byte: bytes },
            boxes: Vec::new(),
            tokens: 0,
            language: None,
            metadata: RowMetadata::default(),
            vector: to_unit_length(vector),
        }
    }

    /// Sets the language of the row, an ISO 639-3 code.
    pub fn with_language(self, language: impl Into<String>) -> Self {
        Self { language: Some(language.into()), ..self }
    }

    /// Adds one value to the metadata of the row, for use in filters.
    pub fn with_metadata(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.metadata.insert(name, value);
        self
    }

    /// Creates a row from a chunk and its vector. Each finding of enrichment becomes a metadata value with the name
    /// of the finding.
    pub fn of_chunk(chunk: &Chunk, vector: Vec<f32>, document_language: Option<&str>) -> Self {
        let language = chunk.findings.as_ref().and_then(|f| f.language.as_ref()).map(|l| l.code.clone());
        let metadata = match serde_json::to_value(&chunk.findings) {
            Ok(Value::Object(map)) => map.into(),
            _ => RowMetadata::default(),
        };
        Self {
            chunk_id: chunk.id.clone(),
            ordinal: chunk.ordinal,
            kind: kind_name(chunk.kind).to_owned(),
            text: chunk.content.clone(),
            heading_path: chunk.heading_path.clone(),
            pages: chunk.pages,
            span: chunk.span,
            boxes: chunk.boxes.clone(),
            tokens: chunk.tokens,
            language: language.or_else(|| document_language.map(str::to_owned)),
            metadata,
            vector,
        }
    }

    fn weight_bytes(&self) -> usize {
        let headings: usize = self.heading_path.iter().map(|h| h.len() + 24).sum();
        4 * self.vector.len()
            + self.text.len()
            + self.chunk_id.len()
            + headings
            + 20 * self.boxes.len()
            + self.metadata.as_str().len()
            + size_of::<Self>()
    }
}

/// Returns the name of a chunk kind: `text`, `table`, `code` or `figure`.
pub fn kind_name(kind: ChunkKind) -> &'static str {
    match kind {
        ChunkKind::Text => "text",
        ChunkKind::Table => "table",
        ChunkKind::Code => "code",
        ChunkKind::Figure => "figure",
    }
}

fn to_unit_length(mut vector: Vec<f32>) -> Vec<f32> {
    let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
    if length.is_finite() && length > 0.0 {
        vector.iter_mut().for_each(|x| *x /= length);
    }
    vector
}

impl DocumentRows {
    /// Creates a document version from rows. Sets each row's ordinal to the row's index in `rows`. `source` is a URI.
    pub fn new(document_id: DocumentId, version: Version, source: impl Into<String>, mut rows: Vec<Row>) -> Self {
        for (ordinal, row) in (0..).zip(&mut rows) {
            row.ordinal = ordinal;
        }
        Self { document_id, version, source: source.into(), parent: None, metadata: Map::new(), rows }
    }

    /// Adds one value to the document's metadata, for use in filters.
    pub fn with_metadata(mut self, name: impl Into<String>, value: impl Into<Value>) -> Self {
        self.metadata.insert(name.into(), value.into());
        self
    }

    /// Creates the rows of an embedded document. The document has no parent document.
    pub fn of_embedded(
        document_id: DocumentId,
        version: Version,
        source: String,
        metadata: Map<String, Value>,
        embedded: &EmbeddedDocument,
    ) -> Result<Self, WriteError> {
        let (chunks, vectors) = (&embedded.chunks, &embedded.vectors);
        if chunks.chunks.len() != vectors.len() {
            let reason =
                format!("{} chunks have {} vectors; embed the document again", chunks.chunks.len(), vectors.len());
            return Err(WriteError::Rejected { document: document_id.to_string(), reason });
        }
        let language = chunks.language.as_ref().map(|l| l.code.as_str());
        let rows = chunks.chunks.iter().zip(vectors);
        let rows = rows.map(|(c, v)| Row::of_chunk(c, v.clone(), language)).collect();
        Ok(Self { document_id, version, source, parent: None, metadata, rows })
    }
}

impl From<DocumentRows> for Write {
    fn from(document: DocumentRows) -> Self {
        Write::Upsert(document)
    }
}

impl Write {
    pub fn document_id(&self) -> &DocumentId {
        match self {
            Write::Upsert(d) => &d.document_id,
            Write::Delete { document_id, .. } => document_id,
        }
    }

    pub fn version(&self) -> Version {
        match self {
            Write::Upsert(d) => d.version,
            Write::Delete { version, .. } => *version,
        }
    }

    /// Returns whether the write deletes its document.
    pub fn is_delete(&self) -> bool {
        matches!(self, Write::Delete { .. })
    }

    pub fn rows(&self) -> &[Row] {
        match self {
            Write::Upsert(d) => &d.rows,
            Write::Delete { .. } => &[],
        }
    }

    /// Returns the approximate memory size of the write in bytes. The size limits of a target apply to this number.
    pub fn weight_bytes(&self) -> usize {
        match self {
            Write::Upsert(d) => d.rows.iter().map(Row::weight_bytes).sum::<usize>() + d.source.len() + 256,
            Write::Delete { .. } => 128,
        }
    }

    /// Checks whether a target could store this write in a call of its own. A committer checks each write before it
    /// adds the write to a group. One invalid document therefore does not make the other writes of the group fail.
    ///
    /// # Errors
    /// Returns an error if a vector does not have the model's dimension or the length 1. Also returns an error if a
    /// row's id is empty or not unique, or if the document exceeds a limit of the target.
    pub fn check(&self, model: &ModelIdentity, target: &Capabilities) -> Result<(), WriteError> {
        let rejected = |reason| Err(WriteError::Rejected { document: self.document_id().to_string(), reason });
        let mut ids = HashSet::with_capacity(self.rows().len());
        for row in self.rows() {
            if row.vector.len() != model.dimension as usize {
                return rejected(format!(
                    "chunk {} has a vector of {} dimensions, but model `{}` produces {}; embed the document again",
                    row.ordinal,
                    row.vector.len(),
                    model.id,
                    model.dimension
                ));
            }
            // NaN and infinity fail this comparison too.
            let length = row.vector.iter().map(|x| x * x).sum::<f32>().sqrt();
            let unit = (length - 1.0).abs() <= UNIT_TOLERANCE;
            if !unit {
                return rejected(format!(
                    "chunk {} has a vector of length {length} instead of 1; embed the document again",
                    row.ordinal
                ));
            }
            if row.chunk_id.is_empty() || !ids.insert(row.chunk_id.as_str()) {
                return rejected(format!("chunk {} has an empty or duplicate id", row.ordinal));
            }
        }
        target.admit("rows of one document", Limit::Rows, self.rows().len() as u64)?;
        target.admit("bytes of one document", Limit::Bytes, self.weight_bytes() as u64)
    }
}

/// Checks the writes of one call, and keeps for each document only the write with the highest version. At equal
/// versions, a deletion wins over rows. If both writes are of the same kind, the later write wins.
///
/// # Errors
/// Returns an error if `writes` is empty, if a write cannot be stored ([`Write::check`]), or if the writes together
/// exceed a limit of the target.
pub fn gather(writes: Vec<Write>, model: &ModelIdentity, target: &Capabilities) -> Result<Vec<Write>, WriteError> {
    if writes.is_empty() {
        return Err(WriteError::Empty);
    }
    target.admit("documents", Limit::Documents, writes.len() as u64)?;
    target.admit("rows", Limit::Rows, writes.iter().map(|w| w.rows().len() as u64).sum())?;
    target.admit("bytes", Limit::Bytes, writes.iter().map(|w| w.weight_bytes() as u64).sum())?;

    let mut kept: Vec<Write> = Vec::with_capacity(writes.len());
    let mut place: HashMap<DocumentId, usize> = HashMap::with_capacity(writes.len());
    for write in writes {
        write.check(model, target)?;
        match place.get(write.document_id()).and_then(|&i| kept.get_mut(i)) {
            Some(held) => {
                if (write.version(), write.is_delete()) >= (held.version(), held.is_delete()) {
                    *held = write;
                }
            }
            None => {
                place.insert(write.document_id().clone(), kept.len());
                kept.push(write);
            }
        }
    }
    Ok(kept)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::{document, model, unit};

    fn delete(id: &str, version: u64) -> Write {
        Write::Delete { document_id: DocumentId::parse(id).unwrap(), version }
    }

    #[test]
    fn bad_rows_are_refused_by_name_and_reason() {
        type Spoil = fn(&mut DocumentRows);
        let table: Vec<(Spoil, &str)> = vec![
            (|d| d.rows[1].vector = unit(&[1.0; 5]), "5 dimensions"),
            (|d| d.rows[1].vector[0] = f32::NAN, "length NaN"),
            (|d| d.rows[1].vector[0] = f32::INFINITY, "length inf"),
            (|d| d.rows[1].vector = vec![0.0; 3], "length 0"),
            (|d| d.rows[1].vector = vec![2.0, 0.0, 0.0], "length 2"),
            (|d| d.rows[1].chunk_id = d.rows[0].chunk_id.clone(), "empty or duplicate id"),
            (|d| d.rows[1].chunk_id.clear(), "empty or duplicate id"),
        ];
        for (spoil, word) in table {
            let Write::Upsert(mut d) = document("doc_a", 1, &["one", "two"]) else { unreachable!() };
            spoil(&mut d);
            let e = Write::Upsert(d).check(&model(3), &Capabilities::default()).unwrap_err().to_string();
            assert!(e.contains(word) && e.contains("doc_a"), "{e}");
        }
    }

    #[test]
    fn built_rows_can_be_stored_as_they_are() {
        let rows =
            vec![Row::new("a", "für", vec![3.0, 0.0, 4.0]).with_language("deu"), Row::new("b", "", vec![1.0; 3])];
        let document = DocumentRows::new(crate::testing::id("doc_a"), 2, "file:///a", rows).with_metadata("year", 2024);
        assert_eq!((document.rows[0].ordinal, document.rows[1].ordinal), (0, 1));
        assert_eq!(document.rows[0].vector, [0.6, 0.0, 0.8]);
        assert_eq!((document.rows[0].span.end, document.rows[0].span.end_byte), (3, 4));
        Write::from(document).check(&model(3), &Capabilities::default()).unwrap();
        let flat =
            DocumentRows::new(crate::testing::id("doc_a"), 1, "file:///a", vec![Row::new("a", "", vec![0.0; 3])]);
        let refused = Write::from(flat).check(&model(3), &Capabilities::default()).unwrap_err();
        assert!(refused.to_string().contains("length 0"), "{refused}");
    }

    #[test]
    fn a_commit_is_limited_in_each_direction() {
        let two = || vec![document("doc_a", 1, &["one", "two"]), document("doc_b", 1, &["three"])];
        let d = Capabilities::default();
        for (target, limited) in [
            (Capabilities { max_documents: 1, ..d.clone() }, Limit::Documents),
            (Capabilities { max_rows: 2, ..d.clone() }, Limit::Rows),
            (Capabilities { max_bytes: 100, ..d.clone() }, Limit::Bytes),
        ] {
            let e = gather(two(), &model(3), &target).unwrap_err();
            assert!(matches!(e, WriteError::TooLarge { limited: by, .. } if by == limited), "{e}");
        }
        assert!(gather(two(), &model(3), &d).is_ok());
        assert!(matches!(gather(vec![], &model(3), &d), Err(WriteError::Empty)));
    }

    #[test]
    fn one_write_a_document_is_left() {
        let d = Capabilities::default();
        let up = |v| document("doc_a", v, &["x"]);
        for (writes, expected) in [
            (vec![up(1), delete("doc_a", 2)], delete("doc_a", 2)),
            (vec![delete("doc_a", 2), up(1)], delete("doc_a", 2)),
            (vec![delete("doc_a", 1), up(2)], up(2)),
            (vec![delete("doc_a", 2), up(2)], delete("doc_a", 2)),
            (vec![up(3), up(2)], up(3)),
        ] {
            assert_eq!(gather(writes, &model(3), &d).unwrap(), [expected]);
        }
    }
}
