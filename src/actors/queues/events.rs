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

use std::collections::HashSet;

use async_trait::async_trait;
use docweir_core::error::{ErrorClass, StageError};
use docweir_stores::control::{ControlError, DocumentStatus, Intent};
use metrics::counter;
use serde_json::Value;
use tokio::time::Instant;

use super::consumer::{Handler, MessageOutcome};
use crate::actors::intake::{INTAKE, Intake};
use crate::actors::outcomes::control;
use crate::actors::retry_while_busy::retry_in_outage;
use crate::intake::bucket_events::{Message, ObjectEvent, Record, parse};
use crate::intake::originals::{BUCKET, GONE, Listed, ONE_OBJECT};
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
    Outage(StageError),
    /// The system failed.
    System(StageError),
}

/// Collects what became of the records of a message.
#[derive(Default)]
struct RecordOutcomes {
    /// Records that are refused, each with the reason and the source, if the source is known.
    refused: Vec<(Value, String, Option<String>)>,
    outage: Option<StageError>,
    /// True if a service was used for a record.
    worked: bool,
}

#[async_trait(?Send)]
impl Handler for BucketEvents {
    async fn handle(&self, body: &str) -> Result<MessageOutcome, StageError> {
        let records = match parse(body) {
            Ok(Message::Objects(records)) => records,
            Ok(Message::Test) => return Ok(MessageOutcome::Ignored),
            Err(reason) => return Ok(MessageOutcome::Refused(format!("message is not a bucket event: {reason}"))),
        };
        let (began, several) = (Instant::now(), records.len() > 1);
        let (mut outcomes, mut seen) = (RecordOutcomes::default(), HashSet::new());
        for Record { event, alone } in records {
            match event {
                Ok(event) if is_repeated(&event, &mut seen) => {}
                Ok(event) => self.take_in(event, alone, &mut outcomes).await?,
                Err(reason) => {
                    let reason = format!("message is not a bucket event: {reason}");
                    outcomes.refused.push((alone, reason, None));
                }
            }
        }
        // The records are looked at again after the outage, so nothing is reported before.
        if let Some(error) = outcomes.outage {
            if error.code == ONE_OBJECT {
                return Ok(MessageOutcome::Alone(error.to_string()));
            }
            self.intake.outages.report(INTAKE, &error);
            return Ok(MessageOutcome::Outage(error.to_string()));
        }
        // A refused object was read too.
        if outcomes.worked || outcomes.refused.iter().any(|(.., source)| source.is_some()) {
            self.intake.outages.works(INTAKE, began);
        }
        for (_, reason, source) in &outcomes.refused {
            counted("refused");
            if let Some(source) = source.clone() {
                self.intake.events.emit(Event::Unreadable { source, reason: reason.clone() });
            }
        }
        let Some((_, reason, source)) = outcomes.refused.first() else {
            return Ok(if outcomes.worked { MessageOutcome::Done } else { MessageOutcome::Ignored });
        };
        let reason = match source {
            Some(_) => format!("object cannot be ingested: {reason}"),
            None => reason.clone(),
        };
        if several {
            let bodies = outcomes.refused.iter().map(|(alone, ..)| alone.to_string()).collect();
            return Ok(MessageOutcome::Split { bodies, reason });
        }
        Ok(MessageOutcome::Refused(reason))
    }
}

/// Returns whether the message contains an earlier event of the same keys.
fn is_repeated(event: &ObjectEvent, seen: &mut HashSet<(String, String, Option<String>)>) -> bool {
    !seen.insert((event.bucket.clone(), event.key.clone(), event.plain_key.clone()))
}

/// Counts an event in the metrics.
fn counted(outcome: &'static str) {
    counter!("docweir_bucket_events_total", "outcome" => outcome).increment(1);
}

impl BucketEvents {
    /// Applies one event, to the decoded key and to the key as the message contains it.
    async fn take_in(&self, event: ObjectEvent, alone: Value, outcomes: &mut RecordOutcomes) -> Result<(), StageError> {
        let source = |key: &str| format!("s3://{}/{key}", event.bucket);
        let watched = |key: &str| self.watched.iter().any(|(b, prefix)| *b == event.bucket && key.starts_with(prefix));
        let keys: Vec<&String> = [Some(&event.key), event.plain_key.as_ref()].into_iter().flatten().collect();
        let wanted = |key: &&&String| watched(key) && self.intake.is_wanted("", &source(key));
        let wanted: Vec<&&String> = keys.iter().filter(wanted).collect();
        if wanted.is_empty() {
            let outcome = if keys.iter().any(|key| watched(key)) { "unwanted" } else { "unwatched" };
            counted(outcome);
            let (bucket, key) = (&event.bucket, &event.key);
            tracing::info!(bucket, key, outcome, "event ignored: no document is expected at this place");
            return Ok(());
        }
        // Objects may exist under both keys, and the event does not tell which of them it means.
        let (mut found_any, mut refused) = (None, None);
        for key in wanted {
            let source = source(key);
            match self.make_true(&source).await {
                Ok(found) => {
                    outcomes.worked = true;
                    if found {
                        found_any = Some(source);
                    }
                }
                Err(Stop::Refused(_)) if found_any.is_some() || refused.is_some() => {}
                Err(Stop::Refused(reason)) => refused = Some((reason, source)),
                Err(Stop::Outage(error)) => {
                    if self.concerns_one_key(&error, found_any.as_deref(), refused.is_some()).await {
                        continue;
                    }
                    // An outage of the whole bucket outweighs that of one object.
                    if outcomes.outage.as_ref().is_none_or(|other| other.code == ONE_OBJECT) {
                        outcomes.outage = Some(error);
                    }
                    return Ok(());
                }
                Err(Stop::System(error)) => return Err(error),
            }
        }
        if found_any.is_some() {
            counted("present");
        } else if refused.is_none() {
            counted("absent");
            let (bucket, key) = (&event.bucket, &event.key);
            tracing::info!(bucket, key, "event names an object that does not exist");
        }
        if let Some((reason, source)) = refused {
            outcomes.refused.push((alone, reason, Some(source)));
        }
        Ok(())
    }

    /// Returns whether an error concerns only the second key of an event, although the first key names an object. S3
    /// denies access to an object that does not exist if the permission `s3:ListBucket` is missing.
    async fn concerns_one_key(&self, error: &StageError, found: Option<&str>, refused: bool) -> bool {
        match (error.code.as_str(), found) {
            (ONE_OBJECT, found) => found.is_some() || refused,
            (BUCKET, Some(found)) => matches!(self.intake.originals.look(found).await, Ok(Some(_))),
            _ => false,
        }
    }

    /// Makes the control store agree with the object. Returns whether the object exists.
    async fn make_true(&self, source: &str) -> Result<bool, Stop> {
        for _ in 0..=self.intake.options.max_changes {
            let object = self.intake.originals.look(source).await.map_err(stop)?;
            let changed = match &object {
                Some(object) => self.register(object).await?,
                None => self.remove(source).await?,
            };
            // If removals are not followed, one inspection is enough, because extraction detects a changed object.
            if !changed || !self.follow_removals {
                return Ok(object.is_some());
            }
            let now = self.intake.originals.look(source).await.map_err(stop)?;
            let found = object.is_some();
            if now.map(|object| object.tag) == object.map(|object| object.tag) {
                return Ok(found);
            }
        }
        Err(Stop::Outage(StageError::unavailable(ONE_OBJECT, "the object changed whenever it was read")))
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
        let record = retry_in_outage(retry, || control.by_source(source)).await.map_err(store)?;
        let wanted = |status, intent| status != DocumentStatus::Deleted && intent == Intent::Process;
        let Some(record) = record.filter(|record| wanted(record.status, record.intent)) else { return Ok(false) };
        match retry_in_outage(retry, || control.request_delete(&record.document_id)).await {
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

/// Converts an error of reading an object. Only some errors mean that the object cannot be ingested. Transient errors,
/// denials and full disks never have this meaning.
fn stop(error: StageError) -> Stop {
    match error.class {
        ErrorClass::Permanent | ErrorClass::Crash => Stop::Refused(error.to_string()),
        _ => Stop::Outage(error),
    }
}

fn store(error: ControlError) -> Stop {
    match error {
        ControlError::Busy(_) | ControlError::Denied { .. } => Stop::Outage(control(error)),
        ControlError::Storage { .. } => Stop::System(control(error)),
        ControlError::Refused(_) | ControlError::NotFound(_) | ControlError::Fenced(_) => {
            Stop::Refused(error.to_string())
        }
    }
}

#[cfg(test)]
#[path = "events_tests.rs"]
mod tests;
