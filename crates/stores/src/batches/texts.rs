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
    /// vectors that have arrived since the previous call.
    async fn ask(&self, document: &str, space: &Space, texts: Vec<Text>) -> Result<TextLookup>;

    /// Records that the document has taken its vectors, or no longer needs them.
    async fn taken(&self, document: &str) -> Result<()>;

    /// Stores the vectors that live calls have computed for a document's texts, so that the texts are not paid for
    /// again.
    async fn made_live(&self, document: &str, space: &Space, made: Vec<(Sha256Hex, Vec<f32>)>) -> Result<()>;

    /// Lists documents that would wait forever, because the vectors that they wait for are no longer computed. Vectors
    /// are still computed for the model of `space`, but for no other model. If `space` is `None`, no vectors are
    /// computed any more, and all waiting documents are listed.
    async fn documents_of_other_models(&self, space: Option<&Space>, limit: usize) -> Result<Vec<String>>;

    /// Lists at most `limit` documents that need not wait any longer. A document need not wait if none of its texts is
    /// open, or if live calls were requested for the document. The list is in order of the documents' names and begins
    /// after the name `after`.
    async fn ready(&self, after: &str, limit: usize) -> Result<Vec<String>>;

    /// Returns whether a document waits for texts.
    async fn is_waiting(&self, document: &str) -> Result<bool>;

    /// Requests live calls for all documents with waiting texts in `space`. Call this if the space has too few waiting
    /// texts to fill a batch. Returns the number of documents.
    async fn send_live(&self, space: &Space) -> Result<u64>;
}
