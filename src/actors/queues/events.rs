//! Applies events of buckets to the control store.
//!
//! An event only names an object to inspect. The object's current state decides what happens, whatever the event
//! says. Duplicate events, events out of order, and events about deleted objects therefore do no harm. An existing
//! object is registered, unless its content is already registered. If an object is missing and
//! `queues.follow_removals` is set, the object's document is removed from the index.
//!
//! Two replicas may inspect the same object at different times. The replica that inspected the object first may then
//! write last, and overwrite the newer result. To correct this, each replica inspects the object again after changing
//! the control store. If the object has changed, the replica repeats its work.

use async_trait::async_trait;
use docweir_core::error::{ErrorClass, StageError};
use docweir_stores::control::{ControlError, DocumentStatus, Intent};

use super::consumer::{Handler, MessageOutcome};
use crate::actors::intake::Intake;
use crate::actors::outcomes::control;
use crate::actors::retry_while_busy::retry_while_busy;
use crate::intake::bucket_events::{Message, parse};
use crate::intake::originals::{GONE, Listed};
use crate::messages::event::Event;

/// Handles the events of the watched buckets.
pub struct BucketEvents {
    pub intake: Intake,
    /// Locations where documents arrive, each as a bucket and a key prefix.
    pub watched: Vec<(String, String)>,
    /// If true, the document of a deleted object is removed from the index.
    pub follow_removals: bool,
}

/// Describes why an object could not be processed.
#[derive(Debug)]
enum Stop {
    /// The object itself cannot be ingested.
    Refused(String),
    /// A service is unavailable.
    Outage(String),
    /// The system failed.
    System(StageError),
}

#[async_trait(?Send)]
impl Handler for BucketEvents {
    async fn handle(&self, body: &str) -> Result<MessageOutcome, StageError> {
        let events = match parse(body) {
            Ok(Message::Objects(events)) => events,
            Ok(Message::Test) => return Ok(MessageOutcome::Done),
            Err(reason) => return Ok(MessageOutcome::Refused(format!("message is not a bucket event: {reason}"))),
        };
        let mut sources: Vec<String> = Vec::with_capacity(events.len());
        for event in events {
            let source = format!("s3://{}/{}", event.bucket, event.key);
            let watched = self.watched.iter().any(|(b, prefix)| *b == event.bucket && event.key.starts_with(prefix));
            if watched && self.intake.is_wanted("", &source) && !sources.contains(&source) {
                sources.push(source);
            }
        }
        let mut refused = None;
        for source in sources {
            match self.make_true(&source).await {
                Ok(()) => {}
                Err(Stop::Refused(reason)) => {
                    self.intake.events.emit(Event::Unreadable { source, reason: reason.clone() });
                    refused = Some(reason);
                }
                Err(Stop::Outage(reason)) => return Ok(MessageOutcome::Outage(reason)),
                Err(Stop::System(error)) => return Err(error),
            }
        }
        Ok(refused.map_or(MessageOutcome::Done, |reason| {
            MessageOutcome::Refused(format!("object cannot be ingested: {reason}"))
        }))
    }
}

impl BucketEvents {
    async fn make_true(&self, source: &str) -> Result<(), Stop> {
        for _ in 0..=self.intake.options.max_changes {
            let object = self.intake.originals.look(source).await.map_err(stop)?;
            let changed = match &object {
                Some(object) => self.register(object).await?,
                None => self.remove(source).await?,
            };
            // If removals are not followed, one inspection is enough, because extraction detects a changed object.
            if !changed || !self.follow_removals {
                return Ok(());
            }
            let now = self.intake.originals.look(source).await.map_err(stop)?;
            if now.map(|object| object.tag) == object.map(|object| object.tag) {
                return Ok(());
            }
        }
        Err(Stop::Outage("an object changed whenever it was read".into()))
    }

    /// Registers an object. Returns whether this changed the control store.
    async fn register(&self, object: &Listed) -> Result<bool, Stop> {
        let mut known = self.intake.known(std::slice::from_ref(object)).await.map_err(store)?;
        if let Some((document, status)) = known.remove(&object.source) {
            self.intake.tell_unchanged(document, object.source.clone(), status);
            return Ok(false);
        }
        let look = match self.intake.look_at_object(object).await {
            Ok(look) => look,
            // The object was deleted or replaced. The next inspection shows which of the two.
            Err(error) if error.code == GONE => return Ok(true),
            Err(error) => return Err(stop(error)),
        };
        let documents = vec![self.intake.document(object.source.clone(), look)];
        self.intake.register(documents).await.map(|new| new > 0).map_err(store)
    }

    /// Requests deletion of a document, because its object is missing. Returns whether this changed the control
    /// store.
    async fn remove(&self, source: &str) -> Result<bool, Stop> {
        if !self.follow_removals {
            return Ok(false);
        }
        let (control, retry) = (&self.intake.control, &self.intake.retry);
        let record = retry_while_busy(retry, || control.by_source(source)).await.map_err(store)?;
        let wanted = |status, intent| status != DocumentStatus::Deleted && intent == Intent::Process;
        let Some(record) = record.filter(|record| wanted(record.status, record.intent)) else { return Ok(false) };
        match retry_while_busy(retry, || control.request_delete(&record.document_id)).await {
            // The document was already deleted by another process.
            Err(ControlError::Refused(_) | ControlError::NotFound(_)) => return Ok(false),
            asked => drop(asked.map_err(store)?),
        }
        let (document, source) = (record.document_id, source.to_owned());
        self.intake.events.emit(Event::RemovalRequested { document, source });
        self.intake.wake.notify_one();
        Ok(true)
    }
}

/// Returns whether an error means that the object cannot be ingested. Transient errors and full disks never have this
/// meaning.
fn stop(error: StageError) -> Stop {
    match error.class {
        ErrorClass::Permanent | ErrorClass::Crash => Stop::Refused(error.to_string()),
        _ => Stop::Outage(error.to_string()),
    }
}

fn store(error: ControlError) -> Stop {
    match error {
        ControlError::Busy(_) => Stop::Outage(error.to_string()),
        ControlError::Storage { .. } => Stop::System(control(error)),
        ControlError::Refused(_) | ControlError::NotFound(_) | ControlError::Fenced(_) => {
            Stop::Refused(error.to_string())
        }
    }
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
