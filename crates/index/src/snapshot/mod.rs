//! Defines snapshots. A snapshot holds the merged rows of many commits in one immutable file, which is memory-mapped.
//!
//! ```text
//! magic, 64 bytes │ section │ section │ … │ directory (JSON) │ trailer, 24 bytes
//! ```
//! A section is one column. A section begins at a multiple of 64 bytes and holds its numbers in the memory format,
//! which is little-endian. The directory describes the content, and lists the offset and the CRC-32 of each section.
//! The trailer locates the directory. Opening reads only the directory, so a million rows open as fast as ten.
//!
//! Documents are sorted by id, and the rows of a document are adjacent.
//!
//! # Trade-offs
//! Every merge and the command `docweir store verify` verify the checksums of all sections. Opening a file verifies
//! the checksums only if the file is small ([`VectorOptions::verify_bytes`](super::VectorOptions)), because reading a
//! gigabyte for one query would be too slow. Until a verification, damage in a large file causes wrong or empty
//! results, never a crash.

mod read;
mod write;

use docweir_core::model::ModelIdentity;
use serde::{Deserialize, Serialize};

pub use read::{Snapshot, directory, image_of};
pub use write::SnapshotWriter;

use super::options::Stemming;

/// Newest format of a snapshot that this program reads, and the format that it writes.
pub const FORMAT: u32 = 1;

const MAGIC: &[u8; 8] = b"docweir\x01";
/// Alignment of sections in bytes: a cache line, and the best alignment for the widest vector instructions.
const ALIGNMENT: u64 = 64;
/// Size of the trailer in bytes: length of the directory (8), its CRC-32 (4), zero (4), magic (8).
pub const TRAILER_BYTES: usize = 24;

/// Describes the content of a snapshot and the position of its sections.
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
    /// Number of document versions, not counting tombstones.
    pub documents: u64,
    pub tombstones: u64,
    /// Stemming of the stored full-text index.
    pub stemming: Stemming,
    /// Version of the tokenizer that built the stored full-text index.
    pub tokens_version: u32,
    /// Version of the stored codes. If this program uses another version, the codes are computed again from the
    /// vectors.
    pub codes_version: u32,
}

/// Describes the origin of a snapshot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Origin {
    pub collection: String,
    pub generation: u32,
    pub model: ModelIdentity,
    /// Manifest version that the merge had read when it selected its inputs.
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

/// Defines the names of the sections for writers and readers.
pub mod section {
    pub const DOCUMENT_IDS: [&str; 2] = ["document_id_offsets", "document_ids"];
    pub const DOCUMENT_VERSIONS: &str = "document_versions";
    pub const DOCUMENT_STARTS: &str = "document_starts";
    pub const DOCUMENT_TOMBSTONES: &str = "document_tombstones";
    /// Manifest version in which each tombstone became live. Present only if the file has tombstones. Older programs
    /// ignore this section, and then treat the tombstones as new as the file.
    pub const TOMBSTONES_ADDED: &str = "tombstones_added";
    pub const DOCUMENT_SOURCES: [&str; 2] = ["document_source_offsets", "document_sources"];
    /// Sections that hold the parent of each document. Present only if at least one document in the file has a
    /// parent. Older programs ignore these sections.
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
