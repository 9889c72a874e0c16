//! Small records: the lines and words of receipts that OCR read, or any JSON objects, one on each line of a file.
//! A record needs no extraction and no chunking: it becomes items, and each item is embedded as it is.
//!
//! ```text
//! file ─reader─▶ lines ─┬─ receipt ─layout─▶ items of lines and words
//!                       └─ generic ────────▶ one item
//! ```
//! * `reader`: a file as lines, in flat memory, each with its number;
//! * `fields`: one field of a JSON object, refused by its name;
//! * `receipt`: what a receipt holds, checked; `layout`: what stands beside and above what on it;
//! * `receipt_items`: a receipt as items; `generic`: any other object as an item;
//! * [`table`]: receipts whose lines and words are items of a table;
//! * `ids`: entity keys, and the document ids that stand for them in the vector store.
//!
//! What holds for every file: each line that isn't blank is either items or refused, with its number and the name of
//! the field that is wrong; one bad record never costs another; no error repeats what a record says.
//!
//! **Noise** is what is not embedded. A line or word is noise if its record says so (`is_noise` is true or
//! `embedding_status` is `NOISE`), or if no letter and no digit stands in it. A false `is_noise` makes no lone `:`
//! worth embedding: exporters write it for whatever nobody has marked. A generic record is noise if its text is blank.
//!
//! Trade-off. A record is read as a JSON tree and then field by field, where derived structures would be faster: their
//! errors repeat the value that is wrong.

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

/// What is embedded and found.
#[derive(Clone, Debug, PartialEq)]
pub struct Item {
    /// `IMAGE#{uuid}#RECEIPT#{5 digits}#LINE#{5 digits}`, for a word `#WORD#{5 digits}` besides; the id of a generic
    /// record. Unique in its file, if the file's ids are.
    pub key: String,
    pub kind: ItemKind,
    /// The text to embed, exactly. Empty only for noise.
    pub input: String,
    /// The text to show. It doesn't stand in the metadata.
    pub text: String,
    pub metadata: Map<String, Value>,
    /// Not to be embedded.
    pub noise: bool,
}

impl Item {
    /// Changes if and only if the item's vector would.
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

    /// Whether a row of this kind is a record.
    pub fn is_name(kind: &str) -> bool {
        [ItemKind::Line, ItemKind::Word, ItemKind::Record].iter().any(|k| k.name() == kind)
    }

    /// The collection that it belongs to; that of generic records is the caller's to name.
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
