//! Sends merge requests to a queue, and fulfils the merge requests that are received from the queue.
//!
//! A request has the form `{"collection": "receipt_lines"}`. The request may also name the newly added vector file. A
//! request is only a hint, because the compactor itself checks which files need a merge. A lost request only delays a
//! merge, and a repeated request finds nothing to do.

use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use docweir_core::error::StageError;
use docweir_index::OpenCollection;
use docweir_index::compaction::Mode;
use docweir_stores::queues::Queue;
use serde::{Deserialize, Serialize};
use tokio::sync::{mpsc, oneshot};
use tokio::time::timeout;

use super::consumer::{Handler, MessageOutcome};
use crate::actors::committer::store;
use crate::actors::compactor::TOO_LONG;
use crate::actors::maintenance::{MaintenanceConfig, MaintenanceServices};
use crate::supervisors::RootHandle;

/// Maximum number of collections whose services stay open. If one more collection is requested, the services of all
/// other collections are closed.
const COLLECTIONS: usize = 64;
/// Maximum number of notifications that wait to be sent. Further notifications are dropped.
const BUFFER: usize = 64;
/// Maximum time to wait until notifications are sent, at the end of a run.
const FLUSH_TIMEOUT: Duration = Duration::from_secs(2);

/// Represents a merge request. The field names are those of the former system.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Request {
    pub collection: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub delta_key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub vector_count: Option<u64>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub batch_id: Option<String>,
}

impl Request {
    /// Parses the body of a message.
    ///
    /// # Errors
    /// Returns an error that gives the position of the mistake but does not quote the body.
    fn parse(body: &str) -> Result<Self, String> {
        serde_json::from_str(body)
            .map_err(|e| format!("message is not a merge request (line {}, column {})", e.line(), e.column()))
    }
}

/// Handles merge requests. Each request names a collection; the files of this collection are merged if a merge is
/// due.
pub struct Compactions {
    pub open: OpenCollection,
    pub maintenance_config: MaintenanceConfig,
    pub root: RootHandle,
    /// Time after which a message is delivered again, if another process is merging.
    pub wait: Duration,
    /// Collection of the run, and its maintenance services.
    pub own: (String, Rc<MaintenanceServices>),
    /// Maintenance services of further collections, by collection. They are started when a message requests a merge of
    /// their collection.
    pub others: RefCell<HashMap<String, Rc<MaintenanceServices>>>,
}

impl Compactions {
    /// Returns the maintenance services of a collection, and starts them if necessary. Returns `None` if the
    /// collection does not exist.
    async fn maintenance(&self, collection: &str) -> Result<Option<Rc<MaintenanceServices>>, StageError> {
        let known = self.others.borrow().get(collection).cloned();
        let known = known.or_else(|| (self.own.0 == collection).then(|| self.own.1.clone()));
        if known.is_some() {
            return Ok(known);
        }
        let vectors = (self.open)(collection).map_err(|e| store(&e))?;
        if vectors.manifest().await.map_err(|e| store(&e))?.is_none() {
            return Ok(None);
        }
        let maintenance = Rc::new(MaintenanceServices::start(&self.maintenance_config, &vectors, &self.root));
        let mut others = self.others.borrow_mut();
        if others.len() >= COLLECTIONS {
            others.clear();
        }
        others.insert(collection.to_owned(), maintenance.clone());
        Ok(Some(maintenance))
    }
}

#[async_trait(?Send)]
impl Handler for Compactions {
    async fn handle(&self, body: &str) -> Result<MessageOutcome, StageError> {
        let request = match Request::parse(body) {
            Ok(request) => request,
            Err(reason) => return Ok(MessageOutcome::Refused(reason)),
        };
        let done = match self.maintenance(&request.collection).await {
            Ok(Some(maintenance)) => maintenance.compact(Mode::Due).await,
            Ok(None) => {
                tracing::info!("merge requested for a collection that does not exist");
                return Ok(MessageOutcome::Done);
            }
            Err(error) => Err(error),
        };
        Ok(match done {
            Ok(compacted) if compacted.busy => MessageOutcome::Later(self.wait),
            Ok(_) => MessageOutcome::Done,
            Err(error) => not_merged(&error),
        })
    }
}

/// Converts the error of a failed merge to the outcome of the message that requested it. The outcome is never `Done`,
/// because `Done` would delete the message. Temporary errors become `Outage`, and the merge is retried. All other
/// errors, and merges that exceeded their time limit, become `Refused`, so the queue counts this receipt of the
/// message.
fn not_merged(error: &StageError) -> MessageOutcome {
    let text = format!("the files were not merged: {error}");
    match error.class {
        class if class.is_temporary() && error.code != TOO_LONG => MessageOutcome::Outage(text),
        _ => MessageOutcome::Refused(text),
    }
}

/// Sends a merge request to the queue whenever a vector file is added. If the buffer of unsent requests is full, the
/// request is dropped, because no caller waits for it.
#[derive(Clone)]
pub struct CompactionNotifier(mpsc::Sender<Notice>);

enum Notice {
    Added(Request),
    Flush(oneshot::Sender<()>),
}

impl CompactionNotifier {
    /// Returns a notifier, and the future that sends its notifications. The future ends when every clone of the
    /// notifier is dropped.
    pub fn to(queue: Arc<dyn Queue>) -> (Self, impl Future<Output = ()> + 'static) {
        let (sender, mut notices) = mpsc::channel(BUFFER);
        let sending = async move {
            while let Some(notice) = notices.recv().await {
                match notice {
                    Notice::Added(request) => send(queue.as_ref(), &request).await,
                    Notice::Flush(done) => drop(done.send(())),
                }
            }
        };
        (Self(sender), sending)
    }

    /// Waits until all earlier notifications are sent, but not longer than two seconds.
    pub async fn flush(&self) {
        let (done, sent) = oneshot::channel();
        let all = async {
            if self.0.send(Notice::Flush(done)).await.is_ok() {
                let _ = sent.await;
            }
        };
        let _ = timeout(FLUSH_TIMEOUT, all).await;
    }

    pub fn added(&self, collection: &str, file: &str, rows: u64) {
        let request = Request {
            collection: collection.to_owned(),
            delta_key: Some(format!("vectors/{collection}/{file}")),
            vector_count: Some(rows),
            batch_id: None,
        };
        let _ = self.0.try_send(Notice::Added(request));
    }
}

async fn send(queue: &dyn Queue, request: &Request) {
    let Ok(body) = serde_json::to_string(request) else { return };
    if let Err(error) = queue.send(&body, Duration::ZERO).await {
        tracing::warn!(%error, "merge request not sent; the compactor finds the new file at its next poll");
    }
}

#[cfg(test)]
#[path = "compaction_tests.rs"]
mod tests;
