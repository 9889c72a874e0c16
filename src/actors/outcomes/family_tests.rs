//! Tests documents within documents. The fake stages know the content of each document and open no files.

use std::collections::HashMap;
use std::rc::Rc;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use async_trait::async_trait;
use docweir_core::clock::{ManualClock, SharedClock};
use docweir_core::documents::{MediaType, Sha256Hex, Stage as StageName};
use docweir_core::error::StageError;
use docweir_core::member::member_source;
use docweir_core::model::{
    Chunk, ChunkKind, Chunks, EmbeddedDocument, ExtractedDocument, Metric, ModelIdentity, Span, Usage,
};
use docweir_index::{DocumentRows, SearchRequest, VectorOptions, VectorStore, Write};
use docweir_objects::memory::MemoryObjects;
use docweir_stores::control::conformance::document;
use docweir_stores::control::rules::MAX_CHILDREN;
use docweir_stores::control::sqlite::SqliteControlStore;
use docweir_stores::control::{Claim, ControlRecord, DocumentStatus, Intent, NewDocument, RecordFilter, Resume};
use serde_json::Map;

use super::{StageContext, StageOutcomes, child_documents, spec};
use crate::actors::artefacts::Artefacts;
use crate::actors::outages::Outages;
use crate::actors::quarantine::QuarantineStore;
use crate::intake::originals::LocalOriginals;
use crate::messages::event::Event;
use crate::messages::job::{Input, Job, NewChild, StageResult};
use crate::supervisors::{
    AttemptOutcome, Cancel, DrainMode, OutcomeSink, Persisted, PoolHandle, PoolOptions, RootHandle, Stage, Verdict,
    Work, WorkOf, start_pool,
};

const LEASE: Duration = Duration::from_secs(60);
const MAIL: &str = "file:///mail.eml";

/// Text of a document, and the names of the document's members.
type Content = (String, Vec<String>);

/// Holds everything that the fake stages need.
struct World {
    contents: Mutex<HashMap<String, Content>>,
    vectors: Arc<VectorStore>,
    model: ModelIdentity,
}

impl World {
    fn text(&self, source: &str) -> String {
        self.contents.lock().unwrap().get(source).map(|(text, _)| text.clone()).unwrap_or_default()
    }

    /// Returns the members of a document, as if extraction had found them.
    fn children(&self, source: &str) -> Vec<NewChild> {
        let names = self.contents.lock().unwrap().get(source).map(|(_, names)| names.clone()).unwrap_or_default();
        let child = |name: String| {
            let text = self.text(&member_source(source, &name).unwrap());
            NewChild { content: Sha256Hex::of(text.as_bytes()), bytes: 1, media_type: MediaType::Text, name }
        };
        names.into_iter().map(child).collect()
    }

    async fn commit(&self, write: Write) {
        self.vectors.writer().commit(vec![write], &self.model).await.unwrap();
    }
}

struct Fake(Arc<World>);

impl Stage for Fake {
    type Job = Job;
    type Done = StageResult;
    type Park = Resume;

    fn finished_bytes(&self, job: &Job, done: &StageResult) -> usize {
        job.finished_bytes(done)
    }

    fn worker(&self) -> Result<WorkOf<Self>, StageError> {
        Ok(Box::new(Fake(self.0.clone())))
    }
}

#[async_trait]
impl Work<Job, StageResult, Resume> for Fake {
    async fn run(&mut self, job: &Arc<Job>, _: &Cancel) -> AttemptOutcome<StageResult, Resume> {
        let (world, claim) = (&self.0, &job.claim);
        let (document_id, version) = (claim.key.id.clone(), claim.key.version);
        let mut children = Vec::new();
        let next = match &job.input {
            Input::Original => {
                children = world.children(&claim.source);
                Some(Input::Extracted(Arc::new(extracted(world.text(&claim.source)))))
            }
            Input::Extracted(document) => Some(Input::Chunks(Arc::new(chunks(claim, document.notes[0].clone())))),
            Input::Chunks(chunks) => Some(Input::Enriched(chunks.clone())),
            Input::Enriched(chunks) => Some(Input::Embedded(Arc::new(EmbeddedDocument {
                chunks: chunks.clone(),
                notes: Vec::new(),
                vectors: vec![vec![1.0, 0.0]],
                usage: Usage::default(),
            }))),
            Input::Embedded(document) => {
                let source = claim.source.clone();
                let rows = DocumentRows::of_embedded(document_id, version, source, Map::new(), document).unwrap();
                world.commit(Write::Upsert(DocumentRows { parent: claim.parent.clone(), ..rows })).await;
                None
            }
            Input::Removal => {
                world.commit(Write::Delete { document_id, version }).await;
                None
            }
        };
        AttemptOutcome::Done(StageResult { next, children, ..nothing() })
    }
}

fn nothing() -> StageResult {
    StageResult {
        output: None,
        metrics: Default::default(),
        duration: Duration::ZERO,
        next: None,
        children: Vec::new(),
    }
}

fn extracted(text: String) -> ExtractedDocument {
    ExtractedDocument {
        media_type: MediaType::Text,
        pages: Vec::new(),
        info: Default::default(),
        outline: Vec::new(),
        notes: vec![text],
    }
}

fn chunks(claim: &Claim, content: String) -> Chunks {
    let chunk = Chunk {
        id: format!("{}/{}", claim.key.id, claim.key.version),
        ordinal: 0,
        kind: ChunkKind::Text,
        content,
        heading_path: Vec::new(),
        pages: (1, 1),
        span: Span { start: 0, end: 0, start_byte: 0, end_byte: 0 },
        boxes: Vec::new(),
        tokens: 1,
        findings: None,
    };
    Chunks { chunks: vec![chunk], ..Chunks::default() }
}

struct Fixture {
    _dir: tempfile::TempDir,
    clock: Arc<ManualClock>,
    world: Arc<World>,
    context: Arc<StageContext>,
    root: RootHandle,
    /// Pools in reverse stage order, from loading to extraction.
    pools: Vec<PoolHandle<Job>>,
}

impl Fixture {
    async fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        let clock = Arc::new(ManualClock::at(1_763_718_000_000_000));
        let shared: SharedClock = clock.clone();
        let control =
            SqliteControlStore::open(&dir.path().join("control.db"), Default::default(), shared.clone()).await.unwrap();
        let objects = Arc::new(MemoryObjects::new(clock.clone()));
        let model = ModelIdentity { id: "m".into(), weights: "w".into(), dimension: 2, metric: Metric::Cosine };
        let vectors = VectorStore::new(objects.clone(), "chunks", shared.clone(), VectorOptions::default()).unwrap();
        let world = Arc::new(World { contents: Mutex::default(), vectors: Arc::new(vectors), model: model.clone() });
        let outages = Outages::new(Arc::default(), Arc::new(|_: Event| {}), shared.clone(), dir.path().into());
        let outages = Arc::new(outages);
        let context = Arc::new(StageContext {
            control: Arc::new(control),
            artefacts: Artefacts::new(objects.clone(), Default::default(), model),
            quarantine: QuarantineStore::new(objects, Arc::new(LocalOriginals), shared, Default::default()),
            batches: None,
            events: Arc::new(|_: Event| {}),
            claims: Arc::default(),
            outages,
        });
        let root = RootHandle::start(Default::default());
        let mut pools: Vec<PoolHandle<Job>> = Vec::new();
        for stage in StageName::ALL.into_iter().rev() {
            let outcomes = StageOutcomes { context: context.clone(), stage, next: pools.last().cloned() };
            let options = PoolOptions {
                name: stage.verb().to_owned(),
                min_workers: 1,
                max_workers: 1,
                max_messages: 64,
                max_bytes: 1 << 20,
                deadline: Duration::from_secs(60),
                retry: Default::default(),
                restart: Default::default(),
                scaling: Default::default(),
            };
            pools.push(start_pool(options, Fake(world.clone()), Rc::new(outcomes), &root));
        }
        Self { _dir: dir, clock, world, context, root, pools }
    }

    /// Sets the content of a document, and again registers the e-mail that contains the document.
    async fn put(&self, source: &str, text: &str, members: &[&str]) {
        let members = members.iter().map(|name| (*name).to_owned()).collect();
        self.world.contents.lock().unwrap().insert(source.to_owned(), (text.to_owned(), members));
        let whole = format!("{:?}", self.world.contents.lock().unwrap().get(MAIL));
        let mail = NewDocument { source: MAIL.into(), ..document("", &whole) };
        self.context.control.register(vec![mail]).await.unwrap();
    }

    async fn claim(&self, owner: &str) -> Claim {
        self.context.control.claim(owner, LEASE, 1, None).await.unwrap().remove(0)
    }

    /// Processes documents until no work is left.
    async fn run(&self) {
        loop {
            let claims = self.context.control.claim("run", LEASE, 99, None).await.unwrap();
            if claims.is_empty() {
                return;
            }
            for claim in claims {
                self.context.claims.begin(&claim);
                let input = self.context.artefacts.resume(&claim, false).await.unwrap();
                let pool = if matches!(input, Input::Removal) { 0 } else { 4 };
                self.pools[pool].submit(spec(Job { claim: Arc::new(claim), input })).await.unwrap();
            }
            let mut held = self.context.claims.watch();
            held.wait_for(|held| *held == 0).await.unwrap();
        }
    }

    /// Finds the rows that contain a word. Returns the source of each such row, and whether the row's document has a
    /// parent.
    async fn found(&self, word: &str) -> Vec<(String, bool)> {
        let view = self.world.vectors.view().await.unwrap();
        let hits = view.search(&SearchRequest::new(word, None, 9)).unwrap();
        let mut found: Vec<_> = hits.into_iter().map(|hit| (hit.source, hit.parent.is_some())).collect();
        found.sort();
        found
    }

    async fn record(&self, source: &str) -> Option<ControlRecord> {
        self.context.control.by_source(source).await.unwrap()
    }

    /// Asserts that parents and children agree: every child is listed by its parent or is being deleted, and every
    /// document that a parent lists is a child.
    async fn is_consistent(&self) {
        let records = self.context.control.list(&RecordFilter::default(), None, 999).await.unwrap();
        let by_id: HashMap<_, _> = records.iter().map(|record| (record.document_id.clone(), record)).collect();
        for record in &records {
            let leaves = record.intent == Intent::Delete || record.status == DocumentStatus::Deleted;
            if let Some(parent) = &record.parent {
                assert!(leaves || by_id[parent].children.contains(&record.document_id), "{record:?}");
            }
            for child in &record.children {
                assert_eq!(by_id[child].parent.as_ref(), Some(&record.document_id));
            }
        }
    }

    async fn end(self) {
        for pool in self.pools.iter().rev() {
            pool.drain(DrainMode::Finish).await;
        }
        self.root.stop();
    }
}

fn with_pools(test: impl AsyncFnOnce(Fixture)) {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
    tokio::task::LocalSet::new().block_on(&runtime, async { test(Fixture::new().await).await });
}

fn member(name: &str) -> String {
    member_source(MAIL, name).unwrap()
}

#[test]
fn a_parent_that_contains_less_leaves_less_to_be_found() {
    with_pools(async |f| {
        f.put(&member("a.txt"), "lease one", &[]).await;
        f.put(&member("b.txt"), "lease two", &[]).await;
        f.put(MAIL, "lease mail", &["a.txt", "b.txt"]).await;
        f.run().await;
        let all = [(MAIL.to_owned(), false), (member("a.txt"), true), (member("b.txt"), true)];
        assert_eq!(f.found("lease").await, all);
        f.is_consistent().await;
        let version = async |name: &str| f.record(&member(name)).await.unwrap().version;
        assert_eq!(version("b.txt").await, 1);

        f.put(MAIL, "lease mail", &["b.txt"]).await;
        f.run().await;
        assert_eq!(f.found("lease").await, [all[0].clone(), all[2].clone()]);
        assert_eq!(version("b.txt").await, 1, "an unchanged member is not processed again");
        assert_eq!(f.record(&member("a.txt")).await.unwrap().status, DocumentStatus::Deleted);
        f.is_consistent().await;

        f.put(&member("b.txt"), "lease changed", &[]).await;
        f.put(MAIL, "lease mail again", &["a.txt", "b.txt"]).await;
        f.run().await;
        assert_eq!((f.found("changed").await.len(), f.found("two").await.len(), f.found("one").await.len()), (1, 0, 1));
        f.is_consistent().await;
        f.end().await;
    });
}

#[test]
fn a_deleted_parent_takes_everything_in_it_along() {
    with_pools(async |f| {
        let inner = member("inner.eml");
        f.put(&member_source(&inner, "deep.txt").unwrap(), "lease deep", &[]).await;
        f.put(&inner, "lease inner", &["deep.txt"]).await;
        f.put(MAIL, "lease mail", &["inner.eml"]).await;
        f.run().await;
        assert_eq!(f.found("lease").await.len(), 3);
        let id = f.record(MAIL).await.unwrap().document_id;
        f.context.control.request_delete(&id).await.unwrap();
        f.run().await;
        assert_eq!(f.found("lease").await, []);
        assert_eq!(f.context.control.counts().await.unwrap(), [("DELETED".to_owned(), 3)].into());
        f.is_consistent().await;
        f.end().await;
    });
}

#[test]
fn a_crash_between_the_children_and_the_outcome_leaves_what_the_repeat_completes() {
    with_pools(async |f| {
        f.put(&member("a.txt"), "lease one", &[]).await;
        f.put(MAIL, "lease mail", &["a.txt", "gone.txt"]).await;
        let dead = f.claim("dead").await;
        let children = child_documents(&dead, &f.world.children(MAIL)).unwrap();
        f.context.control.set_children(&dead.key, children).await.unwrap();
        f.is_consistent().await;
        // The next process finds different members in the mail.
        f.put(&member("new.txt"), "lease new", &[]).await;
        f.world
            .contents
            .lock()
            .unwrap()
            .insert(MAIL.to_owned(), ("lease mail".into(), vec!["a.txt".into(), "new.txt".into()]));
        f.clock.advance(2 * LEASE);
        f.run().await;
        assert_eq!(f.found("lease").await.len(), 3);
        assert_eq!(f.record(&member("gone.txt")).await.unwrap().status, DocumentStatus::Deleted);
        f.is_consistent().await;
        f.end().await;
    });
}

#[test]
fn a_fenced_claim_registers_nothing() {
    with_pools(async |f| {
        f.put(MAIL, "lease mail", &["a.txt"]).await;
        let stalled = f.claim("stalled").await;
        f.clock.advance(2 * LEASE);
        let _successor = f.claim("successor").await;
        let outcomes = StageOutcomes { context: f.context.clone(), stage: StageName::Extraction, next: None };
        let job = Arc::new(Job { claim: Arc::new(stalled), input: Input::Original });
        let done = StageResult { children: f.world.children(MAIL), ..nothing() };
        let persisted = outcomes.persist(&job, &Verdict::Done(done)).await.unwrap();
        assert!(matches!(persisted, Persisted::Fenced));
        assert_eq!(f.record(&member("a.txt")).await, None);
        assert_eq!(f.record(MAIL).await.unwrap().children, []);
        f.end().await;
    });
}

#[test]
fn children_of_an_attempt_that_came_to_nothing_are_let_go_by_the_next() {
    with_pools(async |f| {
        f.put(MAIL, "lease mail", &["a.txt"]).await;
        let claim = f.claim("run").await;
        f.context.claims.begin(&claim);
        let outcomes = StageOutcomes { context: f.context.clone(), stage: StageName::Extraction, next: None };
        let job = Arc::new(Job { claim: Arc::new(claim), input: Input::Original });
        let found = f.world.children(MAIL);
        let declared = f.context.declare_children(&job.claim, &found).await.unwrap();
        assert!(matches!(declared, super::children::Declared::Yes));
        let persisted = outcomes.persist(&job, &Verdict::Done(nothing())).await.unwrap();
        assert!(matches!(persisted, Persisted::Release));
        assert_eq!(f.record(MAIL).await.unwrap().children, []);
        assert_eq!(f.record(&member("a.txt")).await.unwrap().intent, Intent::Delete);
        f.end().await;
    });
}

#[test]
fn a_document_that_contains_too_many_is_quarantined_and_nothing_of_it_is_taken_in() {
    with_pools(async |f| {
        let names: Vec<String> = (0..=MAX_CHILDREN).map(|n| format!("{n}.txt")).collect();
        f.put(MAIL, "lease mail", &names.iter().map(String::as_str).collect::<Vec<_>>()).await;
        f.run().await;
        let record = f.record(MAIL).await.unwrap();
        assert_eq!((record.status, record.children.len()), (DocumentStatus::Quarantined, 0));
        let error = record.last_error.unwrap();
        assert!(error.code == "children_refused" && error.message.contains("limit of 1000"), "{error}");
        assert_eq!(f.context.control.counts().await.unwrap(), [("QUARANTINED".to_owned(), 1)].into());
        assert_eq!(f.found("lease").await, []);
        f.end().await;
    });
}
