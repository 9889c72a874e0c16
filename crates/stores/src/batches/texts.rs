//! Texts of documents: a document asks for vectors, waits, and takes them.
//!
//! Asking again is the same question, so waking a document too early costs nothing.

use async_trait::async_trait;
use docweir_core::documents::Sha256Hex;

use super::{Result, Space, Text, TextLookup};

/// Documents that wait for vectors of their texts.
#[async_trait]
pub trait DocumentTexts: Send + Sync + 'static {
    /// Asks for texts in a document's name, and puts those that nobody has asked for yet. Asked again it answers with
    /// what is known by then.
    async fn ask(&self, document: &str, space: &Space, texts: Vec<Text>) -> Result<TextLookup>;

    /// Records that the document has its vectors, or needs them no more.
    async fn taken(&self, document: &str) -> Result<()>;

    /// Keeps vectors of a document's texts that were embedded at once, so that they are not paid for again.
    async fn made_live(&self, document: &str, space: &Space, made: Vec<(Sha256Hex, Vec<f32>)>) -> Result<()>;

    /// Lists documents that wait for texts of another model, or for any where there is none: nothing will come for them.
    async fn documents_of_other_models(&self, space: Option<&Space>, limit: usize) -> Result<Vec<String>>;

    /// Lists documents that need not wait any longer, in order of their names, after one.
    async fn ready(&self, after: &str, limit: usize) -> Result<Vec<String>>;

    /// Returns whether a document waits for texts.
    async fn is_waiting(&self, document: &str) -> Result<bool>;

    /// Makes documents embed a space's waiting texts themselves, since those are not worth a batch. Returns how many
    /// documents they are.
    async fn send_live(&self, space: &Space) -> Result<u64>;
}
