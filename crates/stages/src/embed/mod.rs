//! Embedding: a unit-length vector for each chunk.
//!
//! [`Embedder`] is who makes vectors: a model on this machine ([`LocalEmbedder`]), no model at all
//! ([`HashedEmbedder`], for tests and benchmarks), an endpoint (`providers::openai`). [`embed_document`] does a document: it asks the
//! cache first, embeds only what is missing, checks what comes back, and never cuts a text in silence.

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

/// Texts that are being embedded.
pub type InFlight = in_flight::InFlight<Vec<f32>>;

/// For whom vectors are made, and whether they are still wanted.
#[derive(Clone, Copy, Debug)]
pub struct Call<'c> {
    /// A document's id, or what else the ledger are to say.
    pub subject: &'c str,
    /// The collection that they come into: whose turn a call is, and whose ledger. `None` for that of documents.
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

/// Who makes vectors. Shared by all workers.
#[async_trait]
pub trait Embedder: Send + Sync + 'static {
    /// What the vectors are comparable with.
    fn identity(&self) -> &ModelIdentity;

    /// Most tokens of one text, special tokens included.
    fn window(&self) -> usize;

    /// Tokens of a text that it represents best, special tokens included: chunks aim at so many.
    fn best_tokens(&self) -> usize {
        self.window()
    }

    /// Tokens of a text with the model's own tokenizer, special tokens included, however many there are.
    fn count_tokens(&self, text: &str) -> usize;

    /// Texts, and tokens, that one call takes at most.
    fn most(&self) -> (usize, u64) {
        (usize::MAX, u64::MAX)
    }

    /// Whether a text over the window is embedded in parts; otherwise its document is refused.
    fn splits_long_texts(&self) -> bool {
        true
    }

    /// Languages that the model knows, as ISO 639-3 codes; empty when it knows all, or none in particular.
    fn languages(&self) -> &[&'static str] {
        &[]
    }

    /// How many documents it does best at a time; `None` where it is like any stage that computes.
    fn at_a_time(&self) -> Option<usize> {
        None
    }

    /// What stands before its calls, where they are a provider's.
    fn admission(&self) -> Option<Arc<Admission>> {
        None
    }

    /// A vector of unit length for each text, in their order. Each text fits the window. What was made and paid is handed
    /// over, whatever became of the others.
    ///
    /// # Errors
    /// Where nothing was made. By class: throttled, transient, timeout (also when cancelled), crash, permanent, as the
    /// retry decision needs it.
    async fn embed(&self, texts: Vec<String>, call: Call<'_>) -> Result<EmbedBatch, StageError>;
}

/// An embedder's tokenizer, as chunking and enrichment see it.
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

/// Vectors and what they took.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct EmbedBatch {
    /// Of each text its vector, or why it has none.
    pub vectors: Vec<Result<Vec<f32>, StageError>>,
    pub tokens: u64,
    pub cost_usd: f64,
}

/// Of what became of texts that belong together the error that decides: while another try may help, a text that is
/// refused for ever does not.
pub fn deciding<'r, T: 'r>(results: impl IntoIterator<Item = &'r Result<T, StageError>>) -> Option<StageError> {
    let rank = |error: &&StageError| match error.class {
        ErrorClass::System => 0,
        ErrorClass::Permanent => 2,
        _ => 1,
    };
    results.into_iter().filter_map(|result| result.as_ref().err()).min_by_key(rank).cloned()
}
