//! Converts a delta's Parquet table to columns.

use std::collections::HashMap;

use arrow_array::cast::AsArray;
use arrow_array::types::{Float32Type, UInt32Type, UInt64Type};
use arrow_array::{Array, ArrowPrimitiveType, RecordBatch, StringArray};
use arrow_buffer::ScalarBuffer;

use super::columns::{F32s, Labels, Rows, Strings, StringsBuilder, U32s};
use super::error::VectorError;

/// Converts the table of a delta to columns. `vectors` holds the vectors if they were already read. Otherwise the
/// function reads the vectors from the table.
pub fn rows(file: &str, batch: &RecordBatch, vectors: Option<F32s>) -> Result<Rows, VectorError> {
    let table = Table { file, batch };
    let vectors = vectors.map_or_else(|| table.vectors(), Ok)?;
    let lists = |name: &'static str| table.column(name)?.as_list_opt::<i32>().cloned().ok_or_else(|| table.unfit(name));

    let heading_lists = lists("heading_path")?;
    let headings = labels((0..batch.num_rows()).map(|row| {
        let items = heading_lists.value(row);
        let items: Vec<&str> = items.as_string_opt::<i32>().map(|a| a.iter().flatten().collect()).unwrap_or_default();
        if items.is_empty() { String::new() } else { serde_json::to_string(&items).unwrap_or_default() }
    }));

    let boxes = lists("boxes")?;
    let fields = boxes.values().as_struct_opt().ok_or_else(|| table.unfit("boxes"))?;
    let pages = fields.columns().first().and_then(|c| c.as_primitive_opt::<UInt32Type>());
    let pages = pages.ok_or_else(|| table.unfit("boxes"))?.values().clone();
    let mut sides: Vec<F32s> = Vec::with_capacity(4);
    for side in fields.columns().iter().skip(1) {
        sides.push(side.as_primitive_opt::<Float32Type>().ok_or_else(|| table.unfit("boxes"))?.values().clone());
    }
    let box_sides: Vec<f32> =
        (0..pages.len()).flat_map(|b| sides.iter().map(move |s| s.get(b).copied().unwrap_or_default())).collect();
    let box_starts: Vec<u64> = boxes.value_offsets().iter().map(|&o| u64::try_from(o).unwrap_or_default()).collect();

    let span: [ScalarBuffer<u64>; 4] = [
        table.primitive::<UInt64Type>("span_start")?,
        table.primitive::<UInt64Type>("span_end")?,
        table.primitive::<UInt64Type>("span_start_byte")?,
        table.primitive::<UInt64Type>("span_end_byte")?,
    ];
    let spans: Vec<u64> =
        (0..batch.num_rows()).flat_map(|r| span.iter().map(move |s| s.get(r).copied().unwrap_or_default())).collect();

    let (kinds, languages) = (table.text("kind")?, table.text("language")?);
    Ok(Rows {
        chunk_ids: table.strings("chunk_id")?,
        texts: table.strings("text")?,
        kinds: labels(kinds.iter().map(|k| k.unwrap_or_default())),
        languages: labels(languages.iter().map(|l| l.unwrap_or_default())),
        headings,
        ordinals: table.u32s("ordinal")?,
        page_first: table.u32s("page_first")?,
        page_last: table.u32s("page_last")?,
        tokens: table.u32s("tokens")?,
        spans: spans.into(),
        box_starts: box_starts.into(),
        box_pages: pages,
        box_sides: box_sides.into(),
        metadata: metadata(table.text("metadata")?),
        vectors,
    })
}

struct Table<'b> {
    file: &'b str,
    batch: &'b RecordBatch,
}

impl<'b> Table<'b> {
    fn unfit(&self, name: &str) -> VectorError {
        let reason = format!("column `{name}` is missing or has the wrong type");
        VectorError::Damaged { file: self.file.to_owned(), reason }
    }

    fn column(&self, name: &str) -> Result<&'b arrow_array::ArrayRef, VectorError> {
        self.batch.column_by_name(name).ok_or_else(|| self.unfit(name))
    }

    fn vectors(&self) -> Result<F32s, VectorError> {
        let unfit = || self.unfit("vector");
        let lists = self.column("vector")?.as_fixed_size_list_opt().ok_or_else(unfit)?;
        let dimension = usize::try_from(lists.value_length()).map_err(|_| unfit())?;
        let numbers = lists.values().as_primitive_opt::<Float32Type>().ok_or_else(unfit)?;
        if numbers.null_count() > 0 || numbers.len() != dimension * self.batch.num_rows() {
            return Err(unfit());
        }
        Ok(numbers.values().clone())
    }

    fn primitive<T: ArrowPrimitiveType>(&self, name: &str) -> Result<ScalarBuffer<T::Native>, VectorError> {
        Ok(self.column(name)?.as_primitive_opt::<T>().ok_or_else(|| self.unfit(name))?.values().clone())
    }

    fn u32s(&self, name: &str) -> Result<U32s, VectorError> {
        self.primitive::<UInt32Type>(name)
    }

    fn text(&self, name: &str) -> Result<&'b StringArray, VectorError> {
        self.column(name)?.as_string_opt::<i32>().ok_or_else(|| self.unfit(name))
    }

    fn strings(&self, name: &str) -> Result<Strings, VectorError> {
        let array = self.text(name)?;
        let offsets: Vec<u64> = array.value_offsets().iter().map(|&o| u64::try_from(o).unwrap_or_default()).collect();
        Ok(Strings::new(offsets.into(), array.values().clone()))
    }
}

/// Copies the column of metadata. An empty object `{}` becomes an empty text.
fn metadata(column: &StringArray) -> Strings {
    let mut strings = StringsBuilder::default();
    column.iter().for_each(|m| strings.push(m.filter(|m| *m != "{}").unwrap_or_default()));
    strings.finish()
}

fn labels<T: AsRef<str>>(values: impl Iterator<Item = T>) -> Labels {
    let mut known: HashMap<Box<str>, u32> = HashMap::new();
    let mut distinct = StringsBuilder::default();
    let mut codes = Vec::new();
    for value in values {
        let value = value.as_ref();
        codes.push(match known.get(value) {
            Some(&code) => code,
            None => {
                let code = distinct.count() as u32;
                distinct.push(value);
                known.insert(value.into(), code);
                code
            }
        });
    }
    Labels { codes: codes.into(), values: distinct.finish() }
}
