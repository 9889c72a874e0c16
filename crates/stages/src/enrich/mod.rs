//! Enriches chunks with findings from rules and statistics, and redacts personal data if configured.
//!
//! An [`Enricher`] takes chunks and returns them with findings. [`LocalEnricher`] needs no service;
//! [`ComprehendEnricher`] also calls Amazon Comprehend. Personal data is searched in the joined text of all chunks, and
//! in every heading path. A number that a chunk boundary cuts is therefore found, and marked in both chunks. If
//! redaction is on, it comes first. Everything after redaction (language, phrases, entities, patterns, and all later
//! stages) sees only the placeholders.
//!
//! Trade-offs. A rule that is not certain reports nothing; for example, the local rules never report a name as personal
//! data. Without redaction, the text keeps its personal data, but no finding copies it. Chunks keep their ids when they
//! are redacted, so an id identifies the same passage in every stage. Only a chunk that must be divided to fit the
//! embedder's window gets new ids.

pub mod comprehend;
mod entities;
mod fields;
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

/// Holds the context of one enrichment call: the document, the cancellation and the start time.
#[derive(Clone, Copy, Debug)]
pub struct Call<'c> {
    /// Document id, or another label under which the ledger records the call.
    pub subject: &'c str,
    pub cancel: &'c Cancel,
    pub began: Instant,
}

impl<'c> Call<'c> {
    /// Creates a call that starts now.
    pub fn new(subject: &'c str, cancel: &'c Cancel) -> Self {
        Self { subject, cancel, began: Instant::now() }
    }
}

/// Holds enriched chunks, and the usage of the calls that enriched them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Enriched {
    pub chunks: Chunks,
    pub usage: Usage,
}

/// Counts the requests and cost of calls to a service.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Usage {
    /// Number of requests that were answered.
    pub calls: u64,
    /// Number of units that the service counted and charged.
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
    /// Returns the enricher's name for logs, metrics and the configuration fingerprint: `local` or `comprehend`.
    fn name(&self) -> &str;

    /// Returns whether enriching calls a service that charges money.
    fn is_paid(&self) -> bool {
        false
    }

    /// Returns the number of documents that this enricher should process concurrently. `None` means that the processor
    /// is the limit; the number of workers then depends on the number of cores.
    fn at_a_time(&self) -> Option<usize> {
        None
    }

    /// Adds findings to `chunks`. May redact the text of chunks, but never reorders chunks.
    async fn enrich(&self, chunks: Chunks, call: Call<'_>) -> Result<Enriched, StageError>;
}
