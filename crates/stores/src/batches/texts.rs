//! Manages texts of documents. A document requests vectors of its texts, waits for the vectors, and takes them.
//!
//! Requests are idempotent, so waking a document too early costs nothing.

use async_trait::async_trait;
use docweir_core::documents::Sha256Hex;

use super::{Result, Space, Text, TextLookup};

/// Lets documents wait for vectors of their texts.
#[async_trait]
pub trait DocumentTexts: Send + Sync + 'static {
    /// Requests vectors of texts for a document, and enqueues texts that are not known yet. Repeat the call to get the
    /// vectors that have arrived since.
    async fn ask(&self, document: &str, space: &Space, texts: Vec<Text>) -> Result<TextLookup>;

    /// Records that the document has taken its vectors, or no longer needs them.
    async fn taken(&self, document: &str) -> Result<()>;

    /// Stores vectors of a document's texts that were embedded with live calls, so that these texts are not paid for
    /// again.
    async fn made_live(&self, document: &str, space: &Space, made: Vec<(Sha256Hex, Vec<f32>)>) -> Result<()>;

    /// Lists documents that wait for vectors of a model other than the model of `space`. If `space` is `None`, lists
    /// all documents that wait for vectors. These vectors are no longer computed, so the listed documents would wait
    /// forever.
    async fn documents_of_other_models(&self, space: Option<&Space>, limit: usize) -> Result<Vec<String>>;

    /// Lists at most `limit` documents that need not wait any longer, because none of their texts is open or because
    /// live calls were requested for them. The list is in order of the documents' names and begins after `after`.
    async fn ready(&self, after: &str, limit: usize) -> Result<Vec<String>>;

    /// Returns whether a document waits for texts.
    async fn is_waiting(&self, document: &str) -> Result<bool>;

    /// Requests that documents embed their waiting texts with live calls, because too few texts of the space wait to
    /// fill a batch. Returns the number of documents.
    async fn send_live(&self, space: &Space) -> Result<u64>;
}
