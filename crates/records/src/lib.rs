//! Reads files that contain one small record on each line. A record is a receipt from OCR, with its lines and words,
//! or any other JSON object. Records need no extraction and no chunking. Each record becomes one or more items, and
//! each item is embedded unchanged.
//!
//! ```text
//! file ─reader─▶ lines ─┬─ receipt ─layout─▶ items of lines and words
//!                       └─ generic ────────▶ one item
//! ```
//! * `reader`: reads a file line by line, with line numbers, in constant memory; `opened`: decompresses files;
//! * `repeated_keys`: finds keys that an object has twice; [`repeated_ids`]: finds ids that an input has twice;
//! * `fields`: reads single fields of a JSON object;
//! * `receipt`: parses and checks a receipt; `layout`: finds neighbours and rows on it;
//! * `receipt_items`: turns a receipt into items; `generic`: turns any other object into an item;
//! * [`table`]: assembles receipts whose lines and words are items of a table;
//! * `ids`: builds entity keys and the document ids derived from them.
//!
//! The same rules hold for all files. A line that is not blank either yields items or is refused. A refusal names the
//! line number and the invalid field. A bad record never affects another record. Errors never repeat a record's
//! values. If a key occurs twice in an object, its last value counts. If an id occurs twice in an input, its last
//! record counts. Numbers keep all their digits.
//!
//! **Noise** is not embedded. A line or word is noise if `is_noise` is true, if `embedding_status` is `NOISE`, or if
//! its text has no letter and no digit. The last rule applies even if `is_noise` is false, because exporting programs
//! write false for every item that nobody has marked. A generic record is noise if its text is blank.
//!
//! Trade-off: a record is first parsed into a JSON tree, and its fields are then read one by one. Parsing directly
//! into structures with serde's `derive` would be faster, but its error messages quote the invalid value.

mod error;
mod fields;
mod generic;
mod ids;
mod layout;
mod opened;
mod options;
mod reader;
mod receipt;
mod receipt_items;
pub mod repeated_ids;
mod repeated_keys;
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
    /// Entity key of the item. The key of a line is `IMAGE#{uuid}#RECEIPT#{5 digits}#LINE#{5 digits}`; the key of a
    /// word has `#WORD#{5 digits}` appended. The key of a generic record is its id. Keys are unique within a file if
    /// the ids in the file are unique.
    pub key: String,
    pub kind: ItemKind,
    /// Exact text to embed. It may be empty only if the item is noise.
    pub input: String,
    /// Text to show in results. The metadata does not repeat this text.
    pub text: String,
    pub metadata: Map<String, Value>,
    /// True if the item is noise. Noise is not embedded.
    pub noise: bool,
}

impl Item {
    /// Returns the hash of the input. A different hash means that the input has changed.
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

    /// Returns whether `kind` is the name of an item kind. Search hits of other kinds do not come from records.
    pub fn is_name(kind: &str) -> bool {
        [ItemKind::Line, ItemKind::Word, ItemKind::Record].iter().any(|k| k.name() == kind)
    }

    /// Returns the collection in which items of this kind are stored. Returns `None` for generic records, because the
    /// caller chooses their collection.
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
