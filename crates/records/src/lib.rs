//! Reads small records: the lines and words of receipts that OCR produced, or any JSON objects, one on each line of a
//! file. A record needs no extraction and no chunking. It becomes items, and each item is embedded unchanged.
//!
//! ```text
//! file ─reader─▶ lines ─┬─ receipt ─layout─▶ items of lines and words
//!                       └─ generic ────────▶ one item
//! ```
//! * `reader`: reads a file line by line, with line numbers, in constant memory;
//! * `fields`: reads single fields of a JSON object;
//! * `receipt`: parses and checks a receipt; `layout`: finds neighbours and rows on it;
//! * `receipt_items`: turns a receipt into items; `generic`: turns any other object into an item;
//! * [`table`]: assembles receipts whose lines and words are items of a table;
//! * `ids`: builds entity keys and the document ids derived from them.
//!
//! The same rules hold for all files. A line that is not blank either gives items or is refused with its line number
//! and the name of the wrong field. A bad record never affects another record. Errors never repeat a record's values.
//!
//! **Noise** is not embedded. A line or word is noise if `is_noise` is true, if `embedding_status` is `NOISE`, or if
//! its text has no letter and no digit. An `is_noise` of false does not override the last rule, because exporters
//! write false for every unmarked item. A generic record is noise if its text is blank.
//!
//! Trade-off: a record is parsed as a JSON tree and then read field by field. Derived structures would be faster, but
//! their errors repeat the wrong value.

mod error;
mod fields;
mod generic;
mod ids;
mod layout;
mod options;
mod reader;
mod receipt;
mod receipt_items;
pub mod table;
#[cfg(test)]
mod tests;

pub use error::RecordError;
pub use ids::document_id;
pub use options::RecordsOptions;
pub use reader::{Records, Shape};
pub use table::TableOptions;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use docweir_core::documents::Sha256Hex;

/// Holds one text to embed, with its key and metadata.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// Entity key: `IMAGE#{uuid}#RECEIPT#{5 digits}#LINE#{5 digits}` for a line, with `#WORD#{5 digits}` appended for
    /// a word; the id itself for a generic record. Unique in its file if the file's ids are unique.
    pub key: String,
    pub kind: ItemKind,
    /// Exact text to embed. Empty only for noise.
    pub input: String,
    /// Text to show. The metadata does not repeat it.
    pub text: String,
    pub metadata: Map<String, Value>,
    /// True if the item is not embedded.
    pub noise: bool,
}

impl Item {
    /// Returns the hash of the input. It changes exactly when the item's input changes.
    pub fn input_hash(&self) -> Sha256Hex {
        Sha256Hex::of(self.input.as_bytes())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ItemKind {
    Line,
    Word,
    Record,
}

impl ItemKind {
    pub fn name(self) -> &'static str {
        match self {
            ItemKind::Line => "line",
            ItemKind::Word => "word",
            ItemKind::Record => "record",
        }
    }

    /// Returns whether `kind` is the name of an item kind. Rows of other kinds are not records.
    pub fn is_name(kind: &str) -> bool {
        [ItemKind::Line, ItemKind::Word, ItemKind::Record].iter().any(|k| k.name() == kind)
    }

    /// Returns the collection of items of this kind. `None` for generic records, whose collection the caller chooses.
    pub fn collection(self) -> Option<&'static str> {
        match self {
            ItemKind::Line => Some("receipt_lines"),
            ItemKind::Word => Some("receipt_words"),
            ItemKind::Record => None,
        }
    }
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
