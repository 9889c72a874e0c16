//! The service: opens collections and the embedder once, and answers any number of queries at a time.

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

/// The limits of a service.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServiceOptions {
    /// The collection that is searched when a query names none.
    pub collection: String,
    /// Threads that one search may use.
    pub threads: usize,
    /// Searches that compute at a time; others wait.
    pub max_concurrent: usize,
    /// Collections that stay open; another one takes the place of one of them.
    pub max_collections: usize,
}

impl ServiceOptions {
    /// Uses all processors, and searches this collection unless a query names another.
    pub fn new(collection: impl Into<String>) -> Self {
        let processors = std::thread::available_parallelism().map_or(1, NonZero::get);
        Self { collection: collection.into(), threads: processors, max_concurrent: processors, max_collections: 16 }
    }
}

/// Answers queries. Share it in an [`Arc`]: every method takes `&self`.
pub struct SearchService {
    open: OpenCollection,
    embedder: LazyEmbedder,
    options: ServiceOptions,
    opened: Mutex<BTreeMap<String, Arc<VectorStore>>>,
    places: Arc<Semaphore>,
}

impl SearchService {
    /// Opens nothing yet.
    pub fn new(open: OpenCollection, embedder: LazyEmbedder, options: ServiceOptions) -> Self {
        let places = Arc::new(Semaphore::new(options.max_concurrent.clamp(1, Semaphore::MAX_PERMITS)));
        Self { open, embedder, options, opened: Mutex::default(), places }
    }

    /// Answers one query.
    ///
    /// # Errors
    /// As [`session`](Self::session) and [`SearchSession::search`].
    pub async fn search(&self, text: &str, options: &QueryOptions) -> Result<SearchResponse, SearchError> {
        super::query::not_empty(text)?;
        self.session(options.clone()).await?.search(text).await
    }

    /// Opens the version that `options` ask for, for several queries: a commit meanwhile changes none of their answers.
    ///
    /// # Errors
    /// Options out of range, a collection or a version that is not there, an index that can't be read, an embedder that
    /// can't be had or does not fit the collection.
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
        // The first commit makes version 1; of a past version 0 it is known that nothing was there.
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

    /// Returns an open collection, or opens it. What is opened is not kept yet: any name can be asked for.
    fn store(&self, name: &str) -> Result<Arc<VectorStore>, SearchError> {
        let held = self.opened().get(name).cloned();
        match held {
            Some(store) => Ok(store),
            None => Ok((self.open)(name)?),
        }
    }

    /// Keeps a collection open that turned out to be there, and its view with it.
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
