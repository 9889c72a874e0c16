//! The part of a run that is about batches and records: which services it needs, and what embeds its documents.

use std::rc::Rc;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;

use tokio::sync::Notify;

use crate::actors::batches::{BatchDesk, Collections, Notices, Outlook, Recording, start_batches, start_recorder};
use crate::actors::pipeline::RunError;
use crate::actors::steward::Desk;
use crate::config::{EmbedMode, Provider};
use crate::engine::{Engine, Payer};
use crate::messages::event::{Event, EventSink};
use crate::stages::embed::{BatchedEmbedder, Embedder};
use crate::stores::batches::Batches;
use crate::supervisors::RootHandle;
use crate::supervisors::service::Running;

/// Hours within which a provider promises a batch's results.
const WINDOW_HOURS: f64 = 24.0;

/// What runs beside the pools.
pub struct PaidWork {
    pub outlook: Arc<Outlook>,
    pub batches: Arc<dyn Batches>,
    pub collections: Rc<Collections>,
    /// What documents are embedded by.
    pub embedder: Arc<dyn Embedder>,
    /// A document's texts are asked for in one go: it waits once, for all of them.
    pub at_once: bool,
    recording: Running,
    _running: Vec<Running>,
}

/// What a run brings along.
pub struct Beginning<'a> {
    pub engine: &'a Engine,
    pub owner: &'a str,
    pub desk: &'a Desk,
    pub embedder: Arc<dyn Embedder>,
    pub events: Arc<dyn EventSink>,
    pub wake: Arc<Notify>,
    pub intake_finished: Arc<AtomicBool>,
    /// Records are taken in.
    pub records: bool,
    /// Stay until every batch has ended.
    pub wait: bool,
    /// Make no new batches.
    pub polls_only: bool,
}

impl PaidWork {
    /// `None` where there is neither a batch nor a record, nor will be.
    pub fn start(beginning: Beginning<'_>, root: &RootHandle) -> Result<Option<Self>, RunError> {
        let Beginning { engine, owner, desk, embedder, events, wake, intake_finished, records, wait, polls_only } =
            beginning;
        let settings = &engine.config.settings;
        let mode = match settings.embed.mode {
            EmbedMode::Auto if settings.batch.deadline_hours < WINDOW_HOURS => EmbedMode::Live,
            mode => mode,
        };
        let known = engine.has_batches();
        let batching = settings.embed.options.provider == Provider::Openai && (mode != EmbedMode::Live || known);
        if !batching && !records && !known {
            return Ok(None);
        }
        let broken = |e: &dyn std::fmt::Display| RunError::system("batches", e);
        let batches = engine.batches().map_err(|e| broken(&e))?;
        let collections = Rc::new(Collections::new(engine.open_collection()));
        let outlook = Outlook::new(intake_finished, desk.claims.clone(), wait, batching);
        let notices = Rc::new(Notices::new(events.clone()));
        let mut running = Vec::new();
        let mut documents = embedder.clone();
        if batching {
            let told = events.clone();
            let tell = Arc::new(move |text| told.emit(Event::Notice { text }));
            let payer = Payer { run: owner.to_owned(), stage: "embedding", tell };
            let account = engine.account(payer).map_err(|e| broken(&e))?;
            let account = account.ok_or_else(|| broken(&"nobody pays for batches"))?;
            let asked = outlook.clone();
            documents = Arc::new(BatchedEmbedder::new(
                embedder.clone(),
                batches.clone(),
                account.price.batch,
                mode == EmbedMode::Live,
                Arc::new(move || asked.asked()),
            ));
            let desk = BatchDesk {
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
                notices: notices.clone(),
                outlook: outlook.clone(),
                wake,
                collections: collections.clone(),
            };
            running.extend(start_batches(Rc::new(desk), &settings.restart, root));
        }
        let recording = Recording {
            batches: batches.clone(),
            collections: collections.clone(),
            events,
            notices,
            outlook: outlook.clone(),
            embedder,
            live: mode == EmbedMode::Live && !polls_only,
        };
        let recording = start_recorder(recording, &settings.restart, root);
        let at_once = batching && mode != EmbedMode::Live;
        Ok(Some(Self { outlook, batches, collections, embedder: documents, at_once, recording, _running: running }))
    }

    /// Lets the calls that are paid come to their end, and begins no more.
    pub async fn finish(&mut self) {
        self.outlook.stop();
        self.recording.ended().await;
    }
}
