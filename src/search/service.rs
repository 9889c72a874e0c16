//! Implements the search service. The service opens the embedder and each collection once, and answers any number of
//! queries at the same time.

use std::collections::BTreeMap;
use std::num::NonZero;
use std::sync::{Arc, Mutex, PoisonError};

use docweir_index::{OpenCollection, VectorStore};
use tokio::sync::Semaphore;

use super::embedder::LazyEmbedder;
use super::error::SearchError;
use super::passage::SearchResponse;
use super::query::QueryOptions;
use super::session::SearchSession;

/// Holds the options of a search service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceOptions {
    /// Collection to search if a query names no collection.
    pub collection: String,
    /// Maximum number of threads that one search uses.
    pub threads: usize,
    /// Maximum number of concurrent searches. Further searches wait.
    pub max_concurrent: usize,
    /// Maximum number of open collections. To open another collection, the service closes one of them.
    pub max_collections: usize,
}

impl ServiceOptions {
    /// Creates options that use all processors. `collection` is searched if a query names no collection.
    pub fn new(collection: impl Into<String>) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self { collection: collection.into(), threads: processors, max_concurrent: processors, max_collections: 16 }
    }
}

/// Answers queries. Every method takes `&self`, so a service can be shared in an [`Arc`].
pub struct SearchService {
    open: OpenCollection,
    embedder: LazyEmbedder,
    options: ServiceOptions,
    opened: Mutex<BTreeMap<String, Arc<VectorStore>>>,
    places: Arc<Semaphore>,
}

impl SearchService {
    /// Creates the service without opening anything.
    pub fn new(open: OpenCollection, embedder: LazyEmbedder, options: ServiceOptions) -> Self {
        let places = Arc::new(Semaphore::new(options.max_concurrent.clamp(1, Semaphore::MAX_PERMITS)));
        Self { open, embedder, options, opened: Mutex::default(), places }
    }

    /// Answers one query.
    ///
    /// # Errors
    /// Returns the errors of [`session`](Self::session) and [`SearchSession::search`].
    pub async fn search(&self, text: &str, options: &QueryOptions) -> Result<SearchResponse, SearchError> {
        super::query::not_empty(text)?;
        self.session(options.clone()).await?.search(text).await
    }

    /// Opens a session, which answers several queries from the same version of a collection. `options` select the
    /// collection and the version. Later commits do not change the answers of the session.
    ///
    /// # Errors
    /// Returns an error in each of these cases: an option is out of range, the collection or the version does not
    /// exist, the index cannot be read, the embedder cannot be opened, or its model does not match the collection.
    pub async fn session(&self, options: QueryOptions) -> Result<SearchSession, SearchError> {
        let name = options.collection.as_deref().unwrap_or(&self.options.collection);
        let store = self.store(name)?;
        options.check(store.options())?;
        let unknown = || SearchError::UnknownCollection { collection: name.to_owned() };
        let view = match options.as_of {
            Some(_) if store.manifest().await?.is_none() => return Err(unknown()),
            Some(version) => store.view_at(version).await?,
            None => store.view().await?,
        };
        // The first commit creates version 1. Version 0 as a past version is valid and empty.
        if view.version() == 0 && options.as_of.is_none() {
            return Err(unknown());
        }
        self.keep(name, &store);
        let embedder = match options.needs_vector() {
            true => {
                let embedder = self.embedder.get().await?;
                view.check_model(embedder.identity())?;
                Some(embedder)
            }
            false => None,
        };
        let charged = (name != self.options.collection).then(|| name.to_owned());
        let (threads, places) = (self.options.threads.max(1), self.places.clone());
        Ok(SearchSession { view, limits: store.options().clone(), embedder, options, charged, threads, places })
    }

    /// Returns a collection from the cache. If the collection is not cached, opens it but does not add it to the
    /// cache, because opening succeeds even if no collection of this name exists.
    fn store(&self, name: &str) -> Result<Arc<VectorStore>, SearchError> {
        let held = self.opened().get(name).cloned();
        match held {
            Some(store) => Ok(store),
            None => Ok((self.open)(name)?),
        }
    }

    /// Caches an open collection together with its view. Must be called only for a collection that exists.
    fn keep(&self, name: &str, store: &Arc<VectorStore>) {
        let mut opened = self.opened();
        if opened.contains_key(name) {
            return;
        }
        while opened.len() >= self.options.max_collections.max(1) {
            opened.pop_first();
        }
        opened.insert(name.to_owned(), store.clone());
    }

    fn opened(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Arc<VectorStore>>> {
        self.opened.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
