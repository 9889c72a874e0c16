//! Queries over one version of one collection.

use std::sync::Arc;

use docweir_index::{ManifestVersion, SearchRequest, VectorOptions, View};
use docweir_stages::embed::Embedder;
use tokio::sync::Semaphore;

use super::embedder::{fits, vector_of};
use super::error::SearchError;
use super::passage::{Passage, SearchResponse};
use super::query::{QueryOptions, not_empty, not_too_long};

/// An opened version and the options that all its queries share. It holds files open: keep it no longer than needed.
pub struct SearchSession {
    pub(super) view: Arc<View>,
    pub(super) limits: VectorOptions,
    /// `None` in full-text mode.
    pub(super) embedder: Option<Arc<dyn Embedder>>,
    pub(super) options: QueryOptions,
    /// The collection whose ledger entries the calls are; `None` for that of documents.
    pub(super) charged: Option<String>,
    pub(super) threads: usize,
    pub(super) places: Arc<Semaphore>,
}

impl SearchSession {
    /// Returns the version that is searched.
    pub fn version(&self) -> ManifestVersion {
        self.view.version()
    }

    /// Answers one query. The search itself runs on a blocking thread; dropping the future before it began costs
    /// nothing, and later leaves the thread to finish.
    ///
    /// # Errors
    /// A text that is empty or too long, an embedder that fails, an index that can't be read.
    pub async fn search(&self, text: &str) -> Result<SearchResponse, SearchError> {
        not_empty(text)?;
        if let Some(embedder) = &self.embedder {
            fits(embedder.as_ref(), text)?;
        }
        // Before a call is paid for.
        not_too_long(text, &self.limits)?;
        let vector = match &self.embedder {
            Some(embedder) => Some(vector_of(embedder.as_ref(), text, self.charged.as_deref()).await?),
            None => None,
        };
        let request = SearchRequest {
            mode: self.options.mode,
            filter: self.options.filter.clone(),
            exact: self.options.exact,
            threads: self.threads,
            ..SearchRequest::new(text, vector, self.options.limit)
        };
        let place = self.places.clone().acquire_owned().await;
        let view = self.view.clone();
        let searched = tokio::task::spawn_blocking(move || {
            // Given back when the work is done, whether or not somebody still waits for it.
            let _place = place;
            view.search(&request)
        });
        let hits = searched.await.map_err(SearchError::Interrupted)??;
        let lowest = self.options.min_score.unwrap_or(f32::NEG_INFINITY);
        let results = hits.into_iter().filter(|hit| hit.score >= lowest).map(Passage::from).collect();
        Ok(SearchResponse { question: text.to_owned(), results, version: self.version() })
    }
}
