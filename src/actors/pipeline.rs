//! A run of the whole pipeline: starts the tree, watches over it, and takes it down again.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use metrics_exporter_prometheus::{PrometheusBuilder, PrometheusHandle};
use tokio::sync::Notify;

use crate::actors::artefacts::Artefacts;
use crate::actors::committer::{Committer, store};
use crate::actors::dispatcher::{Dispatcher, Pools};
use crate::actors::heartbeat::Heartbeat;
use crate::actors::intake::{Intake, Request};
use crate::actors::quarantine::QuarantineKeeper;
use crate::actors::stage_chunk::ChunkStage;
use crate::actors::stage_embed::EmbedStage;
use crate::actors::stage_enrich::EnrichStage;
use crate::actors::stage_extract::ExtractStage;
use crate::actors::stage_load::LoadStage;
use crate::actors::steward::{Desk, StageSteward, control};
use crate::config::{Settings, StagePool};
use crate::documents::{Sha256Hex, Stage as StageName};
use crate::engine::{Engine, fingerprint};
use crate::error::StageError;
use crate::http::{self, HttpOptions};
use crate::intake::Walk;
use crate::intake::walk::{WalkError, resolve};
use crate::messages::board::{Board, StageRow};
use crate::messages::commit::Commit;
use crate::messages::event::{Event, EventSink};
use crate::messages::job::{Job, StageResult};
use crate::stages::chunk::TokenCounter;
use crate::stages::embed::Embedder;
use crate::stages::enrich::LocalEnricher;
use crate::stages::extract::ChildProgram;
use crate::stages::model::ModelIdentity;
use crate::stores::control::{Claim, ControlError, DocumentKey, Intent, RecordFilter, Resume, Status};
use crate::stores::state::owner_id;
use crate::stores::vectors::{VectorStore, Write};
use crate::supervisors::service::{Inbox, Running, ServiceHandle, start_service};
use crate::supervisors::{
    DrainMode, PoolHandle, PoolOptions, RootHandle, Stage, SystemFailure, metrics as pool_metrics, start_pool,
};

/// How often the board is brought up to date.
const BOARD: Duration = Duration::from_millis(100);

/// What one `ingest` is to do.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IngestRequest {
    pub paths: Vec<PathBuf>,
    pub include: Vec<String>,
    pub exclude: Vec<String>,
    pub prune: bool,
}

/// How a run came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ended {
    /// Everything that could be done is done.
    Finished,
    /// A signal asked for an end; what was running was finished, the rest goes on in the next run.
    Interrupted(i32),
}

/// Why a run could not begin or go on.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Paths(#[from] WalkError),
    /// The index holds vectors of another model.
    #[error("{0}")]
    Model(StageError),
    #[error("can't listen on {address}: {error}")]
    Listen { address: SocketAddr, error: std::io::Error },
    #[error("{0}")]
    System(#[from] SystemFailure),
}

impl RunError {
    fn system(child: &str, error: impl std::fmt::Display) -> Self {
        RunError::System(SystemFailure { child: child.to_owned(), reason: error.to_string() })
    }
}

/// Takes the files in and brings every unfinished document through, those of earlier runs too. The caller holds the
/// state folder's lock and is on a local set.
pub async fn ingest(
    engine: &Engine,
    embedder: Arc<dyn Embedder>,
    request: IngestRequest,
    events: Arc<dyn EventSink>,
    board: Arc<Board>,
    address: Option<SocketAddr>,
) -> Result<Ended, RunError> {
    let settings = &engine.config.settings;
    let mut intake_options = settings.intake.clone();
    intake_options.include.extend(request.include);
    intake_options.exclude.extend(request.exclude);
    let walk = Walk::new(&request.paths, &intake_options)?;
    let prune = match request.prune {
        true => folders(&request.paths)?,
        false => Vec::new(),
    };
    let vectors = engine.vectors().map_err(|e| RunError::system("vectors", e))?;
    vectors.check_model(embedder.identity()).await.map_err(|e| RunError::Model(store(&e)))?;
    let listener = match address {
        Some(address) => Some(http::bind(address).await.map_err(|error| RunError::Listen { address, error })?),
        None => None,
    };
    let owner = owner_id(engine.clock.as_ref());
    take_over(engine, &owner, &vectors).await?;

    // Before the pools: their metrics go to the recorder that is there when they start.
    let recorder = listener.as_ref().and_then(|_| recorder());
    let tree = Tree::start(engine, &owner, embedder, vectors, events.clone())?;
    let pages = listener.map(|listener| serve(listener, recorder, &tree.root, settings.http.clone()));
    let intake = Intake {
        control: engine.control.clone(),
        events: events.clone(),
        options: intake_options,
        fingerprint: tree.fingerprint.clone(),
        wake: tree.wake.clone(),
    };
    let finished = tree.intake_finished.clone();
    let wake = tree.wake.clone();
    let taking_in = async {
        let done = intake.run(Request { walk, prune }).await;
        finished.store(true, Ordering::Release);
        wake.notify_one();
        done
    };
    let outcome = tree.run(taking_in, &board, events.as_ref(), Duration::from_secs(settings.drain.seconds)).await;
    drop(pages);
    outcome
}

/// Fulfils the requests for deletion that wait in the control store, and nothing else: no model is needed. The caller
/// holds the state folder's lock.
pub async fn settle_requests(engine: &Engine) -> Result<u64, RunError> {
    let system = |e: StageError| RunError::system("delete", e);
    let vectors = engine.vectors().map_err(|e| RunError::system("vectors", e))?;
    let manifest = vectors.manifest().await.map_err(|e| system(store(&e)))?;
    let model = manifest.and_then(|m| m.model().cloned());
    let settings = &engine.config.settings;
    let lease = Duration::from_secs(settings.lease.seconds);
    let owner = owner_id(engine.clock.as_ref());
    engine.control.expire_leases_of_others(&owner).await.map_err(|e| system(control(e)))?;
    let silent: Arc<dyn EventSink> = Arc::new(|_: Event| {});
    let desk = desk(engine, model.clone().unwrap_or_else(unknown_model), silent);
    let mut writer = vectors.writer();
    let mut deleted = 0;
    loop {
        let batch = settings.intake.claim_batch;
        let claims = engine.control.claim(&owner, lease, batch, Some(Intent::Delete)).await;
        let claims = claims.map_err(|e| system(control(e)))?;
        if claims.is_empty() {
            return Ok(deleted);
        }
        if let Some(model) = &model {
            let tombstone = |c: &Claim| Write::Delete { document_id: c.key.id.clone(), version: c.key.version };
            let writes = claims.iter().map(tombstone).collect();
            writer.commit(writes, model).await.map_err(|e| system(store(&e)))?;
        }
        for claim in &claims {
            desk.deleted(claim).await.map_err(system)?;
            deleted += 1;
        }
    }
}

/// Where nothing was ever loaded, nothing is compared with it.
fn unknown_model() -> ModelIdentity {
    let metric = crate::stages::model::Metric::Cosine;
    ModelIdentity { id: "none".into(), weights: String::new(), dimension: 0, metric }
}

/// What the given paths name as folders, resolved.
fn folders(paths: &[PathBuf]) -> Result<Vec<PathBuf>, WalkError> {
    let resolved: Vec<PathBuf> = paths.iter().map(|p| resolve(p)).collect::<Result<_, _>>()?;
    Ok(resolved.into_iter().filter(|p| p.is_dir()).collect())
}

/// Ends the claims of processes that are gone, and completes what they had made visible but not yet said so.
async fn take_over(engine: &Engine, owner: &str, vectors: &VectorStore) -> Result<(), RunError> {
    const PAGE: usize = 500;
    let system = |e: StageError| RunError::system("control", e);
    engine.control.expire_leases_of_others(owner).await.map_err(|e| system(control(e)))?;
    let filter = RecordFilter { status: Some(Status::InProgress), ..Default::default() };
    let mut inventory = None;
    let mut after = None;
    loop {
        let page = engine.control.list(&filter, after.as_ref(), PAGE).await.map_err(|e| system(control(e)))?;
        let loading = page
            .iter()
            .filter(|r| r.intent == Intent::Process && r.current_stage == StageName::Loading.current_stage());
        let mut visible = Vec::new();
        for record in loading {
            if inventory.is_none() {
                inventory = Some(vectors.inventory().await.map_err(|e| system(store(&e)))?);
            }
            let held = inventory.as_ref().and_then(|i| i.documents.get(&record.document_id));
            if held.is_some_and(|h| h.version == record.version && !h.tombstone) {
                visible.push(DocumentKey { id: record.document_id.clone(), version: record.version });
            }
        }
        if !visible.is_empty() {
            engine.control.mark_loaded(&visible).await.map_err(|e| system(control(e)))?;
        }
        after = page.last().map(|r| r.document_id.clone());
        if page.len() < PAGE {
            return Ok(());
        }
    }
}

fn desk(engine: &Engine, model: ModelIdentity, events: Arc<dyn EventSink>) -> Desk {
    let settings = &engine.config.settings;
    let options = settings.quarantine.clone();
    Desk {
        control: engine.control.clone(),
        artefacts: Artefacts::new(engine.objects.clone(), settings.chunk.options.clone(), model),
        quarantine: QuarantineKeeper::new(engine.objects.clone(), engine.clock.clone(), options),
        events,
        claims: Arc::default(),
    }
}

/// The running tree.
struct Tree {
    root: RootHandle,
    pools: Pools,
    _committing: Running,
    _beating: Running,
    dispatching: Running,
    wake: Arc<Notify>,
    intake_finished: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    fingerprint: Sha256Hex,
}

impl Tree {
    fn start(
        engine: &Engine,
        owner: &str,
        embedder: Arc<dyn Embedder>,
        vectors: Arc<VectorStore>,
        events: Arc<dyn EventSink>,
    ) -> Result<Self, RunError> {
        let settings = &engine.config.settings;
        let clock = engine.clock.clone();
        let model = embedder.identity().clone();
        let root = RootHandle::start(settings.restart.clone());
        let desk = Arc::new(desk(engine, model.clone(), events));
        let wake: Arc<Notify> = Arc::default();
        let (committer, committing) = start_committer(settings, &vectors, &model, &desk, &root);

        let pool = Starter { settings, desk: &desk, root: &root };
        let load =
            LoadStage { committer, model: model.clone(), options: settings.vectors.clone(), clock: clock.clone() };
        let load = pool.start(StageName::Loading, &settings.load, load, None);
        let embed = EmbedStage {
            desk: desk.clone(),
            embedder: embedder.clone(),
            cache: engine.cache(),
            options: settings.embed.options.batch.clone(),
            clock: clock.clone(),
        };
        let embed = pool.start(StageName::Embedding, &settings.embed, embed, Some(load.clone()));
        let tokens: Arc<dyn TokenCounter> = Arc::new(Tokens(embedder));
        let enricher = Arc::new(LocalEnricher::new(settings.enrich.options.clone(), tokens.clone()));
        let enrich = EnrichStage { desk: desk.clone(), enricher, clock: clock.clone() };
        let enrich = pool.start(StageName::Enrichment, &settings.enrich, enrich, Some(embed.clone()));
        let options = settings.chunk.options.clone();
        let chunk = ChunkStage { desk: desk.clone(), options, tokens, clock: clock.clone() };
        let chunk = pool.start(StageName::Chunking, &settings.chunk, chunk, Some(enrich.clone()));
        let program = ChildProgram::this_program().map_err(|e| RunError::system("extract", e))?;
        let options = settings.extract.options.clone();
        let extract = ExtractStage { desk: desk.clone(), options, program, clock, wake: wake.clone() };
        let extract = pool.start(StageName::Extraction, &settings.extract, extract, Some(chunk.clone()));

        let pools = Pools { extract, chunk, enrich, embed, load };
        let lease = Duration::from_secs(settings.lease.seconds);
        let beat = Rc::new(Heartbeat {
            desk: desk.clone(),
            lease,
            interval: Duration::from_secs(settings.lease.heartbeat_seconds),
        });
        let run = move |_: Rc<Inbox<()>>| {
            let beat = beat.clone();
            async move { beat.run().await }
        };
        let (_, beating) = start_service("heartbeat", 1, settings.restart.clone(), &root, run);

        let intake_finished: Arc<AtomicBool> = Arc::default();
        let stop: Arc<AtomicBool> = Arc::default();
        let fingerprint = fingerprint(settings, &model);
        let dispatcher = Rc::new(Dispatcher {
            desk: desk.clone(),
            pools: pools.clone(),
            owner: owner.to_owned(),
            lease,
            batch: settings.intake.claim_batch,
            poll: Duration::from_secs(settings.intake.poll_seconds),
            max_interruptions: settings.lease.max_interruptions,
            fingerprint: fingerprint.clone(),
            wake: wake.clone(),
            intake_finished: intake_finished.clone(),
            stop: stop.clone(),
        });
        let run = move |_: Rc<Inbox<()>>| {
            let dispatcher = dispatcher.clone();
            async move { dispatcher.run().await }
        };
        let (_, dispatching) = start_service("dispatcher", 1, settings.restart.clone(), &root, run);
        Ok(Self {
            root,
            pools,
            _committing: committing,
            _beating: beating,
            dispatching,
            wake,
            intake_finished,
            stop,
            fingerprint,
        })
    }

    /// Runs until everything is done, the system fails or a signal comes.
    async fn run(
        mut self,
        taking_in: impl Future<Output = Result<(), ControlError>>,
        board: &Board,
        events: &dyn EventSink,
        patience: Duration,
    ) -> Result<Ended, RunError> {
        let mut signals = Signals::new().map_err(|e| RunError::system("signals", e))?;
        let mut taking_in = std::pin::pin!(taking_in);
        let (mut taken_in, mut interrupted) = (false, None);
        let root = self.root.clone();
        loop {
            tokio::select! {
                failure = root.failed() => return Err(self.fail(failure)),
                done = &mut taking_in, if !taken_in => {
                    taken_in = true;
                    board.update(|b| b.intake.finished = true);
                    if let Err(error) = done {
                        let failure = SystemFailure { child: "intake".into(), reason: error.to_string() };
                        return Err(self.fail(failure));
                    }
                }
                number = signals.next() => {
                    interrupted = Some(number);
                    break;
                }
                () = self.dispatching.ended(), if root.failure().is_none() => break,
                () = tokio::time::sleep(BOARD) => self.show(board).await,
            }
        }
        self.show(board).await;
        if interrupted.is_some() {
            let text = format!(
                "stopping: what is running is finished first, {} s at most; again to stop at once",
                patience.as_secs()
            );
            events.emit(Event::Notice { text });
            board.update(|b| b.draining = true);
        }
        let drained = tokio::select! {
            failure = root.failed() => return Err(self.fail(failure)),
            _ = signals.next() => false,
            () = self.drain(interrupted.is_some()) => true,
            () = tokio::time::sleep(patience), if interrupted.is_some() => false,
        };
        if !drained {
            self.halt();
        }
        self.root.stop();
        match interrupted {
            Some(number) => Ok(Ended::Interrupted(number)),
            None => Ok(Ended::Finished),
        }
    }

    /// Upstream first, so that nothing new reaches a pool that has been emptied.
    async fn drain(&mut self, release: bool) {
        self.stop.store(true, Ordering::Release);
        self.wake.notify_one();
        let mode = if release { DrainMode::Release } else { DrainMode::Finish };
        if release {
            // All at once: what finishes a stage is given back at the next.
            let all = self.pools.all().map(|(_, pool)| pool.drain(mode));
            futures_util::future::join_all(all).await;
            self.dispatching.ended().await;
        } else {
            for (_, pool) in self.pools.all() {
                pool.drain(mode).await;
            }
        }
    }

    fn halt(&self) {
        for (_, pool) in self.pools.all() {
            pool.halt();
        }
    }

    fn fail(&self, failure: SystemFailure) -> RunError {
        self.halt();
        self.root.stop();
        RunError::System(failure)
    }

    async fn show(&self, board: &Board) {
        let mut rows = Vec::with_capacity(StageName::ALL.len());
        for (stage, pool) in self.pools.all() {
            let Some(stats) = pool.observe().await else { continue };
            rows.push(StageRow {
                stage,
                waiting: (stats.queued + stats.retry_waiting + stats.forwarding) as u64,
                in_flight: (stats.busy + stats.settling) as u64,
                done: stats.counts.done,
                retried: stats.counts.failed - stats.counts.quarantined.min(stats.counts.failed),
                quarantined: stats.counts.quarantined,
                workers: stats.workers as u64,
            });
        }
        if !rows.is_empty() {
            board.update(|b| b.stages = rows);
        }
    }
}

/// Starts pools with what they all share.
struct Starter<'a> {
    settings: &'a Settings,
    desk: &'a Arc<Desk>,
    root: &'a RootHandle,
}

impl Starter<'_> {
    fn start<S, T>(
        &self,
        name: StageName,
        pool: &StagePool<T>,
        stage: S,
        next: Option<PoolHandle<Job>>,
    ) -> PoolHandle<Job>
    where
        S: Stage<Job = Job, Done = StageResult, Park = Resume>,
    {
        let options = PoolOptions {
            name: name.verb().to_owned(),
            min_workers: pool.workers.min,
            max_workers: pool.workers.most(),
            max_messages: pool.queue_documents,
            max_bytes: pool.queue_bytes,
            deadline: Duration::from_secs(pool.deadline_seconds),
            retry: self.settings.retry.clone(),
            restart: self.settings.restart.clone(),
            scaling: self.settings.scaling.clone(),
        };
        let steward = Rc::new(StageSteward { desk: self.desk.clone(), stage: name, next });
        start_pool(options, stage, steward, self.root)
    }
}

fn start_committer(
    settings: &Settings,
    vectors: &Arc<VectorStore>,
    model: &ModelIdentity,
    desk: &Arc<Desk>,
    root: &RootHandle,
) -> (ServiceHandle<Commit>, Running) {
    let (vectors, model, claims) = (vectors.clone(), model.clone(), desk.claims.clone());
    let options = settings.load.options.clone();
    let capacity = options.max_documents;
    let run = move |inbox: Rc<Inbox<Commit>>| {
        // A new writer for each life: what the last one had begun and not finished is at most an orphan.
        let mut committer = Committer {
            writer: vectors.writer(),
            model: model.clone(),
            options: options.clone(),
            claims: claims.clone(),
        };
        async move {
            committer.run(&inbox).await;
            Ok(())
        }
    };
    start_service("committer", capacity, settings.restart.clone(), root, run)
}

/// The embedder's tokenizer, as chunking and enrichment see it.
struct Tokens(Arc<dyn Embedder>);

impl TokenCounter for Tokens {
    fn count(&self, text: &str) -> usize {
        self.0.count_tokens(text)
    }

    fn window(&self) -> usize {
        self.0.window()
    }
}

/// SIGINT and SIGTERM.
struct Signals {
    interrupt: tokio::signal::unix::Signal,
    terminate: tokio::signal::unix::Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        use tokio::signal::unix::{SignalKind, signal};
        Ok(Self { interrupt: signal(SignalKind::interrupt())?, terminate: signal(SignalKind::terminate())? })
    }

    async fn next(&mut self) -> i32 {
        tokio::select! {
            _ = self.interrupt.recv() => 2,
            _ = self.terminate.recv() => 15,
        }
    }
}

/// Serves the pages until the handle drops.
fn serve(
    listener: tokio::net::TcpListener,
    recorder: Option<PrometheusHandle>,
    root: &RootHandle,
    options: HttpOptions,
) -> AbortOnDrop {
    let root = root.clone();
    let pages = Rc::new(http::Pages {
        metrics: Box::new(move || recorder.as_ref().map(PrometheusHandle::render).unwrap_or_default()),
        supervision: Box::new(move || {
            let root = root.clone();
            Box::pin(async move { serde_json::to_string_pretty(&root.tree().await).unwrap_or_default() })
        }),
    });
    AbortOnDrop(tokio::task::spawn_local(http::serve(listener, pages, options)))
}

struct AbortOnDrop(tokio::task::JoinHandle<()>);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

/// The process's recorder of metrics; `None` when another was installed before.
fn recorder() -> Option<PrometheusHandle> {
    let handle = PrometheusBuilder::new().install_recorder().ok();
    pool_metrics::describe();
    handle
}
