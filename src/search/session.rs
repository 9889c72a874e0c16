//! Answers queries over one version of one collection.

use std::sync::Arc;

use docweir_index::{ManifestVersion, SearchRequest, VectorOptions, View};
use docweir_stages::embed::Embedder;
use tokio::sync::Semaphore;

use super::embedder::{fits, vector_of};
use super::error::SearchError;
use super::passage::{Passage, SearchResponse};
use super::query::{QueryOptions, not_empty, not_too_long};

/// Holds one version of a collection, opened for searches, and the options that apply to every query. A session keeps
/// files open, so drop the session when it is no longer needed.
pub struct SearchSession {
    pub(super) view: Arc<View>,
    pub(super) limits: VectorOptions,
    /// Embedder of the queries; `None` in full-text mode.
    pub(super) embedder: Option<Arc<dyn Embedder>>,
    pub(super) options: QueryOptions,
    /// Collection that calls are charged to; `None` means the collection of documents.
    pub(super) charged: Option<String>,
    pub(super) threads: usize,
    pub(super) places: Arc<Semaphore>,
}

impl SearchSession {
    /// Returns the version that this session searches.
    pub fn version(&self) -> ManifestVersion {
        self.view.version()
    }

    /// Answers one query. The search runs on a blocking thread. If the returned future is dropped before the search
    /// starts, no search is made. If the future is dropped later, the search still runs to its end.
    ///
    /// # Errors
    /// Returns an error if the text is empty or too long, the embedder fails, or the index cannot be read.
    pub async fn search(&self, text: &str) -> Result<SearchResponse, SearchError> {
        not_empty(text)?;
        if let Some(embedder) = &self.embedder {
            fits(embedder.as_ref(), text)?;
        }
        // Check the length before a paid call is made.
        not_too_long(text, &self.limits)?;
        let vector = match &self.embedder {
            Some(embedder) => Some(vector_of(embedder.as_ref(), text, self.charged.as_deref()).await?),
            None => None,
        };
        let request = SearchRequest {
            mode: self.options.mode,
            filter: self.options.filter.clone(),
            exact: self.options.exact,
            per_document: self.options.per_document,
            explain: self.options.explain,
            threads: self.threads,
            ..SearchRequest::new(text, vector, self.options.limit)
        };
        let place = self.places.clone().acquire_owned().await;
        let view = self.view.clone();
        let searched = tokio::task::spawn_blocking(move || {
            // The permit is released when the search ends, even if the future was dropped.
            let _place = place;
            view.search(&request)
        });
        let hits = searched.await.map_err(SearchError::Interrupted)??;
        let lowest = self.options.min_score.unwrap_or(f32::NEG_INFINITY);
        let results = hits.into_iter().filter(|hit| hit.score >= lowest).map(Passage::from).collect();
        Ok(SearchResponse { question: text.to_owned(), results, version: self.version() })
    }
}
