//! What buckets tell of their objects, made true in the control store.
//!
//! An event only says *where* to look: the object is looked at as it is now, whatever the event says, so that duplicates,
//! old events after new ones and events of what is gone change nothing. An object that is there is registered (once: the
//! same content again is nothing new); one that is not there leaves the index, where that is wished.
//!
//! Two replicas may look at one object at different moments and act in the other order. Whoever has changed something
//! therefore looks once more, and begins anew if the object is not what it was.

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

pub struct BucketEvents {
    pub intake: Intake,
    /// Bucket and prefix of the places where documents arrive.
    pub watched: Vec<(String, String)>,
    /// Whether a document whose object was deleted leaves the index.
    pub follow_removals: bool,
}

/// What can't be done with an object.
#[derive(Debug)]
enum Stop {
    /// It is the object's fault.
    Refused(String),
    /// A service is not to be had.
    Outage(String),
    /// The system's.
    System(StageError),
}

#[async_trait(?Send)]
impl Handler for BucketEvents {
    async fn handle(&self, body: &str) -> Result<MessageOutcome, StageError> {
        let events = match parse(body) {
            Ok(Message::Objects(events)) => events,
            Ok(Message::Test) => return Ok(MessageOutcome::Done),
            Err(reason) => return Ok(MessageOutcome::Refused(format!("it is no event of a bucket: {reason}"))),
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
            MessageOutcome::Refused(format!("an object can't be taken in: {reason}"))
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
            // Where nothing ever leaves, an object that has changed meanwhile is found out when it is extracted.
            if !changed || !self.follow_removals {
                return Ok(());
            }
            let now = self.intake.originals.look(source).await.map_err(stop)?;
            if now.map(|object| object.tag) == object.map(|object| object.tag) {
                return Ok(());
            }
        }
        Err(Stop::Outage("an object changes faster than it can be read".into()))
    }

    /// Returns whether anything has become of it.
    async fn register(&self, object: &Listed) -> Result<bool, Stop> {
        let mut known = self.intake.known(std::slice::from_ref(object)).await.map_err(store)?;
        if let Some((document, status)) = known.remove(&object.source) {
            self.intake.tell_unchanged(document, object.source.clone(), status);
            return Ok(false);
        }
        let look = match self.intake.look_at_object(object).await {
            Ok(look) => look,
            // It went, or was put anew: the next look says which.
            Err(error) if error.code == GONE => return Ok(true),
            Err(error) => return Err(stop(error)),
        };
        let documents = vec![self.intake.document(object.source.clone(), look)];
        self.intake.register(documents).await.map(|new| new > 0).map_err(store)
    }

    /// Returns whether anything has become of it.
    async fn remove(&self, source: &str) -> Result<bool, Stop> {
        if !self.follow_removals {
            return Ok(false);
        }
        let (control, retry) = (&self.intake.control, &self.intake.retry);
        let record = retry_while_busy(retry, || control.by_source(source)).await.map_err(store)?;
        let wanted = |status, intent| status != DocumentStatus::Deleted && intent == Intent::Process;
        let Some(record) = record.filter(|record| wanted(record.status, record.intent)) else { return Ok(false) };
        match retry_while_busy(retry, || control.request_delete(&record.document_id)).await {
            // Deleted meanwhile.
            Err(ControlError::Refused(_) | ControlError::NotFound(_)) => return Ok(false),
            asked => drop(asked.map_err(store)?),
        }
        let (document, source) = (record.document_id, source.to_owned());
        self.intake.events.emit(Event::RemovalRequested { document, source });
        self.intake.wake.notify_one();
        Ok(true)
    }
}

/// Whose fault a failure is. What may pass by itself is never the object's, nor is a full disk.
fn stop(error: StageError) -> Stop {
    match error.class {
        ErrorClass::Permanent | ErrorClass::Crash => Stop::Refused(error.to_string()),
        ErrorClass::Throttled | ErrorClass::Transient | ErrorClass::Timeout | ErrorClass::System => {
            Stop::Outage(error.to_string())
        }
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
