//! Builds the supervision tree of a run. The tree consists of five pools, the committer, the heartbeat, the
//! dispatcher, and the services that maintain the vector files.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use docweir_admission::Admission;
use docweir_core::documents::{Sha256Hex, Stage as StageName};
use docweir_core::error::StageError;
use docweir_core::model::ModelIdentity;
use docweir_extract::ChildProgram;
use docweir_index::compaction::Mode;
use docweir_index::{OpenCollection, VectorStore};
use docweir_stages::chunk::TokenCounter;
use docweir_stages::embed::{EmbedOptions, InFlight, Tokens};
use docweir_stores::control::Resume;
use docweir_target::Target;
use tokio::sync::Notify;

use crate::actors::committer::Committer;
use crate::actors::dispatcher::{Dispatcher, Pools};
use crate::actors::heartbeat::Heartbeat;
use crate::actors::maintenance::{MaintenanceConfig, MaintenanceServices};
use crate::actors::outages::Outages;
use crate::actors::outcomes::{StageContext, StageOutcomes};
use crate::actors::queues::Consumers;
use crate::actors::reservation_sweeper::ReservationSweeper;
use crate::actors::stage_chunk::ChunkStage;
use crate::actors::stage_embed::EmbedStage;
use crate::actors::stage_enrich::EnrichStage;
use crate::actors::stage_extract::ExtractStage;
use crate::actors::stage_load::LoadStage;
use crate::config::{Settings, StagePool, Workers};
use crate::engine::{Engine, fingerprint};
use crate::messages::commit::Commit;
use crate::messages::event::{Event, EventSink};
use crate::messages::job::{Job, StageResult};
use crate::messages::progress::{ProviderRow, SharedProgress, StageRow};
use crate::pipeline::paid::{PaidWork, PaidWorkArgs};
use crate::pipeline::{RunEnd, RunError, Services, context};
use crate::supervisors::service::{Inbox, Running, ServiceHandle, start_service};
use crate::supervisors::{DrainMode, PoolHandle, PoolOptions, RootHandle, Stage, SystemFailure, start_pool};

/// Interval at which the shared progress is updated.
const PROGRESS_INTERVAL: Duration = Duration::from_millis(100);

/// Holds the options of a run, except the documents to ingest.
#[derive(Clone, Copy, Debug, Default)]
pub struct RunOptions {
    /// True if the run ingests records.
    pub records: bool,
    /// If true, the run waits until every batch has ended.
    pub wait: bool,
    /// If true, the run creates no new batches.
    pub polls_only: bool,
    /// True if batches or items exist already.
    pub known: bool,
}

/// Holds a running supervision tree.
pub struct Tree {
    pub root: RootHandle,
    pools: Pools,
    _committing: Running,
    _beating: Running,
    _keeping_ledger: Option<Running>,
    pub maintenance: Rc<MaintenanceServices>,
    pub maintenance_config: MaintenanceConfig,
    /// Function that opens a collection of the index. It is called to merge the vector files of a collection.
    pub open: OpenCollection,
    /// Consumers of the message queues.
    pub consumers: Consumers,
    pub admission: Option<Arc<Admission>>,
    pub outages: Arc<Outages>,
    pub paid: Option<PaidWork>,
    /// If true, vector files that are due for merging are merged when the run ends.
    automatic: bool,
    dispatching: Running,
    pub wake: Arc<Notify>,
    pub intake_finished: Arc<AtomicBool>,
    stop: Arc<AtomicBool>,
    pub fingerprint: Sha256Hex,
}

impl Tree {
    pub fn start(
        engine: &Engine,
        owner: &str,
        services: Services,
        vectors: Arc<VectorStore>,
        target: Arc<dyn Target>,
        events: Arc<dyn EventSink>,
        asked: RunOptions,
    ) -> Result<Self, RunError> {
        let Services { embedder, enricher } = services;
        let settings = &engine.config.settings;
        let clock = engine.clock.clone();
        let model = embedder.identity().clone();
        let root = RootHandle::start(settings.restart.clone());
        let context = Arc::new(context(engine, model.clone(), events.clone()));
        let wake: Arc<Notify> = Arc::default();
        let (committer, committing) = start_committer(settings, &target, &model, &context, &root);
        let maintenance_config = engine.maintenance(owner);
        let maintenance = Rc::new(MaintenanceServices::start(&maintenance_config, &vectors, &root));

        let (intake_finished, stop): (Arc<AtomicBool>, Arc<AtomicBool>) = Default::default();
        let beginning = PaidWorkArgs {
            engine,
            owner,
            context: &context,
            embedder: embedder.clone(),
            events,
            wake: wake.clone(),
            intake_finished: intake_finished.clone(),
            records: asked.records,
            wait: asked.wait,
            polls_only: asked.polls_only,
            known: asked.known,
        };
        let paid = PaidWork::start(beginning, &root)?;
        let embedder = paid.as_ref().map_or(embedder, |p| p.embedder.clone());
        let admission = embedder.admission();
        let computing = Workers::for_computing();
        let at_a_time = embedder.at_a_time().unwrap_or(computing);
        let pool = Starter { settings, context: &context, root: &root };
        let in_flight = root.in_flight_table().clone();
        let load = LoadStage { committer, model: model.clone(), target: target.capabilities(), in_flight };
        let load = pool.start(StageName::Loading, &settings.load, computing, load, None);
        let embed = EmbedStage {
            context: context.clone(),
            embedder: embedder.clone(),
            cache: engine.cache(),
            in_flight: InFlight::default(),
            options: match paid.as_ref().is_some_and(|p| p.at_once) {
                true => EmbedOptions { max_texts: usize::MAX, max_tokens: u64::MAX },
                false => settings.embed.options.batch.clone(),
            },
            batches: paid.as_ref().map(|p| p.batches.clone() as _),
            clock: clock.clone(),
        };
        let embed = pool.start(StageName::Embedding, &settings.embed.pool(), at_a_time, embed, Some(load.clone()));
        let tokens: Arc<dyn TokenCounter> = Arc::new(Tokens(embedder));
        let at_a_time = enricher.at_a_time().map_or(computing, |n| n.max(computing));
        let enrich = EnrichStage { context: context.clone(), enricher, clock: clock.clone() };
        let enrich = pool.start(StageName::Enrichment, &settings.enrich, at_a_time, enrich, Some(embed.clone()));
        let options = settings.chunk.options.clone();
        let chunk = ChunkStage { context: context.clone(), options, tokens, clock };
        let chunk = pool.start(StageName::Chunking, &settings.chunk, computing, chunk, Some(enrich.clone()));
        let program = ChildProgram::this_program().map_err(|e| RunError::system("extract", e))?;
        let options = settings.extract.options.clone();
        let max_changes = settings.intake.max_changes;
        let changes = Arc::default();
        let originals = engine.originals.clone();
        let extract = ExtractStage {
            context: context.clone(),
            originals,
            options,
            program,
            wake: wake.clone(),
            max_changes,
            changes,
        };
        let extract = pool.start(StageName::Extraction, &settings.extract, computing, extract, Some(chunk.clone()));

        let pools = Pools { extract, chunk, enrich, embed, load };
        let lease = Duration::from_secs(settings.lease.seconds);
        let beat = Rc::new(Heartbeat {
            context: context.clone(),
            lease,
            interval: Duration::from_secs(settings.lease.heartbeat_seconds),
            in_flight: root.in_flight_table().clone(),
        });
        let run = move |_: Rc<Inbox<()>>| {
            let beat = beat.clone();
            async move { beat.run().await }
        };
        let (_, beating) = start_service("heartbeat", 1, settings.restart.clone(), &root, run);

        let keeping_ledger = start_reservation_sweeper(engine, owner, &root)?;
        let fingerprint = fingerprint(settings, &model);
        let dispatcher = Rc::new(Dispatcher {
            context: context.clone(),
            clock: engine.clock.clone(),
            pools: pools.clone(),
            owner: owner.to_owned(),
            lease,
            batch: settings.intake.claim_batch,
            claimed: Default::default(),
            commands: Default::default(),
            claims_commands: Default::default(),
            is_alone: Default::default(),
            in_flight: root.in_flight_table().clone(),
            last_submission: Default::default(),
            heartbeat: Duration::from_secs(settings.lease.heartbeat_seconds),
            poll: Duration::from_secs(settings.intake.poll_seconds),
            is_shared: engine.is_shared(),
            retry: settings.retry.clone(),
            max_interruptions: settings.lease.max_interruptions,
            alone_after_interruptions: settings.lease.alone_after_interruptions,
            fingerprint: fingerprint.clone(),
            wake: wake.clone(),
            intake_finished: intake_finished.clone(),
            batch_progress: paid.as_ref().map(|p| p.batch_progress.clone()),
            stop: stop.clone(),
        });
        let run = move |_: Rc<Inbox<()>>| {
            let dispatcher = dispatcher.clone();
            async move { dispatcher.run().await }
        };
        let (_, dispatching) = start_service("dispatcher", 1, settings.restart.clone(), &root, run);
        Ok(Self {
            open: engine.open_collection(),
            root,
            pools,
            _committing: committing,
            _beating: beating,
            _keeping_ledger: keeping_ledger,
            maintenance,
            maintenance_config,
            consumers: Consumers::default(),
            admission,
            outages: context.outages.clone(),
            paid,
            automatic: settings.compaction.automatic,
            dispatching,
            wake,
            intake_finished,
            stop,
            fingerprint,
        })
    }

    /// Runs until all work is done, the system fails or a signal arrives.
    pub async fn run(
        mut self,
        taking_in: impl Future<Output = Result<(), StageError>>,
        progress: &SharedProgress,
        events: &dyn EventSink,
        stop_timeout: Duration,
    ) -> Result<RunEnd, RunError> {
        let mut signals = Signals::new().map_err(|e| RunError::system("signals", e))?;
        let mut taking_in = std::pin::pin!(taking_in);
        let (mut taken_in, mut interrupted) = (false, None);
        let root = self.root.clone();
        loop {
            tokio::select! {
                failure = root.failed() => return Err(self.fail(failure)),
                done = &mut taking_in, if !taken_in => {
                    taken_in = true;
                    progress.update(|b| b.intake.finished = true);
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
                () = tokio::time::sleep(PROGRESS_INTERVAL) => self.show(progress).await,
            }
        }
        self.show(progress).await;
        if interrupted.is_some() {
            let text = format!(
                "stopping within {} s, after running work has finished; send the signal again to stop immediately",
                stop_timeout.as_secs()
            );
            events.emit(Event::Notice { text });
            progress.update(|b| b.draining = true);
        }
        let drained = tokio::select! {
            failure = root.failed() => return Err(self.fail(failure)),
            _ = signals.next() => false,
            () = self.drain(interrupted.is_some()) => true,
            () = tokio::time::sleep(stop_timeout), if interrupted.is_some() => false,
        };
        if !drained {
            self.halt();
        }
        // Merge due files now: a short run ends before the compactor's next poll, and deltas would accumulate.
        if interrupted.is_none() && self.automatic {
            tokio::select! {
                merged = self.merge() => if let Err(error) = merged {
                    tracing::warn!(%error, "vector files not merged; the next run retries");
                },
                // All documents are done; an abandoned merge loses nothing.
                number = signals.next() => interrupted = Some(number),
                failure = root.failed() => return Err(self.fail(failure)),
            }
        }
        self.root.stop();
        match interrupted {
            Some(number) => Ok(RunEnd::Interrupted(number)),
            None => Ok(RunEnd::Finished),
        }
    }

    /// Merges the vector files that are due for merging, in every collection that the run wrote to.
    async fn merge(&self) -> Result<(), StageError> {
        self.maintenance.compact(Mode::Due).await?;
        for name in self.paid.iter().flat_map(|p| p.collections.used()) {
            let vectors = (self.open)(&name)?;
            let maintenance = MaintenanceServices::start(&self.maintenance_config, &vectors, &self.root);
            maintenance.compact(Mode::Due).await?;
        }
        Ok(())
    }

    /// Stops the queue consumers and drains the pools. If `release` is true, jobs that wait in the pools are released
    /// unfinished, and the next run can process their documents.
    async fn drain(&mut self, release: bool) {
        let mut consumers = std::mem::take(&mut self.consumers);
        tokio::join!(consumers.stop(), self.drain_pools(release));
    }

    /// Drains the pools. If `release` is true, all pools drain at the same time. A job that runs finishes its current
    /// stage only. A waiting job is released, and the next run can process its document. If `release` is false, the
    /// pools finish all jobs. The pools are drained one after the other, in the order of the stages, so that no job
    /// reaches a pool that is drained already.
    async fn drain_pools(&mut self, release: bool) {
        self.stop.store(true, Ordering::Release);
        self.wake.notify_one();
        let mode = if release { DrainMode::Release } else { DrainMode::Finish };
        if release {
            // All pools drain at the same time: a job that finishes a stage is released at the next stage.
            let all = self.pools.all().map(|(_, pool)| pool.drain(mode));
            futures_util::future::join_all(all).await;
            self.dispatching.ended().await;
        } else {
            for (_, pool) in self.pools.all() {
                pool.drain(mode).await;
            }
        }
        if let Some(paid) = &mut self.paid {
            paid.finish().await;
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

    async fn show(&self, progress: &SharedProgress) {
        let mut rows = Vec::with_capacity(StageName::ALL.len());
        for (stage, pool) in self.pools.all() {
            let Some(stats) = pool.observe().await else { continue };
            rows.push(StageRow {
                stage,
                waiting: (stats.queued + stats.retry_waiting + stats.forwarding) as u64,
                in_flight: (stats.busy + stats.persisting) as u64,
                done: stats.counts.done,
                retried: stats.counts.failed - stats.counts.quarantined.min(stats.counts.failed),
                quarantined: stats.counts.quarantined,
                workers: stats.workers as u64,
            });
        }
        let provider = self.admission.as_ref().map(|a| ProviderRow::of(a.name(), &a.status()));
        progress.update(|b| {
            if !rows.is_empty() {
                b.stages = rows;
            }
            b.provider = provider;
        });
    }
}

/// Starts pools. Holds the arguments that are the same for all pools.
struct Starter<'a> {
    settings: &'a Settings,
    context: &'a Arc<StageContext>,
    root: &'a RootHandle,
}

impl Starter<'_> {
    fn start<S, T>(
        &self,
        name: StageName,
        pool: &StagePool<T>,
        suits: usize,
        stage: S,
        next: Option<PoolHandle<Job>>,
    ) -> PoolHandle<Job>
    where
        S: Stage<Job = Job, Done = StageResult, Park = Resume>,
    {
        let options = PoolOptions {
            name: name.verb().to_owned(),
            min_workers: pool.workers.min,
            max_workers: pool.workers.most(suits),
            max_messages: pool.queue_documents,
            max_bytes: pool.queue_bytes,
            deadline: Duration::from_secs(pool.deadline_seconds),
            retry: self.settings.retry.clone(),
            restart: self.settings.restart.clone(),
            scaling: self.settings.scaling.clone(),
        };
        let sink = Rc::new(StageOutcomes { context: self.context.clone(), stage: name, next });
        start_pool(options, stage, sink, self.root)
    }
}

/// Starts the reservation sweeper if several processes share the ledger. The sweeper handles the reservations that a
/// dead process leaves behind.
fn start_reservation_sweeper(engine: &Engine, owner: &str, root: &RootHandle) -> Result<Option<Running>, RunError> {
    if !engine.is_shared() {
        return Ok(None);
    }
    let settings = &engine.config.settings;
    let sweeper = Rc::new(ReservationSweeper {
        ledger: engine.ledger().map_err(|e| RunError::system("ledger", e))?,
        run: owner.to_owned(),
        interval: Duration::from_secs(settings.dynamodb.ledger_lease_seconds),
    });
    let (_, running) = start_service::<(), _, _>("reservation_sweeper", 1, settings.restart.clone(), root, move |_| {
        let sweeper = sweeper.clone();
        async move {
            sweeper.run().await;
            Ok(())
        }
    });
    Ok(Some(running))
}

fn start_committer(
    settings: &Settings,
    target: &Arc<dyn Target>,
    model: &ModelIdentity,
    context: &Arc<StageContext>,
    root: &RootHandle,
) -> (ServiceHandle<Commit>, Running) {
    let (target, model, claims) = (target.clone(), model.clone(), context.claims.clone());
    let options = settings.load.options.clone();
    let control = context.control.clone();
    let lease = Duration::from_secs(settings.lease.seconds);
    let capacity = options.max_documents;
    let run = move |inbox: Rc<Inbox<Commit>>| {
        // Each restart creates a new writer; an unfinished commit of the previous one leaves at most an orphan.
        let mut committer = Committer {
            writer: target.clone().writer(),
            model: model.clone(),
            options: options.clone(),
            target: target.capabilities(),
            claims: claims.clone(),
            control: control.clone(),
            lease,
            carried: None,
        };
        async move {
            committer.run(&inbox).await;
            Ok(())
        }
    };
    start_service("committer", capacity, settings.restart.clone(), root, run)
}

/// Receives SIGINT and SIGTERM.
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
