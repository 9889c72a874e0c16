//! Runs the whole pipeline: starts the supervision tree, watches it and stops it.

mod listening;
mod pages;
mod paid;
mod reconcile;
mod tree;

use std::cell::RefCell;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use docweir_core::error::{ErrorClass, StageError};
use docweir_core::model::ModelIdentity;
use docweir_stages::embed::Embedder;
use docweir_stages::enrich::Enricher;

use crate::actors::artefacts::Artefacts;
use crate::actors::batches::EmbedMode;
use crate::actors::fence::Fence;
use crate::actors::intake::{Intake, Request};
use crate::actors::outages::Outages;
use crate::actors::outcomes::{Claims, StageContext};
use crate::actors::prune::Prune;
use crate::actors::records_intake::{RecordsIntake, RecordsRequest, collections};
use crate::actors::table_intake::TableIntake;
use crate::config::{Register, Settings};
use crate::engine::Engine;
use crate::http;
use crate::intake::Walk;
use crate::intake::walk::{WalkError, resolve};
use crate::messages::event::{Event, EventSink};
use crate::messages::progress::SharedProgress;
use crate::supervisors::service::{Inbox, Running, start_service};
use crate::supervisors::{RootHandle, SystemFailure};
use crate::telemetry::documents::CountingEventSink;
use crate::telemetry::publisher::Publisher;
use crate::telemetry::recorder;
use paid::PaidWork;
pub use reconcile::carry_out_deletions;
use tree::{RunOptions, Tree};

/// Describes the work of one run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct IngestRequest {
    pub paths: Vec<PathBuf>,
    /// URIs of the objects to ingest from buckets. A URI names one object or a prefix of objects.
    pub objects: Vec<String>,
    /// If true, the run processes registered documents until a signal arrives.
    pub serves: bool,
    pub include: Vec<String>,
    pub exclude: Vec<String>,
    pub prune: bool,
    /// If true, `prune` removes documents however many they are.
    pub force_prune: bool,
    /// Files or tables of records to ingest instead of documents.
    pub records: Option<RecordsRequest>,
    /// If true, the run waits until every batch has ended.
    pub wait: bool,
    /// If true, the run creates no new batches and only polls open ones.
    pub polls_only: bool,
}

/// Selects how a run is monitored.
#[derive(Default)]
pub struct Monitoring {
    /// Address of the HTTP pages, if they are served.
    pub address: Option<SocketAddr>,
    /// Publisher of the run's metrics, if metrics are published.
    pub publisher: Option<Arc<Publisher>>,
}

/// Describes how a run without errors ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum RunEnd {
    /// The run stopped by itself, because it could do no further work.
    Finished,
    /// A signal stopped the run; the value is the number of the signal. Running stages were finished. The next run
    /// does the remaining work.
    Interrupted(i32),
}

/// Holds the embedder and the enricher of a run.
#[derive(Clone)]
pub struct Services {
    pub embedder: Arc<dyn Embedder>,
    pub enricher: Arc<dyn Enricher>,
}

/// Describes why a run could not start or continue.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error(transparent)]
    Paths(#[from] WalkError),
    /// The index holds vectors of another model.
    #[error("{0}")]
    Model(StageError),
    #[error("cannot listen on {address}: {error}")]
    Listen { address: SocketAddr, error: std::io::Error },
    #[error("{0}")]
    System(#[from] SystemFailure),
}

impl RunError {
    fn system(child: &str, error: impl std::fmt::Display) -> Self {
        RunError::System(SystemFailure { child: child.to_owned(), reason: error.to_string() })
    }
}

/// Ingests the files and processes every unfinished document, including documents of earlier runs.
///
/// The caller must hold the lock of the state folder and must run on a local task set. `owner` names this run in leases
/// and in the ledger.
pub async fn ingest(
    engine: &Engine,
    owner: &str,
    services: Services,
    request: IngestRequest,
    events: Arc<dyn EventSink>,
    progress: Arc<SharedProgress>,
    watching: Monitoring,
) -> Result<RunEnd, RunError> {
    let embedder = services.embedder.clone();
    let Monitoring { address, publisher } = watching;
    let events: Arc<dyn EventSink> = Arc::new(CountingEventSink(events));
    let settings = &engine.config.settings;
    let mut intake_options = settings.intake.clone();
    intake_options.include.extend(request.include);
    intake_options.exclude.extend(request.exclude);
    let walk = Walk::new(&request.paths, &intake_options)?;
    let prune = match request.prune {
        true => Prune { folders: folders(&request.paths)?, force: request.force_prune },
        false => Prune::default(),
    };
    let queues = listening::queues(engine, request.serves).await?;
    let _notifying = listening::set_compaction_notifier(engine, &queues);
    let vectors = engine.vectors().map_err(|e| RunError::system("vectors", e))?;
    let target = engine.target().map_err(|e| RunError::system("vectors", e))?;
    target.check_model(embedder.identity()).await.map_err(RunError::Model)?;
    let listener = match address {
        Some(address) => Some(http::bind(address).await.map_err(|error| RunError::Listen { address, error })?),
        None => None,
    };
    reconcile::check_manifest(engine, &vectors).await?;
    reconcile::take_over(engine, owner, target.as_ref()).await?;
    reconcile::reconcile_ledger(engine, owner).await?;
    reconcile::wake_documents_of_other_models(engine, embedder.identity()).await?;
    reconcile::sweep(engine, &vectors).await?;

    // Install the recorder before the pools start, because they use the recorder that exists then.
    let recorder = recorder::install(listener.is_some(), publisher.as_ref().map(|p| p.figures()));
    let known = reconcile::has_batches(engine).await?;
    let asked =
        RunOptions { records: request.records.is_some(), wait: request.wait, polls_only: request.polls_only, known };
    for collection in request.records.iter().flat_map(collections) {
        let opened = (engine.open_target())(&collection).map_err(RunError::Model)?;
        opened.check_model(embedder.identity()).await.map_err(RunError::Model)?;
        let broken = |e: &dyn std::fmt::Display| RunError::system("records", e);
        let batches = engine.batches().map_err(|e| broken(&e))?;
        let bound = batches.bind(&collection, embedder.identity()).await.map_err(|e| broken(&e))?;
        if bound != *embedder.identity() {
            let text = format!(
                "records of `{collection}` are embedded by {} ({} dimensions), but the configuration selects {} ({}): \
                 restore the configuration, or choose another `--collection` or `--state` folder",
                bound.id,
                bound.dimension,
                embedder.identity().id,
                embedder.identity().dimension
            );
            return Err(RunError::Model(StageError::permanent("model_mismatch", text)));
        }
    }
    let mut tree = Tree::start(engine, owner, services, vectors, target, events.clone(), asked)?;
    let publishing = publisher.as_ref().map(|publisher| start_publishing(publisher, settings, &tree.root));
    let served = listener.map(|listener| {
        let (admission, outages) = (tree.admission.clone(), tree.outages.clone());
        pages::serve(listener, recorder, &tree.root, admission, outages, settings.http.clone())
    });
    let intake = Intake {
        control: engine.control.clone(),
        originals: engine.originals.clone(),
        events: events.clone(),
        options: intake_options,
        fingerprint: tree.fingerprint.clone(),
        retry: settings.retry.clone(),
        wake: tree.wake.clone(),
        outages: tree.outages.clone(),
    };
    if request.serves {
        listening::start(engine, &mut tree, &intake, queues);
    }
    let finished = tree.intake_finished.clone();
    let wake = tree.wake.clone();
    let batch_progress = tree.paid.as_ref().map(|p| p.batch_progress.clone());
    let records = tree.paid.as_ref().map(|paid| records_intake(engine, paid, embedder, events.clone()));
    let gather = Duration::from_secs_f64(settings.batch.poll_seconds);
    let tables = |records: RecordsIntake| TableIntake {
        records,
        tables: engine.record_tables(),
        options: settings.records.table.clone(),
        told: RefCell::default(),
    };
    let taking_in = async {
        if request.serves {
            batch_progress.iter().for_each(|o| o.gather(gather));
        }
        let done = match (request.records, records) {
            (Some(asked), Some(records)) if request.serves => poll_tables(&asked, &tables(records)).await,
            (Some(asked), Some(records)) => {
                let tables = tables(records.clone());
                match tables.run(&asked, None).await {
                    Ok(()) => records.run(asked).await,
                    failed => failed,
                }
            }
            _ => intake.run(Request { walk, objects: request.objects, prune }).await,
        };
        if request.serves && done.is_ok() {
            std::future::pending::<()>().await;
        }
        finished.store(true, Ordering::Release);
        batch_progress.iter().for_each(|o| o.intake_ended());
        wake.notify_one();
        done
    };
    let outcome = tree.run(taking_in, &progress, events.as_ref(), Duration::from_secs(settings.drain.seconds)).await;
    drop((served, publishing));
    engine.flush_notices().await;
    if let Some(publisher) = publisher {
        let totals = publisher.flush().await;
        if totals.lost + totals.in_doubt > 0 {
            let text = format!(
                "CloudWatch metrics of this run: {} published, {} lost, {} possibly lost",
                totals.sent, totals.lost, totals.in_doubt
            );
            events.emit(Event::Notice { text });
        }
    }
    // A failed write of daily metrics does not fail the run.
    if let Err(error) = engine.control.flush().await {
        tracing::warn!(%error, "daily metrics not written");
    }
    outcome
}

fn start_publishing(publisher: &Arc<Publisher>, settings: &Settings, root: &RootHandle) -> Running {
    let publisher = publisher.clone();
    let run = move |_: Rc<Inbox<()>>| {
        let publisher = publisher.clone();
        async move {
            publisher.run().await;
            Ok(())
        }
    };
    start_service("cloudwatch", 1, settings.restart.clone(), root, run).1
}

fn records_intake(
    engine: &Engine,
    paid: &PaidWork,
    embedder: Arc<dyn Embedder>,
    events: Arc<dyn EventSink>,
) -> RecordsIntake {
    let settings = &engine.config.settings;
    let batch_progress = paid.batch_progress.clone();
    // A request in a batch holds one text; live calls split a longer text into parts.
    let one_request = settings.embed.mode != EmbedMode::Live || !embedder.splits_long_texts();
    RecordsIntake {
        batches: paid.batches.clone(),
        most_tokens: one_request.then(|| embedder.window() as u64),
        embedder,
        events,
        options: settings.records.clone(),
        asked: Arc::new(move || batch_progress.asked()),
    }
}

/// Reads records from DynamoDB tables at intervals until the run ends. If a system error occurs before any read has
/// succeeded, the run ends with this error. After any other error, the next read takes place as usual.
async fn poll_tables(request: &RecordsRequest, tables: &TableIntake) -> Result<(), StageError> {
    let pause = Duration::from_secs_f64(tables.options.poll_seconds);
    let mut has_looked = false;
    loop {
        match tables.run(request, Some(tables.options.max_waiting)).await {
            Ok(()) => has_looked = true,
            Err(error) if error.class == ErrorClass::System && !has_looked => return Err(error),
            Err(error) => tracing::warn!(%error, "table of records not read; retrying"),
        }
        tokio::time::sleep(pause).await;
    }
}

/// Resolves the paths, and returns only the paths of folders.
fn folders(paths: &[PathBuf]) -> Result<Vec<PathBuf>, WalkError> {
    let resolved: Vec<PathBuf> = paths.iter().map(|p| resolve(p)).collect::<Result<_, _>>()?;
    Ok(resolved.into_iter().filter(|p| p.is_dir()).collect())
}

/// Creates the context of the stages from the stores and settings of the engine. All stages share this context.
pub fn context(engine: &Engine, model: ModelIdentity, events: Arc<dyn EventSink>) -> StageContext {
    let settings = &engine.config.settings;
    let fence = engine.is_shared().then(|| Fence {
        objects: engine.objects.clone(),
        control: engine.control.clone(),
        is_conditional: settings.buckets.register == Register::S3,
        parallel_puts: settings.s3.parallel_puts,
        attempts: settings.aws.attempts,
    });
    let claims: Arc<Claims> = Arc::default();
    let folder = engine.state.root().to_owned();
    let outages = Outages::new(claims.clone(), events.clone(), engine.clock.clone(), folder);
    StageContext {
        control: engine.control.clone(),
        artefacts: Artefacts::new(engine.objects.clone(), settings.chunk.options.clone(), model)
            .fenced(fence)
            .redacting(settings.enrich.options.redact)
            .packing_pages(settings.buckets.packed_pages && settings.state.objects_in() == "s3"),
        quarantine: engine.quarantine_store(),
        // A failure to open is reported by the code that requires the batches.
        batches: engine.has_ledger().then(|| engine.batches().ok()).flatten().map(|batches| batches as _),
        events,
        claims,
        outages: Arc::new(outages),
    }
}
