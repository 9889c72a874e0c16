//! Embeds chunks: computes a vector of unit length for each chunk.
//!
//! [`Embedder`] is the trait that all embedders implement. [`LocalEmbedder`] runs a model on this machine, and
//! `providers::openai` calls an endpoint. [`HashedEmbedder`] needs no model; it is for tests and benchmarks.
//! [`embed_document`] embeds one document. It reads the cache first, embeds only the missing texts, checks the returned
//! vectors, and never truncates a text silently.

pub mod artefact;
mod document;
mod fetch;
mod hashed;
mod local;
mod options;
mod packing;
mod window;

use std::sync::Arc;

use async_trait::async_trait;

use docweir_admission::Admission;
use docweir_core::cancel::Cancel;
use docweir_core::error::{ErrorClass, StageError};
use docweir_core::model::ModelIdentity;

pub use document::{embed_document, embed_texts};
pub use fetch::{FetchProgress, ModelFiles, ensure_model, has_model};
pub use hashed::HashedEmbedder;
pub use local::LocalEmbedder;
pub use options::{EmbedOptions, ModelOptions};
pub use packing::packed;

use crate::chunk::TokenCounter;
use crate::in_flight;

/// Tracks the texts that are being embedded now.
pub type InFlight = in_flight::InFlight<Vec<f32>>;

/// Holds the context of one embedding call: its label in the ledger, its collection and its cancellation.
#[derive(Clone, Copy, Debug)]
pub struct Call<'c> {
    /// Document id, or another label under which the ledger records the call.
    pub subject: &'c str,
    /// Collection that will contain the vectors. The call is queued under the collection's fair-queue key, and its cost
    /// is charged to the collection. `None` means the collection of documents.
    pub collection: Option<&'c str>,
    pub cancel: &'c Cancel,
}

#[cfg(any(test, feature = "testing"))]
impl Call<'static> {
    pub fn for_a_test() -> Self {
        static WANTED: std::sync::LazyLock<Cancel> = std::sync::LazyLock::new(Cancel::default);
        Self { subject: "a test", collection: None, cancel: &WANTED }
    }
}

/// Makes vectors from texts. All workers share one embedder.
#[async_trait]
pub trait Embedder: Send + Sync + 'static {
    /// Returns the model's identity; only vectors of the same identity are comparable.
    fn identity(&self) -> &ModelIdentity;

    /// Returns the maximum number of tokens of one text, special tokens included.
    fn window(&self) -> usize;

    /// Returns the text length, in tokens, at which the model works best, special tokens included. Chunks aim at this
    /// length.
    fn best_tokens(&self) -> usize {
        self.window()
    }

    /// Counts the tokens of a text with the model's own tokenizer, special tokens included, without any limit.
    fn count_tokens(&self, text: &str) -> usize;

    /// Returns the maximum number of texts and the maximum number of tokens in one call.
    fn most(&self) -> (usize, u64) {
        (usize::MAX, u64::MAX)
    }

    /// Returns whether a text that exceeds the window is embedded in parts. If false, a document with such a text is
    /// refused.
    fn splits_long_texts(&self) -> bool {
        true
    }

    /// Returns the languages that the model supports, as ISO 639-3 codes. An empty list means that the model is not
    /// limited to certain languages.
    fn languages(&self) -> &[&'static str] {
        &[]
    }

    /// Returns the number of documents that this embedder should embed concurrently. `None` means that the processor is
    /// the limit; the number of workers then depends on the number of cores.
    fn at_a_time(&self) -> Option<usize> {
        None
    }

    /// Returns the admission control that limits the calls to a provider, or `None` if the embedder calls no provider.
    fn admission(&self) -> Option<Arc<Admission>> {
        None
    }

    /// Returns a vector of unit length for each text, in order. Each text must fit the window. Vectors that were
    /// computed or paid for are returned even if other texts failed.
    ///
    /// # Errors
    /// Fails if no vector was computed. The class of the error decides about a retry: throttled, transient, timeout
    /// (also after cancellation), crash or permanent.
    async fn embed(&self, texts: Vec<String>, call: Call<'_>) -> Result<EmbedBatch, StageError>;
}

/// Provides an embedder's tokenizer to chunking and enrichment.
pub struct Tokens(pub Arc<dyn Embedder>);

impl TokenCounter for Tokens {
    fn count(&self, text: &str) -> usize {
        self.0.count_tokens(text)
    }

    fn window(&self) -> usize {
        self.0.window()
    }

    fn best(&self) -> usize {
        self.0.best_tokens()
    }
}

/// Holds vectors with their tokens and cost.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EmbedBatch {
    /// Vector of each text, or the error of a text that could not be embedded.
    pub vectors: Vec<Result<Vec<f32>, StageError>>,
    pub tokens: u64,
    pub cost_usd: f64,
}

/// Returns the error to report for a group of texts, or `None` if no text failed. System errors and outages take
/// precedence, and permanent errors come last. A permanently refused text must not fail the whole group while a retry may help other
/// texts.
pub fn deciding<'r, T: 'r>(results: impl IntoIterator<Item = &'r Result<T, StageError>>) -> Option<StageError> {
    let rank = |error: &&StageError| match error.class {
        ErrorClass::System | ErrorClass::Unavailable => 0,
        ErrorClass::Permanent => 2,
        _ => 1,
    };
    results.into_iter().filter_map(|result| result.as_ref().err()).min_by_key(rank).cloned()
}
