//! A snapshot: the rows of many commits, merged, in one immutable file that is mapped and not read.
//!
//! ```text
//! magic, 64 bytes │ section │ section │ … │ directory (JSON) │ trailer, 24 bytes
//! ```
//! A section is one column, at a multiple of 64 bytes, little-endian numbers as they lie in memory. The directory names
//! each with its place and its CRC-32 and says what the snapshot is made of; the trailer says where the directory is.
//! Opening reads the directory and looks at nothing else, so a million rows open as fast as ten.
//!
//! Documents lie in the order of their ids, the rows of each side by side.
//!
//! # Trade-offs
//! The checksums of the sections are looked at by a merge, by `docweir store verify`, and on opening while the file is
//! small ([`VectorOptions::verify_bytes`](super::VectorOptions)): reading a gigabyte to answer one question would cost
//! more than it is worth. What is damaged in a large file gives wrong or empty answers until then, never a crash.

mod read;
mod write;

use docweir_core::model::ModelIdentity;
use serde::{Deserialize, Serialize};

pub use read::{Snapshot, directory, image_of};
pub use write::SnapshotWriter;

use super::options::Stemming;

/// The newest format of a snapshot that this program reads, and the one that it writes.
pub const FORMAT: u32 = 1;

const MAGIC: &[u8; 8] = b"docweir\x01";
/// Sections begin at multiples of it: a cache line, and what the widest vector instructions like best.
const ALIGNMENT: u64 = 64;
/// Length of the directory (8), its CRC-32 (4), zero (4), magic (8).
pub const TRAILER_BYTES: usize = 24;

/// What a snapshot is, and where its sections are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Directory {
    #[serde(flatten)]
    pub header: SnapshotHeader,
    pub sections: Vec<SectionEntry>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct SnapshotHeader {
    pub format: u32,
    #[serde(flatten)]
    pub origin: Origin,
    pub rows: u64,
    /// Document versions, tombstones not counted.
    pub documents: u64,
    pub tombstones: u64,
    /// Of the full-text index: how words are stemmed, and the version of how they are told from each other.
    pub stemming: Stemming,
    pub tokens_version: u32,
    /// Of the codes: the version of their making. Others are made anew from the vectors.
    pub codes_version: u32,
}

/// Where a snapshot comes from.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    pub collection: String,
    pub generation: u32,
    pub model: ModelIdentity,
    /// The manifest version that the merge was planned on.
    pub base_version: u64,
    pub created_at: String,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SectionEntry {
    pub name: String,
    pub offset: u64,
    pub bytes: u64,
    pub crc32: u32,
}

/// The names of the sections, once for writing and reading.
pub mod section {
    pub const DOCUMENT_IDS: [&str; 2] = ["document_id_offsets", "document_ids"];
    pub const DOCUMENT_VERSIONS: &str = "document_versions";
    pub const DOCUMENT_STARTS: &str = "document_starts";
    pub const DOCUMENT_TOMBSTONES: &str = "document_tombstones";
    pub const DOCUMENT_SOURCES: [&str; 2] = ["document_source_offsets", "document_sources"];
    /// Only in files that hold a document with a parent. Programs that don't know it pass over it.
    pub const DOCUMENT_PARENTS: [&str; 2] = ["document_parent_offsets", "document_parents"];
    pub const DOCUMENT_FACTS: [&str; 2] = ["document_facts_offsets", "document_facts"];
    pub const CHUNK_IDS: [&str; 2] = ["chunk_id_offsets", "chunk_ids"];
    pub const TEXTS: [&str; 2] = ["text_offsets", "texts"];
    pub const METADATA: [&str; 2] = ["metadata_offsets", "metadata"];
    pub const KINDS: [&str; 3] = ["kind_codes", "kind_offsets", "kinds"];
    pub const LANGUAGES: [&str; 3] = ["language_codes", "language_offsets", "languages"];
    pub const HEADINGS: [&str; 3] = ["heading_codes", "heading_offsets", "headings"];
    pub const ORDINALS: &str = "ordinals";
    pub const PAGE_FIRST: &str = "page_first";
    pub const PAGE_LAST: &str = "page_last";
    pub const TOKENS: &str = "tokens";
    pub const SPANS: &str = "spans";
    pub const BOX_STARTS: &str = "box_starts";
    pub const BOX_PAGES: &str = "box_pages";
    pub const BOX_SIDES: &str = "box_sides";
    pub const VECTORS: &str = "vectors";
    pub const CODES: &str = "codes";
    pub const TERMS: [&str; 2] = ["term_offsets", "terms"];
    pub const POSTING_STARTS: &str = "posting_starts";
    pub const POSTING_FREQUENCIES: &str = "posting_frequencies";
    pub const POSTING_LISTS: &str = "posting_lists";
    pub const ROW_LENGTHS: &str = "row_lengths";
}

#[cfg(target_endian = "big")]
compile_error!("snapshots are mapped as little-endian numbers");
