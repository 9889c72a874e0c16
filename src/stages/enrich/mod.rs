//! Enrichment: what a passage is about, found by rule and statistics, and personal data written over where asked.
//!
//! An [`Enricher`] takes chunks and gives them back with findings; several can follow each other. [`LocalEnricher`]
//! needs no service. It looks at the whole text: personal data is searched in the text of all chunks joined, so that
//! a number which a chunk boundary cuts is found in both halves, and in every heading path. With redaction on, that
//! comes first, and everything after it (language, phrases, entities, patterns, and all that is downstream) sees the
//! placeholders only.
//!
//! Trade-offs. Where a rule can't be sure it is silent: a name is never personal data here. Without redaction the
//! text keeps its personal data, but no finding copies it. Chunks keep their ids when they are redacted, so that an
//! id means the same passage in every stage; only one that must be divided for the embedder's window gets new ones.

mod entities;
mod language;
mod local;
mod matches;
mod options;
mod patterns;
mod personal;
mod phrases;
mod redact;
mod statistics;
mod stopwords;
#[cfg(test)]
mod tests;

pub use local::LocalEnricher;
pub use options::EnrichOptions;
pub use personal::KINDS as PERSONAL_DATA_KINDS;
pub use statistics::Statistics;

use async_trait::async_trait;

use crate::error::StageError;
use crate::stages::Cancel;
use crate::stages::model::Chunks;

/// Adds findings to chunks.
#[async_trait]
pub trait Enricher: Send + Sync {
    /// For logs, metrics and the configuration fingerprint: `local`, `comprehend`.
    fn name(&self) -> &str;

    /// The chunks with what was found. May redact, never reorders.
    async fn enrich(&self, chunks: Chunks, cancel: &Cancel) -> Result<Chunks, StageError>;
}
