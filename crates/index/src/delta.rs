//! Encodes and decodes delta files. A delta holds all documents of one commit.
//!
//! A delta is one Parquet file. Its table has one record per row, and the rows of a document are adjacent. Documents
//! without rows (tombstones, documents without text) are not in the table, because vectors are never null. The
//! key-value metadata in the footer therefore lists every document of the file, with its version and number of rows,
//! in the order of the rows. A reader can list the documents by reading only the end of the file, without decoding
//! vectors.
//!
//! | key in the footer | content |
//! | --- | --- |
//! | `docweir.delta` | JSON: the writer, the base version, the model |
//! | `docweir.documents` | JSON: `[{"id", "version", "rows", "source", "metadata"}, {"id", "version", "tombstone": true}, …]` |
//! | `docweir.documents_crc32` | CRC-32 of the value of `docweir.documents`, for readers that read only the footer |

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use arrow_array::builder::{Float32Builder, ListBuilder, StringBuilder, StructBuilder, UInt32Builder, UInt64Builder};
use arrow_array::{ArrayRef, RecordBatch};
use bytes::Bytes;
use docweir_core::model::ModelIdentity;
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use parquet::arrow::arrow_writer::compute_leaves;
use parquet::arrow::{ArrowWriter, ProjectionMask};
use parquet::file::metadata::{KeyValue, ParquetMetaData, ParquetMetaDataReader};
use parquet::file::properties::WriterProperties;
use serde::{Deserialize, Serialize};
use serde_json::Map;

use super::columns::{DocumentEntry, Rows};
use super::error::VectorError;
use super::{delta_columns, schema, vector_pages};
use docweir_target::{Row, Write};

const DELTA: &str = "docweir.delta";
const DOCUMENTS: &str = "docweir.documents";
const DOCUMENTS_CRC: &str = "docweir.documents_crc32";

/// Newest format of a delta that this program reads, and the format that it writes.
pub const FORMAT: u32 = 1;

/// Number of bytes at the end of a Parquet file that contain the length of the footer.
pub const TAIL_BYTES: u64 = 8;

/// Describes the origin of a delta. The collector reads the origin of each delta that no manifest lists. The origin
/// shows whether a commit can still add the delta to the manifest. If no commit can, the collector deletes the delta.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DeltaHeader {
    pub format: u32,
    pub collection: String,
    pub generation: u32,
    pub model: ModelIdentity,
    /// Base version: the manifest version that the writer had read before it wrote the delta.
    pub base_version: u64,
    pub writer: String,
    pub sequence: u64,
    pub commit_id: String,
    pub created_at: String,
}

/// Holds the content of a delta's footer.
#[derive(Clone, Debug, PartialEq)]
pub struct Footer {
    pub header: DeltaHeader,
    pub documents: Vec<DocumentEntry>,
    pub rows: u64,
}

/// Encodes the documents of a commit as a delta file.
pub fn encode(header: &DeltaHeader, writes: &[Write]) -> Result<Bytes, VectorError> {
    let failed = |e: &dyn std::fmt::Display| VectorError::Encode(e.to_string());
    let documents: Vec<DocumentEntry> = writes.iter().map(entry).collect();
    let documents = serde_json::to_string(&documents).map_err(|e| failed(&e))?;
    let header_json = serde_json::to_string(header).map_err(|e| failed(&e))?;
    let crc = crc32fast::hash(documents.as_bytes()).to_string();
    let rows = writes.iter().map(|w| w.rows().len()).sum();
    let properties = schema::properties(rows)
        .set_key_value_metadata(Some(vec![
            KeyValue::new(DELTA.to_owned(), header_json),
            KeyValue::new(DOCUMENTS.to_owned(), documents),
            KeyValue::new(DOCUMENTS_CRC.to_owned(), crc),
        ]))
        .build();
    write(header, writes, properties).map(Bytes::from).map_err(|e| failed(&e))
}

fn write(header: &DeltaHeader, writes: &[Write], properties: WriterProperties) -> parquet::errors::Result<Vec<u8>> {
    let dimension = header.model.dimension;
    let vectors: Vec<&[f32]> = writes.iter().flat_map(Write::rows).map(|row| row.vector.as_slice()).collect();
    let schema = schema::schema(dimension.try_into()?);
    // Reserve enough for most files at once, because growing copies the content.
    let room = vectors.len() * (4 * dimension as usize + 1024);
    let writer = ArrowWriter::try_new(Vec::with_capacity(room), schema.clone(), Some(properties))?;
    let (mut file, columns) = writer.into_serialized_writer()?;
    if vectors.is_empty() {
        return file.into_inner();
    }
    let vector_column = file.schema_descr().columns().last().cloned();
    let mut leaves = columns.create_column_writers(0)?.into_iter();
    let mut group = file.next_row_group()?;
    for (field, array) in schema.fields().iter().zip(columns_but_vectors(writes)) {
        for leaf in compute_leaves(field, &array)? {
            if let Some(mut column) = leaves.next() {
                column.write(&leaf)?;
                column.close()?.append_to_row_group(&mut group)?;
            }
        }
    }
    if let Some(column) = vector_column {
        vector_pages::append(&mut group, column, &vectors, dimension as usize)?;
    }
    group.close()?;
    file.into_inner()
}

fn entry(write: &Write) -> DocumentEntry {
    match write {
        Write::Upsert(d) => DocumentEntry {
            id: d.document_id.clone(),
            version: d.version,
            rows: u32::try_from(d.rows.len()).unwrap_or(u32::MAX),
            tombstone: false,
            source: d.source.clone(),
            parent: d.parent.clone(),
            metadata: d.metadata.clone(),
        },
        Write::Delete { document_id, version } => DocumentEntry {
            id: document_id.clone(),
            version: *version,
            rows: 0,
            tombstone: true,
            source: String::new(),
            parent: None,
            metadata: Map::new(),
        },
    }
}

/// Returns all columns except the vectors, in the order of the schema.
fn columns_but_vectors(writes: &[Write]) -> Vec<ArrayRef> {
    let documents = || {
        writes.iter().filter_map(|w| match w {
            Write::Upsert(d) => Some(d),
            Write::Delete { .. } => None,
        })
    };
    let rows = || documents().flat_map(|d| d.rows.iter());
    let per_row = |value: &dyn Fn(&Row) -> u64| -> ArrayRef {
        let mut builder = UInt64Builder::new();
        rows().for_each(|r| builder.append_value(value(r)));
        Arc::new(builder.finish())
    };
    let small = |value: &dyn Fn(&Row) -> u32| -> ArrayRef {
        let mut builder = UInt32Builder::new();
        rows().for_each(|r| builder.append_value(value(r)));
        Arc::new(builder.finish())
    };
    let text = |value: &dyn Fn(&Row) -> &str| -> ArrayRef {
        let mut builder = StringBuilder::new();
        rows().for_each(|r| builder.append_value(value(r)));
        Arc::new(builder.finish())
    };

    let (mut ids, mut versions, mut sources) = (StringBuilder::new(), UInt64Builder::new(), StringBuilder::new());
    for d in documents() {
        for _ in &d.rows {
            ids.append_value(d.document_id.as_str());
            versions.append_value(d.version);
            sources.append_value(&d.source);
        }
    }
    let mut headings = ListBuilder::new(StringBuilder::new()).with_field(schema::heading_item());
    let box_builder = StructBuilder::from_fields(schema::box_fields(), 0);
    let mut boxes = ListBuilder::new(box_builder).with_field(schema::box_item());
    let (mut languages, mut metadata) = (StringBuilder::new(), StringBuilder::new());
    for row in rows() {
        row.heading_path.iter().for_each(|h| headings.values().append_value(h));
        headings.append(true);
        for b in &row.boxes {
            let item = boxes.values();
            if let Some(page) = item.field_builder::<UInt32Builder>(0) {
                page.append_value(b.page);
            }
            for (i, side) in b.bbox.into_iter().enumerate() {
                if let Some(builder) = item.field_builder::<Float32Builder>(i + 1) {
                    builder.append_value(side);
                }
            }
            item.append(true);
        }
        boxes.append(true);
        languages.append_option(row.language.as_deref());
        metadata.append_value(row.metadata.as_str());
    }
    vec![
        Arc::new(ids.finish()),
        Arc::new(versions.finish()),
        Arc::new(sources.finish()),
        text(&|r| &r.chunk_id),
        small(&|r| r.ordinal),
        text(&|r| &r.kind),
        text(&|r| &r.text),
        Arc::new(headings.finish()),
        small(&|r| r.pages.0),
        small(&|r| r.pages.1),
        per_row(&|r| r.span.start),
        per_row(&|r| r.span.end),
        per_row(&|r| r.span.start_byte),
        per_row(&|r| r.span.end_byte),
        Arc::new(boxes.finish()),
        small(&|r| r.tokens),
        Arc::new(languages.finish()),
        Arc::new(metadata.finish()),
    ]
}

/// Returns the size of a file's footer in bytes. This size is stored in `tail`, the last [`TAIL_BYTES`] of the file,
/// which follow the footer.
pub fn footer_bytes(file: &str, tail: &[u8]) -> Result<u64, VectorError> {
    match tail {
        [a, b, c, d, b'P', b'A', b'R', b'1'] => Ok(u32::from_le_bytes([*a, *b, *c, *d]).into()),
        _ => Err(damaged(file, "file does not end like a Parquet file; it is truncated or of another type")),
    }
}

/// Decodes a footer without reading the table of the file. `body` holds the bytes of the footer. In the file, the
/// last [`TAIL_BYTES`] follow the footer.
pub fn decode_footer(file: &str, body: &[u8]) -> Result<Footer, VectorError> {
    without_panic(file, || {
        let metadata = ParquetMetaDataReader::decode_metadata(body).map_err(|e| damaged(file, e))?;
        footer(file, &metadata)
    })
}

/// Converts a panic to an error. The parquet crate panics on some damaged footers, such as one with a negative length.
fn without_panic<T>(file: &str, read: impl FnOnce() -> Result<T, VectorError>) -> Result<T, VectorError> {
    catch_unwind(AssertUnwindSafe(read)).unwrap_or_else(|_| Err(damaged(file, "metadata contradicts itself")))
}

fn footer(file: &str, metadata: &ParquetMetaData) -> Result<Footer, VectorError> {
    let pairs = metadata.file_metadata().key_value_metadata().map(Vec::as_slice).unwrap_or_default();
    let value = |key: &str| {
        let pair = pairs.iter().find(|p| p.key == key).and_then(|p| p.value.as_deref());
        pair.ok_or_else(|| damaged(file, format!("footer has no `{key}`")))
    };
    #[derive(Deserialize)]
    struct Format {
        format: u32,
    }
    let Format { format } = serde_json::from_str(value(DELTA)?).map_err(|e| damaged(file, e))?;
    if format > FORMAT {
        return Err(VectorError::TooNew { key: file.to_owned(), found: format, known: FORMAT });
    }
    let header = serde_json::from_str(value(DELTA)?).map_err(|e| damaged(file, e))?;
    let text = value(DOCUMENTS)?;
    if value(DOCUMENTS_CRC)? != crc32fast::hash(text.as_bytes()).to_string() {
        return Err(damaged(file, "list of documents does not match its checksum"));
    }
    let documents: Vec<DocumentEntry> = serde_json::from_str(text).map_err(|e| damaged(file, e))?;
    let rows = u64::try_from(metadata.file_metadata().num_rows()).unwrap_or_default();
    let listed: u64 = documents.iter().map(|d| u64::from(d.rows)).sum();
    if rows != listed {
        return Err(damaged(file, format!("table has {rows} rows, but the footer lists {listed}")));
    }
    Ok(Footer { header, documents, rows })
}

/// Decodes a whole delta. `crc32` is the checksum in the manifest; `None` skips the check.
pub fn decode(file: &str, body: Bytes, crc32: Option<u32>) -> Result<(Footer, Rows), VectorError> {
    if let Some(expected) = crc32
        && crc32fast::hash(&body) != expected
    {
        return Err(damaged(file, format!("content ({} bytes) does not match the manifest's checksum", body.len())));
    }
    without_panic(file, || decode_checked(file, body))
}

fn decode_checked(file: &str, body: Bytes) -> Result<(Footer, Rows), VectorError> {
    let builder = ParquetRecordBatchReaderBuilder::try_new(body.clone()).map_err(|e| damaged(file, e))?;
    let footer = footer(file, builder.metadata())?;
    let dimension = i32::try_from(footer.header.model.dimension).map_err(|e| damaged(file, e))?;
    let expected = schema::schema(dimension);
    if builder.schema().fields() != expected.fields() {
        return Err(damaged(file, "table does not have the columns of a vector file"));
    }
    let rows = usize::try_from(footer.rows).unwrap_or(usize::MAX);
    let vectors = vector_pages::read(&body, builder.metadata(), rows, footer.header.model.dimension as usize);
    let leaves = builder.parquet_schema().num_columns() - usize::from(vectors.is_some());
    let wanted = ProjectionMask::leaves(builder.parquet_schema(), 0..leaves);
    let reader = builder.with_batch_size(rows.max(1)).with_projection(wanted);
    let batch = match reader.build().map_err(|e| damaged(file, e))?.next() {
        Some(batch) => batch.map_err(|e| damaged(file, e))?,
        None => RecordBatch::new_empty(expected),
    };
    if batch.num_rows() != rows {
        return Err(damaged(file, format!("only {} of {rows} rows are readable", batch.num_rows())));
    }
    let rows = delta_columns::rows(file, &batch, vectors)?;
    Ok((footer, rows))
}

pub(super) fn damaged(file: &str, reason: impl std::fmt::Display) -> VectorError {
    VectorError::Damaged { file: file.to_owned(), reason: reason.to_string() }
}

#[cfg(test)]
mod tests {
    use docweir_core::documents::DocumentId;

    use super::*;
    use crate::segment::Segment;
    use crate::testing::{document, header, model};
    use docweir_target::DocumentRows;

    fn writes() -> Vec<Write> {
        vec![
            document("doc_a", 3, &["erste Zeile", "zweite"]),
            Write::Delete { document_id: DocumentId::parse("doc_b").unwrap(), version: 7 },
            document("doc_c", 1, &[]),
            document("doc_d", 2, &["日本語"]),
        ]
    }

    #[test]
    fn what_is_written_is_read_back() {
        let bytes = encode(&header(3), &writes()).unwrap();
        let crc = crc32fast::hash(&bytes);
        let segment = Segment::of_delta("delta/x.parquet", bytes, Some(crc)).unwrap();
        let mut at = 0;
        for (entry, write) in segment.entries().zip(writes()) {
            assert_eq!((&entry.id, entry.version), (write.document_id(), write.version()));
            for row in write.rows() {
                assert_eq!(&segment.row(at).unwrap(), row);
                at += 1;
            }
        }
        assert_eq!(at, segment.len());
        let flags: Vec<_> = segment.entries().map(|d| (d.rows, d.tombstone)).collect();
        assert_eq!(flags, [(2, false), (0, true), (0, false), (1, false)]);
    }

    #[test]
    fn the_footer_alone_tells_the_documents() {
        let bytes = encode(&header(3), &writes()).unwrap();
        let (rest, tail) = bytes.split_at(bytes.len() - TAIL_BYTES as usize);
        let length = footer_bytes("f", tail).unwrap() as usize;
        let footer = decode_footer("f", &rest[rest.len() - length..]).unwrap();
        assert_eq!(footer.documents.len(), 4);
        assert_eq!(footer.header, header(3));
        assert_eq!(footer.rows, 3);
    }

    #[test]
    fn a_file_of_deletes_alone_is_a_file() {
        let deletes = vec![Write::Delete { document_id: DocumentId::parse("doc_b").unwrap(), version: 7 }];
        let bytes = encode(&header(384), &deletes).unwrap();
        let (footer, rows) = decode("f", bytes, None).unwrap();
        assert_eq!((footer.documents.len(), rows.ordinals.len()), (1, 0));
    }

    #[test]
    fn damage_is_an_error_that_names_the_file() {
        let bytes = encode(&header(3), &writes()).unwrap();
        let crc = Some(crc32fast::hash(&bytes));
        for at in (0..bytes.len()).step_by(97) {
            let mut flipped = bytes.to_vec();
            flipped[at] ^= 0x10;
            let e = decode("delta/f.parquet", flipped.into(), crc).unwrap_err().to_string();
            assert!(e.contains("delta/f.parquet") && e.contains("checksum"), "{e}");
        }
        for keep in [0, 4, 8, bytes.len() / 2, bytes.len() - 1] {
            let e = decode("delta/f.parquet", bytes.slice(..keep), None).unwrap_err().to_string();
            assert!(e.contains("delta/f.parquet"), "{e}");
        }
        assert!(footer_bytes("f", b"1234PAR2").is_err());
    }

    #[test]
    fn a_newer_file_is_refused() {
        let newer = DeltaHeader { format: FORMAT + 1, ..header(3) };
        let bytes = encode(&newer, &writes()).unwrap();
        assert!(matches!(decode("f", bytes, None), Err(VectorError::TooNew { .. })));
        assert_eq!(header(3).model, model(3));
    }

    #[test]
    fn a_parent_is_kept_and_its_absence_changes_no_byte() {
        let Write::Upsert(rows) = document("doc_a", 1, &["one"]) else { unreachable!() };
        let parent = DocumentId::parse("doc_p");
        let child = Write::Upsert(DocumentRows { parent: parent.clone(), ..rows.clone() });
        let bytes = encode(&header(3), &[child, document("doc_b", 1, &["two"])]).unwrap();
        let segment = Segment::of_delta("f", bytes, None).unwrap();
        let parents: Vec<_> = segment.entries().map(|entry| entry.parent).collect();
        assert_eq!(parents, [parent, None]);
        let plain = serde_json::to_string(&entry(&Write::Upsert(rows))).unwrap();
        assert!(!plain.contains("parent"), "{plain}");
    }

    #[test]
    fn ten_thousand_documents_fit_a_footer() {
        let many: Vec<Write> = (0..10_000).map(|i| document(&format!("doc_{i:08}"), 1, &[])).collect();
        let bytes = encode(&header(3), &many).unwrap();
        assert!(bytes.len() < 2_000_000, "{}", bytes.len());
        assert_eq!(decode("f", bytes, None).unwrap().0.documents.len(), 10_000);
    }
}
