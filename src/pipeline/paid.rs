//! Starts the services for batches and records, and selects the embedder of documents.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use docweir_providers::batched::BatchedEmbedder;
use docweir_stages::embed::Embedder;
use docweir_stores::batches::Batches;
use tokio::sync::Notify;

use crate::actors::batches::EmbedMode;
use crate::actors::batches::{
    BatchContext, BatchLeader, BatchProgress, Collections, LeaseDeadline, OnceNotifier, RecorderConfig, WriteBack,
    start_batches, start_recorder,
};
use crate::actors::outcomes::StageContext;
use crate::config::Provider;
use crate::engine::{Engine, Payer};
use crate::messages::event::{Event, EventSink};
use crate::pipeline::RunError;
use crate::supervisors::RootHandle;
use crate::supervisors::service::{Running, start_service};

/// Number of hours after which a provider promises to have finished a batch.
const WINDOW_HOURS: f64 = 24.0;

/// Holds the services for batches and records, which run in addition to the pools.
pub struct PaidWork {
    pub batch_progress: Arc<BatchProgress>,
    pub batches: Arc<dyn Batches>,
    pub collections: Rc<Collections>,
    /// Embedder for documents.
    pub embedder: Arc<dyn Embedder>,
    /// If true, the embedder receives all texts of a document in one call. With batches, the document then has to
    /// wait only once.
    pub at_once: bool,
    /// Service that makes paid calls and must stop before the run ends, so that its running calls can finish. If
    /// several processes share the batches, this is the service that competes to be the leader for batches.
    /// Otherwise, it is the recorder, which embeds records.
    ending: Running,
    _running: Vec<Running>,
}

/// Holds the arguments of [`PaidWork::start`].
pub struct PaidWorkArgs<'a> {
    pub engine: &'a Engine,
    pub owner: &'a str,
    pub context: &'a StageContext,
    pub embedder: Arc<dyn Embedder>,
    pub events: Arc<dyn EventSink>,
    pub wake: Arc<Notify>,
    pub intake_finished: Arc<AtomicBool>,
    /// True if the run ingests records.
    pub records: bool,
    /// If true, the run waits until every batch has ended.
    pub wait: bool,
    /// If true, the run creates no new batches.
    pub polls_only: bool,
    /// True if batches or items exist already.
    pub known: bool,
}

impl PaidWork {
    /// Starts the services. Returns `None` if no batches or items exist, and the run neither ingests records nor
    /// creates batches.
    pub fn start(beginning: PaidWorkArgs<'_>, root: &RootHandle) -> Result<Option<Self>, RunError> {
        let PaidWorkArgs {
            engine,
            owner,
            context,
            embedder,
            events,
            wake,
            intake_finished,
            records,
            wait,
            polls_only,
            known,
        } = beginning;
        let settings = &engine.config.settings;
        let mode = match settings.embed.mode {
            EmbedMode::Auto if settings.batch.deadline_hours < WINDOW_HOURS => EmbedMode::Live,
            mode => mode,
        };
        let batching = settings.embed.options.provider == Provider::Openai && (mode != EmbedMode::Live || known);
        if !batching && !records && !known {
            return Ok(None);
        }
        let broken = |e: &dyn std::fmt::Display| RunError::system("batches", e);
        let batches = engine.batches().map_err(|e| broken(&e))?;
        let collections = Rc::new(Collections::new(engine.open_target()));
        let batch_progress = BatchProgress::new(intake_finished, context.claims.clone(), wait, batching);
        let notifier = Rc::new(OnceNotifier::new(events.clone()));
        let write_back = Rc::new(WriteBack {
            tables: engine.record_tables(),
            options: settings.records.table.clone(),
            batches: batches.clone(),
            notifier: notifier.clone(),
            turn: Default::default(),
            forgot: Default::default(),
        });
        let lease = engine.batch_lease();
        let lease_deadline = lease.is_some().then(Rc::<LeaseDeadline>::default);
        let mut batch_context = None;
        let mut documents = embedder.clone();
        if batching {
            let told = events.clone();
            let tell = Arc::new(move |text| told.emit(Event::Notice { text }));
            let payer = Payer { run: owner.to_owned(), stage: "embedding", tell };
            let account = engine.account(payer).map_err(|e| broken(&e))?;
            let account = account.ok_or_else(|| broken(&"no account for batches"))?;
            let asked = batch_progress.clone();
            documents = Arc::new(BatchedEmbedder::new(
                embedder.clone(),
                batches.clone(),
                account.price.batch,
                mode == EmbedMode::Live,
                Arc::new(move || asked.asked()),
            ));
            let context = BatchContext {
                batches: batches.clone(),
                client: engine.endpoint_client().map_err(|e| broken(&e))?,
                account,
                endpoint: settings.embed.options.openai.clone(),
                options: settings.batch.clone(),
                mode,
                packs: !polls_only,
                model: embedder.identity().clone(),
                objects: engine.objects.clone(),
                folder: engine.batch_folder().map_err(|e| broken(&e))?,
                control: engine.control.clone(),
                events: events.clone(),
                clock: engine.clock.clone(),
                retry: settings.retry.clone(),
                notifier: notifier.clone(),
                batch_progress: batch_progress.clone(),
                wake,
                collections: collections.clone(),
                write_back: write_back.clone(),
                lease_deadline: lease_deadline.clone(),
            };
            batch_context = Some(Rc::new(context));
        }
        let recording = RecorderConfig {
            batches: batches.clone(),
            collections: collections.clone(),
            events,
            notifier,
            batch_progress: batch_progress.clone(),
            embedder,
            write_back,
            live: mode == EmbedMode::Live && !polls_only,
            attempts: settings.retry.attempts,
        };
        let mut running = Vec::new();
        let ending = match lease.zip(lease_deadline) {
            None => {
                running.extend(
                    batch_context.into_iter().flat_map(|context| start_batches(context, &settings.restart, root)),
                );
                start_recorder(recording, &settings.restart, root)
            }
            Some((register, lease_deadline)) => {
                let call = Duration::from_secs_f64(settings.embed.options.openai.request_seconds);
                let leader = Rc::new(BatchLeader {
                    register,
                    holder: owner.to_owned(),
                    // The lease must cover a call to the provider.
                    lease: Duration::from_secs(settings.lease.seconds).max(call * 3),
                    batches: batches.clone(),
                    batch_progress: batch_progress.clone(),
                    lease_deadline,
                    context: batch_context,
                    recording,
                    restart: settings.restart.clone(),
                    root: root.clone(),
                });
                let (_, leading) = start_service::<(), _, _>("leader", 1, settings.restart.clone(), root, move |_| {
                    let leader = leader.clone();
                    async move { leader.run().await }
                });
                leading
            }
        };
        let at_once = batching && mode != EmbedMode::Live;
        Ok(Some(Self { batch_progress, batches, collections, embedder: documents, at_once, ending, _running: running }))
    }

    /// Waits until running paid calls have finished. No new paid calls are started.
    pub async fn finish(&mut self) {
        self.batch_progress.stop();
        self.ending.ended().await;
    }
}
