//! Embeds texts and records in batches at a provider. Records can also be embedded by live calls.
//!
//! ```text
//! documents ─┐                     ┌─────────── provider ───────────┐
//!            ├▶ items ─▶ submitter ┘   poller ─▶ ended? ─▶ harvester ┴▶ collections; waiting documents continue
//! records ───┤
//!            └──────────▶ recorder (live) ─────────────────────────────▶ collections
//! ```
//! These services keep their whole state in the store of items and batches. Each service may die at any moment and
//! then continues from that store. If several processes share the store, only the leader runs these services
//! ([`leader`]). [`batch_progress`] tells a run when no more results will arrive. If a record comes from a user's
//! table, its outcome is written back to this table ([`write_back`]).

pub mod batch_progress;
pub mod context;
mod ended;
mod harvester;
pub mod leader;
mod lease_deadline;
mod named_lines;
mod once_notifier;
mod options;
mod poller;
mod recorder;
mod rows;
mod submitter;
pub mod write_back;

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;

use docweir_core::cancel::Cancel;
use docweir_core::error::StageError;
use docweir_stages::embed::Embedder;
use docweir_stores::batches::Batches;

pub use batch_progress::BatchProgress;
pub use context::{BatchContext, Collections};
pub use leader::BatchLeader;
pub use lease_deadline::LeaseDeadline;
pub use once_notifier::OnceNotifier;
pub use options::{BatchOptions, EmbedMode};
pub use rows::tombstones;
pub use write_back::WriteBack;

use crate::messages::event::EventSink;
use crate::supervisors::service::{Inbox, Running, start_service};
use crate::supervisors::{RestartOptions, RootHandle};

/// Maximum number of ended batches that wait to be imported.
const HARVESTS: usize = 4;

/// Starts the submitter, the poller and the harvester. Dropping the returned services ends them.
pub fn start_batches(context: Rc<BatchContext>, restart: &RestartOptions, root: &RootHandle) -> Vec<Running> {
    let harvesting = context.clone();
    let run = move |inbox: Rc<Inbox<String>>| {
        let mut harvester =
            harvester::Harvester { context: harvesting.clone(), damaged: HashMap::new(), writers: HashMap::new() };
        async move { harvester.run(&inbox).await }
    };
    let (harvester, taking_in) = start_service("harvester", HARVESTS, restart.clone(), root, run);
    let polling = context.clone();
    let (_, looking) = start_service::<(), _, _>("poller", 1, restart.clone(), root, move |_| {
        let poller =
            poller::Poller { context: polling.clone(), late: RefCell::default(), harvester: harvester.clone() };
        async move { poller.run().await }
    });
    let (_, sending) = start_service::<(), _, _>("submitter", 1, restart.clone(), root, move |_| {
        let submitter = submitter::Submitter { context: context.clone() };
        async move { submitter.run().await }
    });
    vec![taking_in, looking, sending]
}

/// Configures the recorder. The recorder embeds records by live calls and removes the rows of deleted records.
#[derive(Clone)]
pub struct RecorderConfig {
    pub batches: Arc<dyn Batches>,
    pub collections: Rc<Collections>,
    pub events: Arc<dyn EventSink>,
    pub notifier: Rc<OnceNotifier>,
    pub batch_progress: Arc<BatchProgress>,
    pub embedder: Arc<dyn Embedder>,
    /// Writes the outcomes of records back to their tables.
    pub write_back: Rc<WriteBack>,
    /// True if live calls embed all records. If false, live calls embed only the records of collections that are too
    /// small for a batch.
    pub live: bool,
    /// Maximum number of attempts to embed a record.
    pub attempts: u32,
}

/// Starts the recorder. Dropping the returned service ends it.
pub fn start_recorder(recording: RecorderConfig, restart: &RestartOptions, root: &RootHandle) -> Running {
    let recorder = Rc::new(recorder::Recorder { recording, cancel: Cancel::default() });
    let (_, running) = start_service::<(), _, _>("recorder", 1, restart.clone(), root, move |_| {
        let recorder = recorder.clone();
        async move { recorder.run().await }
    });
    running
}

/// Returns the error which reports that the endpoint has no Batch API.
fn no_batches(context: &BatchContext, what: &str) -> StageError {
    let text = format!("{} has no Batch API ({what}); correct `embed.options.openai`", context.endpoint.base_url);
    StageError::system("provider_path", text)
}

/// Returns the error which reports that the provider refuses the API key.
fn forbidden(context: &BatchContext, what: &str) -> StageError {
    let place = context.endpoint.key_place();
    let text = format!("the provider answered {what}; check the key in {place} and its permissions");
    StageError::system("provider_key", text)
}

/// Returns the error which reports that the provider's certificate is not trusted.
fn untrusted(what: String) -> StageError {
    StageError::system("provider_certificate", what)
}

fn unkeyed(why: &str) -> StageError {
    StageError::system("provider_key", format!("no usable API key for the provider: {why}"))
}
