//! Defines the identity of a document: its id, version, content hash and media type. It also defines the stages of
//! processing.

use std::fmt;
use std::str::FromStr;
use std::sync::atomic::{AtomicU32, Ordering};

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use time::OffsetDateTime;

use crate::clock::UnixMicros;

/// Identifies a document, in the form `doc_{YYYYMMDD}_{HHMMSS}_{8 hex digits}`. The id is created once for each
/// source. Code that reads an id must not interpret its parts.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DocumentId(String);

impl DocumentId {
    /// Creates an id for the time `at`. `random` distinguishes ids that are created in the same second.
    pub fn mint(at: UnixMicros, random: u32) -> Self {
        let t = OffsetDateTime::from_unix_timestamp(at.div_euclid(1_000_000)).unwrap_or(OffsetDateTime::UNIX_EPOCH);
        let (y, mo, d) = (t.year(), u8::from(t.month()), t.day());
        let (h, mi, s) = t.to_hms();
        Self(format!("doc_{y:04}{mo:02}{d:02}_{h:02}{mi:02}{s:02}_{random:08x}"))
    }

    /// Creates an id for the time `at`. Ids of one process are almost always in the order in which they were created, so
    /// that a store with an index of ids changes neighbouring places of the index. Two processes may create the same id,
    /// so check whether an id is taken.
    pub fn in_order(at: UnixMicros) -> Self {
        static NEXT: AtomicU32 = AtomicU32::new(0);
        // Twenty bits hold the microseconds of a second, and twelve bits count the ids in one microsecond.
        let micros = u32::try_from(at.rem_euclid(1_000_000)).unwrap_or_default();
        let start = std::process::id().wrapping_mul(0x9E37_79B9) >> 20;
        let number = NEXT.fetch_add(1, Ordering::Relaxed).wrapping_add(start) & 0xFFF;
        Self::mint(at, micros << 12 | number)
    }

    /// Parses an id that comes from outside. A valid id has 1 to 128 letters, digits, `_`, `-` and `.`, and does not
    /// begin with a dot, because it becomes part of object keys.
    pub fn parse(text: &str) -> Option<Self> {
        let safe = text.bytes().all(|b| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.'));
        (safe && (1..=128).contains(&text.len()) && !text.starts_with('.')).then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for DocumentId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Version number of a document. Each change of the document's content or of the configuration increases the number.
/// If several versions exist, the highest version takes precedence.
pub type Version = u64;

/// Holds a SHA-256 digest as lower-case hex.
#[derive(Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Sha256Hex(String);

impl Sha256Hex {
    pub fn of(bytes: &[u8]) -> Self {
        Self::from_digest(&Sha256::digest(bytes))
    }

    pub fn from_digest(digest: &[u8]) -> Self {
        use fmt::Write;
        let mut hex = String::with_capacity(2 * digest.len());
        for byte in digest {
            let _ = write!(hex, "{byte:02x}");
        }
        Self(hex)
    }

    /// Parses exactly 64 lower-case hexadecimal digits.
    pub fn parse(text: &str) -> Option<Self> {
        let hex = text.len() == 64 && text.bytes().all(|b| matches!(b, b'0'..=b'9' | b'a'..=b'f'));
        hex.then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Sha256Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl fmt::Debug for Sha256Hex {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

/// Names the five processing stages in order. The serialized names are the keys of the stage map in the control
/// record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Stage {
    Extraction,
    Chunking,
    Enrichment,
    Embedding,
    Loading,
}

impl Stage {
    pub const ALL: [Stage; 5] =
        [Stage::Extraction, Stage::Chunking, Stage::Enrichment, Stage::Embedding, Stage::Loading];

    pub fn name(self) -> &'static str {
        match self {
            Stage::Extraction => "extraction",
            Stage::Chunking => "chunking",
            Stage::Enrichment => "enrichment",
            Stage::Embedding => "embedding",
            Stage::Loading => "loading",
        }
    }

    /// Returns the verb that names the stage on the command line: `docweir stage chunk DOC`.
    pub fn verb(self) -> &'static str {
        match self {
            Stage::Extraction => "extract",
            Stage::Chunking => "chunk",
            Stage::Enrichment => "enrich",
            Stage::Embedding => "embed",
            Stage::Loading => "load",
        }
    }

    /// Returns the name of this stage in the control record. While this stage is the next to run, the field
    /// `current_stage` of the record has this value.
    pub fn current_stage(self) -> &'static str {
        match self {
            Stage::Extraction => "STAGE_1_EXTRACTION",
            Stage::Chunking => "STAGE_2_CHUNKING",
            Stage::Enrichment => "STAGE_3_ENRICHMENT",
            Stage::Embedding => "STAGE_4_EMBEDDING",
            Stage::Loading => "STAGE_5_LOADING",
        }
    }

    pub fn next(self) -> Option<Stage> {
        Stage::ALL.get(self as usize + 1).copied()
    }
}

impl FromStr for Stage {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        Stage::ALL
            .into_iter()
            .find(|s| s.name() == text || s.verb() == text)
            .ok_or_else(|| format!("unknown stage `{text}`: use extract, chunk, enrich, embed or load"))
    }
}

impl fmt::Display for Stage {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// Names the media type of a document. The type is detected from the content; the file name is ignored.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MediaType {
    #[serde(rename = "application/pdf")]
    Pdf,
    #[serde(rename = "text/markdown")]
    Markdown,
    #[serde(rename = "text/plain")]
    Text,
}

impl MediaType {
    pub fn as_str(self) -> &'static str {
        match self {
            MediaType::Pdf => "application/pdf",
            MediaType::Markdown => "text/markdown",
            MediaType::Text => "text/plain",
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ids_of_one_moment_differ_and_later_ones_come_after() {
        let at = 1_738_324_805_000_000;
        let ids: std::collections::HashSet<_> = (0..4_096).map(|_| DocumentId::in_order(at)).collect();
        assert_eq!(ids.len(), 4_096);
        assert!((1..20).all(|n| ids.iter().all(|id| *id < DocumentId::in_order(at + n))));
        assert!(DocumentId::in_order(at + 999_999) < DocumentId::in_order(at + 1_000_000));
    }

    #[test]
    fn ids_have_the_shape_of_the_system_that_this_one_replaces() {
        let id = DocumentId::mint(1_738_324_805_000_000, 0xabc123);
        assert_eq!(id.as_str(), "doc_20250131_120005_00abc123");
        assert!(DocumentId::parse("doc_20250131_abc123").is_some(), "opaque when read");
        for bad in ["", "../x", "a/b", ".hidden", "a b"] {
            assert!(DocumentId::parse(bad).is_none(), "{bad:?}");
        }
    }

    #[test]
    fn stages_run_in_order() {
        let mut seen = vec![Stage::Extraction];
        while let Some(next) = seen[seen.len() - 1].next() {
            seen.push(next);
        }
        assert_eq!(seen, Stage::ALL);
    }
}
