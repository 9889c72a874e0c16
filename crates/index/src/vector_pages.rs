//! Reads and writes the vector column of a delta in whole pages.
//!
//! In Parquet, the column is a list of floats. Parquet stores levels for every number, which say whether the number
//! begins a new row. Encoding and decoding the levels one by one would take longer than the rest of a delta. All rows
//! have the same length, so the levels of a page are known in advance. This module therefore reads and writes a page
//! as two blocks, first the levels and then the numbers. The general Parquet reader reads pages that have another
//! layout.
//!
//! ```text
//! u32 length │ for each row: run of one 0, run of (dimension - 1) 1s │ u32 length │ run of rows × dimension 1s │ f32 …
//!            └─ repetition levels                                                └─ definition levels
//! ```
//! The runs are encoded as RLE with bit width 1: <https://parquet.apache.org/docs/file-format/data-pages/encodings/>.

use std::io::Write;
use std::sync::Arc;

use arrow_buffer::{MutableBuffer, ToByteSlice};
use bytes::Bytes;
use parquet::basic::{Compression, Encoding};
use parquet::column::page::{CompressedPage, Page, PageReader, PageWriter};
use parquet::column::writer::ColumnCloseResult;
use parquet::errors::{ParquetError, Result};
use parquet::file::metadata::{ColumnChunkMetaData, ParquetMetaData};
use parquet::file::serialized_reader::SerializedPageReader;
use parquet::file::writer::{SerializedPageWriter, SerializedRowGroupWriter, TrackedWrite};
use parquet::schema::types::ColumnDescPtr;

use super::columns::F32s;

/// Maximum size of the numbers in a page, in bytes. A page with a single row may be larger.
const PAGE_BYTES: usize = 1 << 20;

/// Writes the vectors in `rows` as the next column of the row group. Each vector has `dimension` numbers.
pub fn append<W: Write + Send>(
    group: &mut SerializedRowGroupWriter<'_, W>,
    column: ColumnDescPtr,
    rows: &[&[f32]],
    dimension: usize,
) -> Result<()> {
    if dimension == 0 || rows.iter().any(|row| row.len() != dimension) {
        return Err(ParquetError::General(format!("a vector does not have {dimension} dimensions")));
    }
    let numbers = rows.len() * dimension;
    let mut sink = TrackedWrite::new(Vec::with_capacity(numbers * 4 + numbers / 16));
    let mut pages = SerializedPageWriter::new(&mut sink);
    let mut bytes = 0;
    for rows in rows.chunks((PAGE_BYTES / (4 * dimension)).max(1)) {
        let numbers = rows.len() * dimension;
        let mut page = levels(rows.len(), dimension);
        page.reserve_exact(numbers * 4);
        rows.iter().for_each(|row| page.extend_from_slice(row.to_byte_slice()));
        let uncompressed = page.len();
        let page = Page::DataPage {
            buf: page.into(),
            num_values: numbers as u32,
            encoding: Encoding::PLAIN,
            def_level_encoding: Encoding::RLE,
            rep_level_encoding: Encoding::RLE,
            statistics: None,
        };
        bytes += pages.write_page(CompressedPage::new(page, uncompressed))?.bytes_written;
    }
    let metadata = ColumnChunkMetaData::builder(column)
        .set_encodings(vec![Encoding::PLAIN, Encoding::RLE])
        .set_compression(Compression::UNCOMPRESSED)
        .set_num_values(numbers as i64)
        .set_total_compressed_size(bytes as i64)
        .set_total_uncompressed_size(bytes as i64)
        .set_data_page_offset(0)
        .build()?;
    let close = ColumnCloseResult {
        bytes_written: bytes,
        rows_written: rows.len() as u64,
        metadata,
        bloom_filter: None,
        column_index: None,
        offset_index: None,
    };
    group.append_column(&Bytes::from(sink.into_inner()?), close)
}

/// Reads the last column of a delta and returns the vector components of all rows, one row after another. Returns
/// `None` if a page does not have the layout that [`append`] writes.
pub fn read(file: &Bytes, metadata: &ParquetMetaData, rows: usize, dimension: usize) -> Option<F32s> {
    // A damaged footer may claim any size, so the reservation is limited to the size of the file.
    let bytes = rows.checked_mul(dimension)?.checked_mul(4).filter(|bytes| dimension > 0 && *bytes <= file.len())?;
    let mut numbers = MutableBuffer::with_capacity(bytes);
    let mut known = (0, Vec::new());
    for group in metadata.row_groups() {
        let in_group = usize::try_from(group.num_rows()).ok()?;
        let mut pages =
            SerializedPageReader::new(Arc::new(file.clone()), group.columns().last()?, in_group, None).ok()?;
        while let Some(page) = pages.get_next_page().ok()? {
            let Page::DataPage { buf, num_values, encoding: Encoding::PLAIN, .. } = page else { return None };
            let count = num_values as usize / dimension;
            let size = count * dimension * 4;
            if size > buf.len() || numbers.len() + size > bytes {
                return None;
            }
            if known.0 != count {
                known = (count, levels(count, dimension));
            }
            let vectors = buf.strip_prefix(known.1.as_slice()).filter(|vectors| vectors.len() == size)?;
            numbers.extend_from_slice(vectors);
        }
    }
    (numbers.len() == bytes).then(|| F32s::from(numbers))
}

/// Returns the levels of a page with `rows` rows, as encoded bytes.
fn levels(rows: usize, dimension: usize) -> Vec<u8> {
    let mut row = Vec::with_capacity(8);
    run(&mut row, 1, 0);
    if dimension > 1 {
        run(&mut row, dimension - 1, 1);
    }
    let mut all = Vec::with_capacity(16 + rows * row.len());
    all.extend_from_slice(&((rows * row.len()) as u32).to_le_bytes());
    (0..rows).for_each(|_| all.extend_from_slice(&row));
    let mut defined = Vec::with_capacity(8);
    run(&mut defined, rows * dimension, 1);
    all.extend_from_slice(&(defined.len() as u32).to_le_bytes());
    all.extend_from_slice(&defined);
    all
}

/// Appends a run of `times` equal levels. A run begins with its length, as a varint whose lowest bit is 0. The level
/// follows in one byte.
fn run(into: &mut Vec<u8>, times: usize, level: u8) {
    let mut rest = times << 1;
    while rest >= 0x80 {
        into.push(rest as u8 | 0x80);
        rest >>= 7;
    }
    into.extend_from_slice(&[rest as u8, level]);
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::segment::Segment;
    use crate::testing::{document, header};
    use crate::{Write, delta};
    use arrow_array::RecordBatch;
    use parquet::arrow::ArrowWriter;
    use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;

    fn delta(dimension: u32, rows: usize) -> (Bytes, Vec<Vec<f32>>) {
        let texts: Vec<String> = (0..rows).map(|i| i.to_string()).collect();
        let mut write = document("doc_a", 1, &texts.iter().map(String::as_str).collect::<Vec<_>>());
        let mut random = fastrand::Rng::with_seed(7);
        let vectors: Vec<Vec<f32>> = (0..rows).map(|_| (0..dimension).map(|_| random.f32()).collect()).collect();
        if let Write::Upsert(document) = &mut write {
            document.rows.iter_mut().zip(&vectors).for_each(|(row, vector)| row.vector.clone_from(vector));
        }
        (delta::encode(&header(dimension), &[write]).unwrap(), vectors)
    }

    /// Reads the file with the general Parquet reader.
    fn batch(file: &Bytes) -> (RecordBatch, ParquetMetaData) {
        let builder = ParquetRecordBatchReaderBuilder::try_new(file.clone()).unwrap().with_batch_size(1 << 20);
        let metadata = builder.metadata().as_ref().clone();
        (builder.build().unwrap().next().unwrap().unwrap(), metadata)
    }

    fn vectors_of(file: &Bytes) -> Vec<Vec<f32>> {
        let segment = Segment::of_delta("f", file.clone(), None).unwrap();
        (0..segment.len()).map(|row| segment.vector(row).to_vec()).collect()
    }

    #[test]
    fn any_reader_of_parquet_reads_them() {
        // Cases: one row per page, several pages, one page; rows of one number.
        for (dimension, rows) in [(1, 3), (2, 1), (3, 5), (384, 2_000), (1_536, 700), (300_000, 3)] {
            let (file, vectors) = delta(dimension, rows);
            let (batch, metadata) = batch(&file);
            let column = batch.column_by_name("vector").unwrap();
            let lists = arrow_array::cast::AsArray::as_fixed_size_list(column);
            let numbers = arrow_array::cast::AsArray::as_primitive::<arrow_array::types::Float32Type>(lists.values());
            assert_eq!(numbers.values().to_vec(), vectors.concat(), "{rows} × {dimension}");
            assert!(read(&file, &metadata, rows, dimension as usize).is_some(), "{rows} × {dimension}");
            assert_eq!(vectors_of(&file), vectors, "{rows} × {dimension}");
        }
    }

    #[test]
    fn pages_of_another_writer_are_read_too() {
        let (file, vectors) = delta(5, 40);
        let (batch, metadata) = batch(&file);
        let pairs = metadata.file_metadata().key_value_metadata().unwrap().clone();
        let ours = pairs.into_iter().filter(|pair| pair.key.starts_with("docweir")).collect();
        let properties = crate::schema::properties(40).set_key_value_metadata(Some(ours)).build();
        let mut writer = ArrowWriter::try_new(Vec::new(), batch.schema(), Some(properties)).unwrap();
        writer.write(&batch).unwrap();
        let other = Bytes::from(writer.into_inner().unwrap());
        let (_, metadata) = self::batch(&other);
        assert!(read(&other, &metadata, 40, 5).is_none());
        assert_eq!(vectors_of(&other), vectors);
    }

    #[test]
    fn what_is_not_there_is_not_read() {
        let (file, _) = delta(3, 10);
        let (_, metadata) = batch(&file);
        for (rows, dimension) in [(10, 4), (9, 3), (11, 3), (usize::MAX, 3), (usize::MAX / 4, 1 << 20)] {
            assert!(read(&file, &metadata, rows, dimension).is_none(), "{rows} × {dimension}");
        }
    }
}
