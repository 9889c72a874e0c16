//! Manages texts of documents: a document requests vectors, waits, and takes them.
//!
//! Requests are idempotent, so waking a document too early costs nothing.

use async_trait::async_trait;
use docweir_core::documents::Sha256Hex;

use super::{Result, Space, Text, TextLookup};

/// Lets documents wait for vectors of their texts.
#[async_trait]
pub trait DocumentTexts: Send + Sync + 'static {
    /// Requests vectors of texts for a document, and enqueues texts that are not known yet. A repeated call returns
    /// the vectors that are known by then.
    async fn ask(&self, document: &str, space: &Space, texts: Vec<Text>) -> Result<TextLookup>;

    /// Records that the document has taken its vectors, or no longer needs them.
    async fn taken(&self, document: &str) -> Result<()>;

    /// Stores vectors of a document's texts that were embedded live, so that they are not paid for again.
    async fn made_live(&self, document: &str, space: &Space, made: Vec<(Sha256Hex, Vec<f32>)>) -> Result<()>;

    /// Lists documents that wait for texts of a model other than `space`'s, or for any text if `space` is `None`.
    /// They would wait forever.
    async fn documents_of_other_models(&self, space: Option<&Space>, limit: usize) -> Result<Vec<String>>;

    /// Lists at most `limit` documents that need not wait any longer, in order of their names, after `after`.
    async fn ready(&self, after: &str, limit: usize) -> Result<Vec<String>>;

    /// Returns whether a document waits for texts.
    async fn is_waiting(&self, document: &str) -> Result<bool>;

    /// Makes documents embed a space's waiting texts themselves, because there are too few for a batch. Returns the
    /// number of documents.
    async fn send_live(&self, space: &Space) -> Result<u64>;
}
