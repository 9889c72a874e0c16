//! Enrichment: what a passage is about, found by rule and statistics, and personal data written over where asked.
//!
//! An [`Enricher`] takes chunks and gives them back with findings. [`LocalEnricher`] needs no service;
//! [`ComprehendEnricher`] asks one beside it. It looks at the whole text: personal data is searched in the text of all chunks joined, so that
//! a number which a chunk boundary cuts is found in both halves, and in every heading path. With redaction on, that
//! comes first, and everything after it (language, phrases, entities, patterns, and all that is downstream) sees the
//! placeholders only.
//!
//! Trade-offs. Where a rule can't be sure it is silent: a name is never personal data here. Without redaction the
//! text keeps its personal data, but no finding copies it. Chunks keep their ids when they are redacted, so that an
//! id means the same passage in every stage; only one that must be divided for the embedder's window gets new ones.

pub mod comprehend;
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

pub use comprehend::{ComprehendEnricher, ComprehendOptions};
pub use local::LocalEnricher;
pub use options::{EnrichOptions, EnrichProvider};
pub use personal::KINDS as PERSONAL_DATA_KINDS;
pub use statistics::Statistics;

use async_trait::async_trait;
use tokio::time::Instant;

use docweir_core::cancel::Cancel;
use docweir_core::error::StageError;
use docweir_core::model::Chunks;
use docweir_core::money::Nanodollars;

/// For whom chunks are enriched, and whether they are still wanted.
#[derive(Clone, Copy, Debug)]
pub struct Call<'c> {
    /// A document's id, or what else the ledger are to say.
    pub subject: &'c str,
    pub cancel: &'c Cancel,
    pub began: Instant,
}

impl<'c> Call<'c> {
    /// Begins now.
    pub fn new(subject: &'c str, cancel: &'c Cancel) -> Self {
        Self { subject, cancel, began: Instant::now() }
    }
}

/// Chunks with what was found, and what that took.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Enriched {
    pub chunks: Chunks,
    pub usage: Usage,
}

/// What a service was asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Requests that were answered.
    pub calls: u64,
    /// What the service counts and charges.
    pub units: u64,
    pub cost: Nanodollars,
}

impl std::ops::AddAssign for Usage {
    fn add_assign(&mut self, other: Self) {
        self.calls += other.calls;
        self.units += other.units;
        self.cost += other.cost;
    }
}

/// Adds findings to chunks.
#[async_trait]
pub trait Enricher: Send + Sync {
    /// For logs, metrics and the configuration fingerprint: `local`, `comprehend`.
    fn name(&self) -> &str;

    /// Whether a service is asked for money.
    fn is_paid(&self) -> bool {
        false
    }

    /// How many documents it does best at a time; `None` where it is like any stage that computes.
    fn at_a_time(&self) -> Option<usize> {
        None
    }

    /// The chunks with what was found. May redact, never reorders.
    async fn enrich(&self, chunks: Chunks, call: Call<'_>) -> Result<Enriched, StageError>;
}
