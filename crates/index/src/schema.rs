//! Defines the columns of a vector file.
//!
//! Vectors are `FixedSizeList<Float32>` without nulls. Parquet has no lists of fixed size, so a query engine that
//! supports only Parquet reads a list of floats. A query engine that also reads the Arrow schema in the footer
//! restores the fixed size.

use std::sync::Arc;

use arrow_schema::{DataType, Field, Fields, Schema};
use parquet::basic::{Compression, Encoding};
use parquet::file::properties::{EnabledStatistics, WriterProperties};
use parquet::schema::types::ColumnPath;

/// Name of the items of a list, as defined by the Parquet specification.
pub const ITEM: &str = "element";

/// Path of the vector column's values in Parquet.
const VECTOR_LEAF: [&str; 3] = ["vector", "list", ITEM];

pub fn box_fields() -> Fields {
    let side = |name| Field::new(name, DataType::Float32, false);
    Fields::from(vec![Field::new("page", DataType::UInt32, false), side("x0"), side("y0"), side("x1"), side("y1")])
}

pub fn vector_item() -> Arc<Field> {
    Arc::new(Field::new(ITEM, DataType::Float32, false))
}

pub fn heading_item() -> Arc<Field> {
    Arc::new(Field::new(ITEM, DataType::Utf8, false))
}

pub fn box_item() -> Arc<Field> {
    Arc::new(Field::new(ITEM, DataType::Struct(box_fields()), false))
}

pub fn schema(dimension: i32) -> Arc<Schema> {
    let text = |name| Field::new(name, DataType::Utf8, false);
    let u32 = |name| Field::new(name, DataType::UInt32, false);
    let u64 = |name| Field::new(name, DataType::UInt64, false);
    Arc::new(Schema::new(vec![
        text("document_id"),
        u64("version"),
        text("source"),
        text("chunk_id"),
        u32("ordinal"),
        text("kind"),
        text("text"),
        Field::new("heading_path", DataType::List(heading_item()), false),
        u32("page_first"),
        u32("page_last"),
        u64("span_start"),
        u64("span_end"),
        u64("span_start_byte"),
        u64("span_end_byte"),
        Field::new("boxes", DataType::List(box_item()), false),
        u32("tokens"),
        Field::new("language", DataType::Utf8, true),
        text("metadata"),
        Field::new("vector", DataType::FixedSizeList(vector_item(), dimension), false),
    ]))
}

/// Returns the properties of the Parquet writer.
///
/// Pages are uncompressed and plain, so that a reader spends no time on decoding. Dictionaries are used only for
/// columns whose values repeat. Statistics are written only where they let a query engine skip data. Text columns
/// have no statistics, because statistics would copy text into the footer.
pub fn properties(rows: usize) -> parquet::file::properties::WriterPropertiesBuilder {
    let mut builder = WriterProperties::builder()
        .set_compression(Compression::UNCOMPRESSED)
        .set_encoding(Encoding::PLAIN)
        .set_dictionary_enabled(false)
        .set_statistics_enabled(EnabledStatistics::None)
        .set_offset_index_disabled(true)
        .set_max_row_group_row_count(Some(rows.max(1)))
        .set_column_dictionary_enabled(ColumnPath::from(VECTOR_LEAF.map(String::from).to_vec()), false);
    for column in ["document_id", "source", "kind", "language"] {
        builder = builder.set_column_dictionary_enabled(ColumnPath::from(column), true);
    }
    for column in ["document_id", "version", "ordinal", "page_first", "page_last"] {
        builder = builder.set_column_statistics_enabled(ColumnPath::from(column), EnabledStatistics::Chunk);
    }
    builder
}
