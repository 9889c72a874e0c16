//! Measures the cost of supervision. The pipeline is compared with a plain loop that runs the same stages and writes
//! the same records, artefacts and commits. The loop has no pools, queues, deadlines or heartbeat.

use std::cell::RefCell;
use std::path::Path;
use std::rc::Rc;
use std::sync::Arc;
use std::time::{Duration, Instant};

use async_trait::async_trait;
use docweir::actors::outcomes::{StageContext, StageOutcomes, spec};
use docweir::actors::stage_chunk::ChunkStage;
use docweir::actors::stage_embed::EmbedStage;
use docweir::actors::stage_enrich::EnrichStage;
use docweir::actors::stage_extract::ExtractStage;
use docweir::config::{Argument, Config, Source};
use docweir::engine::Engine;
use docweir::intake::source;
use docweir::messages::event::Event;
use docweir::messages::job::{Input, Job, StageResult};
use docweir::pipeline::{self, IngestRequest, Services};
use docweir::supervisors::{
    AttemptOutcome, Cancel, DrainMode, OutcomeSink, Persisted, PoolHandle, RootHandle, Stage, Verdict, Work, WorkOf,
    start_pool,
};
use docweir_core::documents::{MediaType, Sha256Hex, Stage as StageName};
use docweir_core::error::StageError;
use docweir_core::model::{EmbeddedDocument, ExtractedDocument, Usage};
use docweir_extract::ChildProgram;
use docweir_index::{CollectionWriter, DocumentRows, Write};
use docweir_stages::chunk::TokenCounter;
use docweir_stages::embed::{Embedder, HashedEmbedder, InFlight, Tokens};
use docweir_stages::enrich::LocalEnricher;
use docweir_stores::control::{Claim, NewDocument, Resume};
use futures_util::StreamExt;

use crate::{generate, kernel, median};

const DOCUMENTS: u64 = 1_000;
const ROUNDS: usize = 3;
const LEASE: Duration = Duration::from_secs(300);

pub fn run() {
    let place = tempfile::tempdir().unwrap();
    let docs = place.path().join("docs");
    generate(&docs, DOCUMENTS);
    let (mut ours, mut plain) = (Vec::new(), [2, 4, 8, 16].map(|lanes| (lanes, Vec::new())));
    // The variants alternate, so that other load on the machine affects all of them.
    for _ in 0..ROUNDS {
        ours.push(seconds(|engine| Box::pin(piped(engine, &docs))));
        for (lanes, times) in &mut plain {
            times.push(seconds(|engine| Box::pin(plainly(engine, &docs, *lanes))));
        }
    }
    let ours = median(ours);
    println!("  pipeline: {ours:.2} s, {:.0} documents/s", DOCUMENTS as f64 / ours);
    let mut best = f64::INFINITY;
    for (lanes, times) in plain {
        let time = median(times);
        best = best.min(time);
        println!("  plain loop, {lanes} documents at once: {time:.2} s");
    }
    println!("  the pipeline takes {:.1} % longer than the fastest loop (goal: 10 %)\n", (ours / best - 1.0) * 100.0);
}

type Local<'a> = std::pin::Pin<Box<dyn Future<Output = ()> + 'a>>;

/// Returns the time of one run on a new state folder, in seconds. Checks that every document is stored.
fn seconds<'a>(run: impl FnOnce(Rc<Engine>) -> Local<'a>) -> f64 {
    let state = tempfile::tempdir().unwrap();
    actix::System::new().block_on(async {
        let engine = Rc::new(fresh(&state).await);
        let started = Instant::now();
        run(engine.clone()).await;
        let seconds = started.elapsed().as_secs_f64();
        let counts = engine.control.counts().await.unwrap();
        assert_eq!(counts.get("COMPLETED"), Some(&DOCUMENTS), "{counts:?}");
        let inventory = engine.vectors().unwrap().inventory().await.unwrap();
        assert_eq!(inventory.documents.len() as u64, DOCUMENTS);
        seconds
    })
}

fn embedder() -> Arc<dyn Embedder> {
    Arc::new(HashedEmbedder::new(384, Duration::from_millis(1)))
}

async fn piped(engine: Rc<Engine>, docs: &Path) {
    let request = IngestRequest { paths: vec![docs.to_owned()], ..Default::default() };
    let events = Arc::new(|_: Event| {});
    let embedder = embedder();
    let tokens: Arc<dyn TokenCounter> = Arc::new(Tokens(embedder.clone()));
    let enricher = Arc::new(LocalEnricher::new(engine.config.settings.enrich.options.clone(), tokens));
    let services = Services { embedder, enricher };
    pipeline::ingest(&engine, "a run", services, request, events, Arc::default(), Default::default()).await.unwrap();
}

/// Takes every document through all stages, from its file to its stored vectors. `lanes` documents are processed at
/// the same time. About once a second, a commit adds all finished documents to the index.
async fn plainly(engine: Rc<Engine>, docs: &Path, lanes: usize) {
    let embedder = embedder();
    let context = context(&engine, &embedder);
    register(&engine, docs).await;
    let commits = Rc::new(RefCell::new(Commits {
        writer: Some(engine.vectors().unwrap().writer()),
        waiting: Vec::new(),
        last: Instant::now(),
    }));
    let lane = |_| {
        let (engine, embedder, context, commits) = (engine.clone(), embedder.clone(), context.clone(), commits.clone());
        async move {
            let mut workers = Workers::new(&engine, &embedder, &context);
            loop {
                let claims = engine.control.claim("plain", LEASE, 4, None).await.unwrap();
                if claims.is_empty() {
                    break;
                }
                for claim in claims {
                    let job = workers.embedded(&context, claim).await;
                    commit(&commits, &embedder, &context, Some(job)).await;
                }
            }
        }
    };
    futures_util::stream::iter((0..lanes).map(lane)).buffer_unordered(lanes).collect::<Vec<()>>().await;
    commit(&commits, &embedder, &context, None).await;
}

struct Commits {
    /// Writer of the collection; `None` while a commit is using it.
    writer: Option<CollectionWriter>,
    waiting: Vec<Arc<Job>>,
    last: Instant,
}

/// Adds the document of `job` to the waiting documents. Commits all waiting documents if there are at least 512, or
/// if the last commit is at least one second ago. `job` is `None` after the last document; the waiting documents are
/// then committed at once.
async fn commit(
    commits: &RefCell<Commits>,
    embedder: &Arc<dyn Embedder>,
    context: &Arc<StageContext>,
    job: Option<Arc<Job>>,
) {
    let (mut writer, group) = {
        let mut commits = commits.borrow_mut();
        let last_call = job.is_none();
        commits.waiting.extend(job);
        let due = last_call || commits.waiting.len() >= 512 || commits.last.elapsed() >= Duration::from_secs(1);
        let Some(writer) = due.then(|| commits.writer.take()).flatten() else { return };
        (writer, std::mem::take(&mut commits.waiting))
    };
    let writes = group.iter().map(|job| write(job)).collect();
    writer.commit(writes, embedder.identity()).await.unwrap();
    let outcomes = StageOutcomes { context: context.clone(), stage: StageName::Loading, next: None };
    futures_util::future::join_all(group.iter().map(|job| persist(&outcomes, job, nothing()))).await;
    let mut commits = commits.borrow_mut();
    (commits.writer, commits.last) = (Some(writer), Instant::now());
}

fn write(job: &Job) -> Write {
    let Input::Embedded(document) = &job.input else { unreachable!("only embedded documents are committed") };
    let (key, source) = (&job.claim.key, job.claim.source.clone());
    let rows = DocumentRows::of_embedded(key.id.clone(), key.version, source, Default::default(), document);
    Write::Upsert(rows.unwrap())
}

/// Holds one worker for each of the first four stages. The workers are of the same types as in the pools of the
/// pipeline.
struct Workers(Vec<(StageName, WorkOf<ChunkStage>)>);

impl Workers {
    fn new(engine: &Engine, embedder: &Arc<dyn Embedder>, context: &Arc<StageContext>) -> Self {
        let settings = &engine.config.settings;
        let (context, clock) = (context.clone(), engine.clock.clone());
        let tokens: Arc<dyn TokenCounter> = Arc::new(Tokens(embedder.clone()));
        let options = settings.extract.options.clone();
        let program = ChildProgram::this_program().unwrap();
        let extract = ExtractStage {
            originals: Arc::new(docweir::intake::originals::LocalOriginals),
            context: context.clone(),
            options,
            program,
            wake: Arc::default(),
            max_changes: 1,
            changes: Arc::default(),
        };
        let options = settings.chunk.options.clone();
        let chunk = ChunkStage { context: context.clone(), options, tokens: tokens.clone(), clock: clock.clone() };
        let enricher = Arc::new(LocalEnricher::new(settings.enrich.options.clone(), tokens));
        let enrich = EnrichStage { context: context.clone(), enricher, clock: clock.clone() };
        let options = settings.embed.options.batch.clone();
        let (embedder, in_flight) = (embedder.clone(), InFlight::default());
        let embed = EmbedStage { context, embedder, cache: engine.cache(), in_flight, options, batches: None, clock };
        Self(vec![
            (StageName::Extraction, extract.worker().unwrap()),
            (StageName::Chunking, chunk.worker().unwrap()),
            (StageName::Enrichment, enrich.worker().unwrap()),
            (StageName::Embedding, embed.worker().unwrap()),
        ])
    }

    /// Runs a document through the first four stages and writes every step to the control store. Returns a job that is
    /// ready for loading.
    async fn embedded(&mut self, context: &Arc<StageContext>, claim: Claim) -> Arc<Job> {
        let input = context.artefacts.resume(&claim, false).await.unwrap();
        let mut job = Arc::new(Job { claim: Arc::new(claim), input });
        for (stage, worker) in &mut self.0 {
            let outcomes = StageOutcomes { context: context.clone(), stage: *stage, next: None };
            outcomes.begin(&job, 0).await.unwrap();
            let AttemptOutcome::Done(result) = worker.run(&job, &Cancel::default()).await else {
                unreachable!("good documents")
            };
            let next = result.next.clone().unwrap();
            persist(&outcomes, &job, result).await;
            job = Arc::new(Job { claim: job.claim.clone(), input: next });
        }
        let outcomes = StageOutcomes { context: context.clone(), stage: StageName::Loading, next: None };
        outcomes.begin(&job, 0).await.unwrap();
        job
    }
}

async fn persist(outcomes: &StageOutcomes, job: &Arc<Job>, result: StageResult) {
    let persisted = outcomes.persist(job, &Verdict::Done(result)).await.unwrap();
    assert!(matches!(persisted, Persisted::Release));
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

async fn register(engine: &Engine, docs: &Path) {
    let mut new = Vec::new();
    for entry in std::fs::read_dir(docs).unwrap() {
        let path = entry.unwrap().path();
        let content = std::fs::read(&path).unwrap();
        new.push(document(source::of_path(&path), &content));
    }
    for batch in new.chunks(engine.config.settings.intake.register_batch) {
        engine.control.register(batch.to_vec()).await.unwrap();
    }
}

fn document(source: String, content: &[u8]) -> NewDocument {
    NewDocument {
        source,
        content: Sha256Hex::of(content),
        fingerprint: Sha256Hex::of(b"bench"),
        bytes: content.len() as u64,
        media_type: MediaType::Pdf,
        tenant: "default".into(),
        weight: 1,
        tag: None,
        parent: None,
    }
}

fn context(engine: &Engine, embedder: &Arc<dyn Embedder>) -> Arc<StageContext> {
    Arc::new(pipeline::context(engine, embedder.identity().clone(), Arc::new(|_: Event| {})))
}

/// Creates an engine on a new state folder, with default settings.
async fn fresh(place: &tempfile::TempDir) -> Engine {
    let folder = place.path().join("state");
    let argument = Argument::new("bench", "state.folder", folder.to_str().unwrap());
    Engine::create(Config::load(&Source::None, [], vec![argument]).unwrap()).await.unwrap()
}

/// Measures documents per second through pools whose stages do nothing. Every step is written to the control store, as
/// in a real run.
pub async fn nothing_but_records() -> f64 {
    const DOCUMENTS: usize = 5_000;
    let state = tempfile::tempdir().unwrap();
    let engine = fresh(&state).await;
    let context = context(&engine, &embedder());
    let new: Vec<_> = (0..DOCUMENTS).map(|n| document(format!("file:///{n}.pdf"), b"x")).collect();
    for batch in new.chunks(engine.config.settings.intake.register_batch) {
        engine.control.register(batch.to_vec()).await.unwrap();
    }
    let root = RootHandle::start(Default::default());
    let mut pools: Vec<PoolHandle<Job>> = Vec::new();
    for stage in StageName::ALL.into_iter().rev() {
        let outcomes = StageOutcomes { context: context.clone(), stage, next: pools.last().cloned() };
        pools.push(start_pool(kernel::options(stage.verb()), NoStage, Rc::new(outcomes), &root));
    }
    let started = Instant::now();
    loop {
        let claims =
            context.control.claim("bench", LEASE, engine.config.settings.intake.claim_batch, None).await.unwrap();
        if claims.is_empty() {
            break;
        }
        for claim in claims {
            context.claims.begin(&claim);
            let job = Job { claim: Arc::new(claim), input: Input::Original };
            pools[4].submit(spec(job)).await.unwrap();
        }
    }
    for pool in pools.iter().rev() {
        pool.drain(DrainMode::Finish).await;
    }
    let rate = DOCUMENTS as f64 / started.elapsed().as_secs_f64();
    root.stop();
    assert_eq!(context.control.counts().await.unwrap().get("COMPLETED"), Some(&(DOCUMENTS as u64)));
    rate
}

struct NoStage;

impl Stage for NoStage {
    type Job = Job;
    type Done = StageResult;
    type Park = Resume;

    fn finished_bytes(&self, job: &Job, done: &StageResult) -> usize {
        job.finished_bytes(done)
    }

    fn worker(&self) -> Result<Box<dyn Work<Job, StageResult, Resume>>, StageError> {
        Ok(Box::new(NoStage))
    }
}

#[async_trait]
impl Work<Job, StageResult, Resume> for NoStage {
    async fn run(&mut self, job: &Arc<Job>, _: &Cancel) -> AttemptOutcome<StageResult, Resume> {
        let next = match &job.input {
            Input::Original => Some(Input::Extracted(Arc::new(empty()))),
            Input::Extracted(_) => Some(Input::Chunks(Arc::default())),
            Input::Chunks(_) => Some(Input::Enriched(Arc::default())),
            Input::Enriched(_) => Some(Input::Embedded(Arc::new(EmbeddedDocument {
                chunks: Arc::default(),
                notes: Vec::new(),
                vectors: Vec::new(),
                usage: Usage::default(),
            }))),
            Input::Embedded(_) | Input::Removal => None,
        };
        AttemptOutcome::Done(StageResult { next, ..nothing() })
    }
}

fn empty() -> ExtractedDocument {
    ExtractedDocument {
        media_type: MediaType::Pdf,
        pages: Vec::new(),
        info: Default::default(),
        outline: Vec::new(),
        notes: Vec::new(),
    }
}
