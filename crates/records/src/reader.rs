//! Reads a file as records, line by line.
//!
//! Only one record is in memory at a time. A line that is too long is skipped without being stored. A byte order mark,
//! CR before LF, and blank lines are accepted. A blank line yields no items, but is counted in the line numbers. A
//! file that is compressed with gzip is decompressed while it is read. Limits and line numbers refer to the
//! decompressed text.

use std::io::{self, BufRead, Read};
use std::path::Path;

use serde_json::{Map, Value};

use super::error::RecordError;
use super::opened::{self, OpenedFile};
use super::options::RecordsOptions;
use super::receipt::Receipt;
use super::repeated_keys::repeated_keys;
use super::{Item, generic, receipt_items};

/// Number of bytes that a line may have in addition to its record: byte order mark (3), CR (1) and LF (1).
const SLACK: usize = 5;

/// Selects how the records of a file are read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Shape {
    /// Each record is a receipt with its lines and words.
    Receipts,
    /// Each record is any JSON object. `id` and `text` are the names or dotted paths of the fields that hold the id
    /// and the text.
    Records { id: String, text: String },
}

impl Shape {
    /// Returns the items of one record. `record` is a line of the file without its line break.
    pub fn items(&self, record: &str, options: &RecordsOptions) -> Result<Vec<Item>, RecordError> {
        self.items_of(parse(record)?, options)
    }

    /// Returns the items of one record that is already parsed.
    pub fn items_of(&self, object: Map<String, Value>, options: &RecordsOptions) -> Result<Vec<Item>, RecordError> {
        match self {
            Shape::Receipts => receipt_items::items(&Receipt::read(&object)?, options),
            Shape::Records { id, text } => Ok(vec![generic::item(object, id, text)?]),
        }
    }

    /// Returns the names along the path to the text of an object: first the enclosing objects, and last the field.
    pub fn way_to_text(&self, object: &Map<String, Value>) -> Option<Vec<String>> {
        match self {
            Shape::Receipts => generic::way(object, "text"),
            Shape::Records { text, .. } => generic::way(object, text),
        }
    }
}

fn parse(record: &str) -> Result<Map<String, Value>, RecordError> {
    match serde_json::from_str(record).map_err(|e| RecordError::NotJson { column: e.column() })? {
        Value::Object(object) => Ok(object),
        _ => Err(RecordError::NotAnObject),
    }
}

/// Iterates over a file's non-blank lines. Each result comes with its line number, from 1. The iterator ends after an
/// I/O error.
pub struct Records<R> {
    source: R,
    shape: Shape,
    options: RecordsOptions,
    line: Vec<u8>,
    number: u64,
    failed: bool,
    repeated_keys: Vec<String>,
}

impl Records<OpenedFile> {
    /// Opens a file of records, which may be compressed with gzip.
    pub fn open(path: &Path, shape: Shape, options: RecordsOptions) -> io::Result<Self> {
        Ok(Self::new(opened::open(path)?, shape, options))
    }
}

impl<R: BufRead> Records<R> {
    pub fn new(source: R, shape: Shape, options: RecordsOptions) -> Self {
        Self { source, shape, options, line: Vec::new(), number: 0, failed: false, repeated_keys: Vec::new() }
    }

    /// Returns the keys that occur more than once in one object of the line that was just read. Of the values of such a
    /// key, the last one counts. The keys are paths and shortened, and only the first few are returned.
    pub fn repeated_keys(&self) -> &[String] {
        &self.repeated_keys
    }

    /// Reads the next line. Returns true if the whole line was stored, false if the line was too long, and `None` at
    /// the end of the file.
    fn advance(&mut self) -> io::Result<Option<bool>> {
        self.line.clear();
        let most = self.options.max_record_bytes.saturating_add(SLACK);
        let read = self.source.by_ref().take(most as u64).read_until(b'\n', &mut self.line)?;
        if read == 0 {
            return Ok(None);
        }
        self.number += 1;
        let whole = read < most || self.line.ends_with(b"\n");
        if !whole {
            self.source.skip_until(b'\n')?;
        }
        Ok(Some(whole))
    }

    fn record(&mut self, whole: bool) -> Result<Vec<Item>, RecordError> {
        let line = self.line.strip_suffix(b"\n").unwrap_or(&self.line);
        let line = line.strip_suffix(b"\r").unwrap_or(line);
        let line = if self.number == 1 { line.strip_prefix(b"\xef\xbb\xbf").unwrap_or(line) } else { line };
        let limit = self.options.max_record_bytes;
        if !whole || line.len() > limit {
            return Err(RecordError::TooLong { limit });
        }
        let text = std::str::from_utf8(line).map_err(|e| RecordError::NotUtf8 { at: e.valid_up_to() + 1 })?;
        if text.trim().is_empty() {
            return Ok(Vec::new());
        }
        let object = parse(text)?;
        self.repeated_keys = repeated_keys(text, &object);
        self.shape.items_of(object, &self.options)
    }
}

impl<R: BufRead> Iterator for Records<R> {
    type Item = (u64, Result<Vec<Item>, RecordError>);

    fn next(&mut self) -> Option<Self::Item> {
        while !self.failed {
            self.repeated_keys.clear();
            match self.advance() {
                Ok(whole) => match self.record(whole?) {
                    // Only a blank line gives no items.
                    Ok(items) if items.is_empty() => continue,
                    result => return Some((self.number, result)),
                },
                Err(e) => {
                    self.failed = true;
                    return Some((self.number + 1, Err(opened::error(e))));
                }
            }
        }
        None
    }
}

#[cfg(test)]
mod tests {
    use std::io::BufReader;

    use super::*;

    #[test]
    fn memory_is_that_of_one_record() {
        let shape = Shape::Records { id: "id".into(), text: "text".into() };
        let endless = BufReader::with_capacity(1 << 16, io::repeat(b'x').take(1 << 28));
        let options = RecordsOptions { max_record_bytes: 1_024, ..RecordsOptions::default() };
        let mut records = Records::new(endless, shape, options);
        assert!(matches!(records.next(), Some((1, Err(RecordError::TooLong { limit: 1_024 })))));
        assert!(records.line.capacity() < 8_192, "{}", records.line.capacity());
        assert!(records.next().is_none());
    }
}
