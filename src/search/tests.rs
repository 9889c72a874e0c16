//! Tests the service over a small index in memory.

use std::path::Path;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use docweir_core::cancel::Cancel;
use docweir_core::clock::ManualClock;
use docweir_core::documents::DocumentId;
use docweir_core::error::StageError;
use docweir_index::OpenCollection;
use docweir_index::{DocumentRows, Row, VectorOptions, VectorStore};
use docweir_objects::memory::MemoryObjects;
use docweir_stages::embed::{Call, Embedder, HashedEmbedder};

use super::*;

/// Holds an object store in memory, and the model that computes all vectors in this store.
struct Place {
    objects: Arc<MemoryObjects>,
    model: Arc<HashedEmbedder>,
}

impl Place {
    fn new() -> Self {
        let objects = Arc::new(MemoryObjects::new(Arc::new(ManualClock::at(1_700_000_000_000_000))));
        Self { objects, model: Arc::new(HashedEmbedder::new(64, Duration::ZERO)) }
    }

    fn open(&self) -> OpenCollection {
        let objects = self.objects.clone();
        Arc::new(move |name| {
            let store = VectorStore::new(objects.clone(), name, objects.clock(), VectorOptions::default())?;
            Ok(Arc::new(store))
        })
    }

    fn service(&self) -> SearchService {
        let embedder = LazyEmbedder::ready(self.model.clone());
        SearchService::new(self.open(), embedder, ServiceOptions::new("chunks"))
    }

    /// Commits a document with these texts, as another process would do.
    async fn commit(&self, collection: &str, document: &str, version: u64, texts: &[&str]) {
        let texts: Vec<String> = texts.iter().map(|text| (*text).to_owned()).collect();
        let call = Call { subject: document, collection: None, cancel: &Cancel::default() };
        let vectors = self.model.embed(texts.clone(), call).await.unwrap().vectors;
        let row = |(i, (text, vector)): (usize, (String, Result<Vec<f32>, StageError>))| {
            Row::new(format!("{document}-{version}-{i}"), text, vector.unwrap()).with_language("eng")
        };
        let rows = texts.into_iter().zip(vectors).enumerate().map(row).collect();
        let id = DocumentId::parse(document).unwrap();
        let rows = DocumentRows::new(id, version, format!("file:///{document}.txt"), rows);
        let store = (self.open())(collection).unwrap();
        store.writer().commit(vec![rows.into()], self.model.identity()).await.unwrap();
    }
}

fn words() -> QueryOptions {
    QueryOptions { mode: Mode::FullText, ..QueryOptions::default() }
}

fn chunks(answer: &SearchResponse) -> Vec<&str> {
    answer.results.iter().map(|passage| passage.chunk.as_str()).collect()
}

async fn code(service: &SearchService, text: &str, options: QueryOptions) -> &'static str {
    service.search(text, &options).await.map(|answer| panic!("{answer:?}")).map_err(|error| error.code()).unwrap_err()
}

#[tokio::test]
async fn every_mode_answers_and_filters_hold() {
    let place = Place::new();
    place.commit("chunks", "doc_a", 1, &["the lease is fenced by an epoch", "a heartbeat renews the lease"]).await;
    place.commit("chunks", "doc_b", 1, &["cats sleep for most of the day"]).await;
    let service = place.service();
    for mode in [Mode::default(), Mode::Vector, Mode::FullText] {
        let options = QueryOptions { mode, ..QueryOptions::default() };
        let answer = service.search("epoch of the lease", &options).await.unwrap();
        assert_eq!((answer.question.as_str(), answer.version), ("epoch of the lease", 2));
        assert_eq!(
            (answer.results[0].chunk.as_str(), answer.results[0].uri.as_str()),
            ("doc_a-1-0", "file:///doc_a.txt")
        );
        let parts = (answer.results[0].vector_score.is_some(), answer.results[0].bm25_score.is_some());
        assert_eq!(parts, (mode != Mode::FullText, mode != Mode::Vector), "{mode:?}");
    }
    let filter = filter::parse_all(&["document=doc_b", "language=eng"], Path::new("/")).unwrap();
    let only = QueryOptions { filter, exact: true, ..QueryOptions::default() };
    assert_eq!(chunks(&service.search("epoch of the lease", &only).await.unwrap()), ["doc_b-1-0"]);
    let one = QueryOptions { limit: 1, mode: Mode::Vector, ..QueryOptions::default() };
    assert_eq!(service.search("lease", &one).await.unwrap().results.len(), 1);
    let high = QueryOptions { min_score: Some(0.99), mode: Mode::Vector, ..QueryOptions::default() };
    assert_eq!(chunks(&service.search("cats sleep for most of the day", &high).await.unwrap()), ["doc_b-1-0"]);
}

#[tokio::test]
async fn a_commit_between_two_calls_is_seen_and_one_within_a_session_is_not() {
    let place = Place::new();
    place.commit("chunks", "doc_a", 1, &["the first harbour"]).await;
    let service = place.service();
    let session = service.session(words()).await.unwrap();
    assert_eq!(chunks(&service.search("harbour", &words()).await.unwrap()), ["doc_a-1-0"]);
    let reads = place.objects.operations();
    service.search("harbour", &words()).await.unwrap();
    assert_eq!(place.objects.operations() - reads, 1, "an unchanged collection costs one look at its manifest");
    place.commit("chunks", "doc_a", 2, &["the second harbour"]).await;
    assert_eq!(chunks(&service.search("harbour", &words()).await.unwrap()), ["doc_a-2-0"]);
    assert_eq!(chunks(&session.search("harbour").await.unwrap()), ["doc_a-1-0"]);
    let past = QueryOptions { as_of: Some(1), ..words() };
    assert_eq!(chunks(&service.search("harbour", &past).await.unwrap()), ["doc_a-1-0"]);
    let empty = QueryOptions { as_of: Some(0), ..words() };
    assert_eq!(service.search("harbour", &empty).await.unwrap().results, []);
    let future = QueryOptions { as_of: Some(9), ..words() };
    let refused = service.search("harbour", &future).await.unwrap_err();
    assert!(
        matches!(refused, SearchError::UnknownVersion(_)) && refused.to_string().contains("version 9"),
        "{refused}"
    );
}

#[tokio::test]
async fn searches_at_the_same_time_share_one_service() {
    let place = Place::new();
    place.commit("chunks", "doc_a", 1, &["lease"]).await;
    place.commit("products", "doc_p", 1, &["jacket"]).await;
    let options = ServiceOptions { max_concurrent: 1, max_collections: 1, ..ServiceOptions::new("chunks") };
    let service = Arc::new(SearchService::new(place.open(), LazyEmbedder::ready(place.model.clone()), options));
    let ask = |text: &'static str, collection: Option<&str>| {
        let (service, collection) = (service.clone(), collection.map(str::to_owned));
        let options = QueryOptions { collection, mode: Mode::Vector, ..QueryOptions::default() };
        tokio::spawn(async move { service.search(text, &options).await.map(|answer| answer.results[0].chunk.clone()) })
    };
    let asked: Vec<_> = (0..8).map(|_| (ask("lease", None), ask("jacket", Some("products")))).collect();
    for (lease, jacket) in asked {
        assert_eq!(lease.await.unwrap().unwrap(), "doc_a-1-0");
        assert_eq!(jacket.await.unwrap().unwrap(), "doc_p-1-0");
    }
}

#[tokio::test]
async fn what_is_wrong_is_told_apart() {
    let place = Place::new();
    let service = place.service();
    let of = |collection: &str| QueryOptions { collection: Some(collection.into()), ..QueryOptions::default() };
    let missing = service.search("x", &of("missing")).await.unwrap_err();
    assert_eq!(missing.to_string(), "collection `missing` does not exist; ingest documents or records into it first");
    assert_eq!(code(&service, "x", QueryOptions { as_of: Some(1), ..of("missing") }).await, "unknown_collection");
    assert_eq!(code(&service, "x", of("No Name")).await, "bad_collection");
    place.commit("chunks", "doc_a", 1, &["lease"]).await;
    assert_eq!(code(&service, " ", QueryOptions::default()).await, "bad_query");
    assert_eq!(code(&service, "x", QueryOptions { limit: 0, ..QueryOptions::default() }).await, "bad_query");
    assert_eq!(code(&service, &"word ".repeat(300), QueryOptions::default()).await, "query_too_long");
    assert_eq!(code(&service, &"word ".repeat(3_000), words()).await, "bad_query");
    let error: SearchError = filter::parse("colour=red", Path::new("/")).unwrap_err().into();
    assert!(
        error.to_string().starts_with("filter `colour=red`, column 1: `colour` is not a field; fields are "),
        "{error}"
    );
    let other = LazyEmbedder::ready(Arc::new(HashedEmbedder::new(32, Duration::ZERO)));
    let other = SearchService::new(place.open(), other, ServiceOptions::new("chunks"));
    assert_eq!(code(&other, "lease", QueryOptions::default()).await, "model_mismatch");
    assert_eq!(chunks(&other.search("lease", &words()).await.unwrap()), ["doc_a-1-0"]);
}

#[tokio::test]
async fn the_embedder_is_opened_when_it_is_needed_and_once() {
    let place = Place::new();
    place.commit("chunks", "doc_a", 1, &["lease"]).await;
    let opened = Arc::new(AtomicUsize::new(0));
    let (counter, model) = (opened.clone(), place.model.clone());
    let embedder = LazyEmbedder::new(move || {
        let first = counter.fetch_add(1, Ordering::SeqCst) == 0;
        let model: Arc<dyn Embedder> = model.clone();
        async move { if first { Err(Arc::new(std::io::Error::other("no key")) as Cause) } else { Ok(model) } }
    });
    let service = SearchService::new(place.open(), embedder, ServiceOptions::new("chunks"));
    service.search("lease", &words()).await.unwrap();
    assert_eq!(opened.load(Ordering::SeqCst), 0, "full-text search needs no model");
    let failed = service.search("lease", &QueryOptions::default()).await.unwrap_err();
    assert!(matches!(&failed, SearchError::NoEmbedder(cause) if cause.to_string() == "no key"), "{failed}");
    for _ in 0..2 {
        service.search("lease", &QueryOptions::default()).await.unwrap();
    }
    assert_eq!(opened.load(Ordering::SeqCst), 2, "a failure is tried again, a success is kept");
}
