//! Defines the reasons why a record is refused.

use std::io;

/// Explains why a record is refused. Errors contain only field names, positions and limits, and never the record's
/// values.
#[derive(Debug, thiserror::Error)]
pub enum RecordError {
    #[error("the record is longer than {limit} bytes: split the record, or raise `max_record_bytes`")]
    TooLong { limit: usize },
    #[error("the record is not UTF-8 from byte {at} on: convert the file to UTF-8")]
    NotUtf8 { at: usize },
    #[error("the record is not JSON at column {column}: write one whole JSON object on each line")]
    NotJson { column: usize },
    #[error("the record is JSON but not an object: write one whole JSON object on each line")]
    NotAnObject,
    /// A field is missing or has an invalid value. `field` is a path such as `lines[3].words[0].text`. List indices
    /// count from 0.
    #[error("`{field}` {problem}: correct the record or leave it out")]
    Field { field: String, problem: String },
    #[error("the record has {found} lines and words, more than {limit}: split the record, or raise `max_record_items`")]
    TooManyItems { found: usize, limit: usize },
    #[error("the record's items need more than {limit} bytes: split the record, or raise `max_items_bytes`")]
    TooLarge { limit: usize },
    /// The compressed data of the file are invalid. The reader returns no more results after this error.
    #[error("the compressed data {problem}, so nothing from here on is read: copy or compress the file again")]
    Compressed { problem: &'static str },
    /// The file could not be read. The reader returns no more results after this error.
    #[error("reading the rest of the file failed: check the disk or the pipe, then read the file again")]
    Io(#[source] io::Error),
}

impl RecordError {
    pub(super) fn field(field: impl Into<String>, problem: impl Into<String>) -> Self {
        Self::Field { field: field.into(), problem: problem.into() }
    }

    /// Puts the name of the enclosing object or list in front of the field's path.
    pub(super) fn within(self, outer: &str) -> Self {
        match self {
            Self::Field { field, problem } if field.is_empty() => Self::field(outer, problem),
            Self::Field { field, problem } => Self::Field { field: format!("{outer}.{field}"), problem },
            other => other,
        }
    }
}
