//! Opens the embedder for queries when the first query needs it.

use std::future::Future;
use std::sync::Arc;

use docweir_core::cancel::Cancel;
use docweir_core::error::StageError;
use docweir_stages::embed::{Call, Embedder};
use futures_util::FutureExt;
use futures_util::future::BoxFuture;
use tokio::sync::OnceCell;

use super::error::{Cause, SearchError};

type Opening = BoxFuture<'static, Result<Arc<dyn Embedder>, Cause>>;

/// Opens an embedder once, on first use. Full-text search never opens the embedder and therefore needs no model, no key
/// and no network.
pub struct LazyEmbedder {
    open: Box<dyn Fn() -> Opening + Send + Sync>,
    opened: OnceCell<Arc<dyn Embedder>>,
}

impl LazyEmbedder {
    /// Stores the function `open`, which is called when the embedder is needed for the first time. If `open` fails,
    /// the next query calls `open` again.
    pub fn new<F>(open: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Arc<dyn Embedder>, Cause>> + Send + 'static,
    {
        Self { open: Box::new(move || open().boxed()), opened: OnceCell::new() }
    }

    /// Wraps an embedder that is open already.
    pub fn ready(embedder: Arc<dyn Embedder>) -> Self {
        Self::new(move || std::future::ready(Ok(embedder.clone())))
    }

    pub(super) async fn get(&self) -> Result<Arc<dyn Embedder>, SearchError> {
        let opened = self.opened.get_or_try_init(|| (self.open)()).await;
        opened.cloned().map_err(SearchError::NoEmbedder)
    }
}

/// Returns an error if a text exceeds the token limit of the model.
pub(super) fn fits(embedder: &dyn Embedder, text: &str) -> Result<(), SearchError> {
    let (tokens, window) = (embedder.count_tokens(text), embedder.window());
    match tokens > window {
        true => Err(SearchError::TextTooLong { tokens, window, model: embedder.identity().id.clone() }),
        false => Ok(()),
    }
}

/// Embeds one text. `collection` is the collection that the call is charged to; `None` means the collection of
/// documents.
pub(super) async fn vector_of(
    embedder: &dyn Embedder,
    text: &str,
    collection: Option<&str>,
) -> Result<Vec<f32>, SearchError> {
    let call = Call { subject: "search", collection, cancel: &Cancel::default() };
    let batch = embedder.embed(vec![text.to_owned()], call).await.map_err(SearchError::Embedding)?;
    let vector = batch.vectors.into_iter().next();
    let none = || StageError::system("no_vector", "the model returned no vector");
    vector.unwrap_or_else(|| Err(none())).map_err(SearchError::Embedding)
}
