//! Batches at a provider, from what waits to what is stored, and records that are embedded at once.
//!
//! ```text
//! documents ─┐                     ┌─────────── provider ───────────┐
//!            ├▶ items ─▶ submitter ┘   poller ─▶ ended? ─▶ harvester ┴▶ collections; documents that waited go on
//! records ───┤
//!            └──────────▶ recorder (at once) ──────────────────────────▶ collections
//! ```
//! Everything that these services know is in the store of items and batches: each may die at any moment and goes on
//! with what it finds there. Where several processes share them, one at a time has these services ([`leader`]).
//! [`batch_progress`] tells a run when nothing more is to come. What came from tables of the user's is told there when it has
//! come to its end ([`write_back`]).

pub mod batch_progress;
pub mod context;
mod ended;
mod harvester;
pub mod leader;
mod lease_deadline;
mod once_notifier;
mod options;
mod poller;
mod recorder;
mod rows;
mod submitter;
pub mod write_back;

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

/// Batches that wait to be taken in.
const HARVESTS: usize = 4;

/// Starts submitter, poller and harvester. Dropping what it returns ends them.
pub fn start_batches(context: Rc<BatchContext>, restart: &RestartOptions, root: &RootHandle) -> Vec<Running> {
    let harvesting = context.clone();
    let run = move |inbox: Rc<Inbox<String>>| {
        let mut harvester = harvester::Harvester { context: harvesting.clone(), writers: HashMap::new() };
        async move { harvester.run(&inbox).await }
    };
    let (harvester, taking_in) = start_service("harvester", HARVESTS, restart.clone(), root, run);
    let polling = context.clone();
    let (_, looking) = start_service::<(), _, _>("poller", 1, restart.clone(), root, move |_| {
        let poller = poller::Poller { context: polling.clone(), harvester: harvester.clone() };
        async move { poller.run().await }
    });
    let (_, sending) = start_service::<(), _, _>("submitter", 1, restart.clone(), root, move |_| {
        let submitter = submitter::Submitter { context: context.clone() };
        async move { submitter.run().await }
    });
    vec![taking_in, looking, sending]
}

/// What embeds records at once, and removes those that are no more.
#[derive(Clone)]
pub struct Recording {
    pub batches: Arc<dyn Batches>,
    pub collections: Rc<Collections>,
    pub events: Arc<dyn EventSink>,
    pub notifier: Rc<OnceNotifier>,
    pub batch_progress: Arc<BatchProgress>,
    pub embedder: Arc<dyn Embedder>,
    /// Tells tables what became of their items.
    pub write_back: Rc<WriteBack>,
    /// All records are embedded at once; otherwise those that are not worth a batch.
    pub live: bool,
}

pub fn start_recorder(recording: Recording, restart: &RestartOptions, root: &RootHandle) -> Running {
    let recorder = Rc::new(recorder::Recorder { recording, cancel: Cancel::default() });
    let (_, running) = start_service::<(), _, _>("recorder", 1, restart.clone(), root, move |_| {
        let recorder = recorder.clone();
        async move { recorder.run().await }
    });
    running
}

/// An address where there are no batches.
fn no_batches(context: &BatchContext, what: &str) -> StageError {
    let text = format!("{} has no batches ({what}): correct `embed.options.openai`", context.endpoint.base_url);
    StageError::system("provider_path", text)
}

/// A provider that refuses our key.
fn forbidden(context: &BatchContext, what: &str) -> StageError {
    let place = context.endpoint.key_place();
    let text = format!("the provider answers {what}: look at the key in {place} and what it may do");
    StageError::system("provider_key", text)
}

fn unkeyed(why: &str) -> StageError {
    StageError::system("provider_key", format!("there is no key for the provider: {why}"))
}
