//! Serves `/v1/batches`: creates, returns, lists and cancels batches. The module [`runner`] processes the batches.

mod check;
mod record;
mod runner;
mod work;

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

pub use record::{Batch, MockBatchStatus, Progress};
pub use runner::resume;

use crate::clock::{millis, unix_millis};
use crate::embeddings::parse;
use crate::faults::{Act, On, Rule};
use crate::ledger::Event;
use crate::problem::Problem;
use crate::query;
use crate::reply::Reply;
use crate::world::World;

/// Only endpoint for which batches are accepted.
const ENDPOINT: &str = "/v1/embeddings";

/// Number of times that a completed batch with late files is read without files.
const LATE_READS: u32 = 3;

pub fn create(world: &Arc<World>, key: &str, body: &[u8], hide: Option<&Rule>) -> Result<Reply, Problem> {
    world.refuse_when_spent()?;
    let body = parse(body)?;
    let input_file_id = required(&body, "input_file_id", None)?;
    required(&body, "endpoint", Some(ENDPOINT))?;
    required(&body, "completion_window", Some("24h"))?;
    let metadata = metadata(body.get("metadata"))?;
    let outcome = world.faults().draw(On::BatchOutcome);
    let mut ledger = world.ledger();
    let number = ledger.next_number();
    let now = unix_millis();
    let batch = Batch {
        id: world.id("batch_", &number.to_string()),
        number,
        key: key.into(),
        input_file_id,
        metadata,
        created_ms: now,
        expires_ms: now + millis(world.options.pace.expire),
        outcome: outcome.clone(),
        hidden: hide.is_some(),
        shown_ms: hide.and_then(|rule| rule.seconds).map(|seconds| now + millis(Duration::from_secs_f64(seconds))),
        ..Batch::default()
    };
    let reply = Reply::json(&batch.shown());
    let id = batch.id.clone();
    let mut events = vec![Event::Batch(Box::new(batch))];
    events.extend(outcome.map(|rule| Event::Fault { name: rule.name() }));
    ledger.write(events).map_err(|error| Problem::internal("write its journal", error))?;
    drop(ledger);
    tokio::spawn(runner::run(world.clone(), id));
    Ok(reply)
}

fn required(body: &Value, name: &'static str, only: Option<&str>) -> Result<String, Problem> {
    let Some(value) = body.get(name) else {
        return Err(Problem::new(400, format!("Missing required parameter: '{name}'."))
            .param(name)
            .code("missing_required_parameter"));
    };
    match (value.as_str(), only) {
        (Some(text), None) => Ok(text.into()),
        (Some(text), Some(only)) if text == only => Ok(text.into()),
        _ => {
            let supported = only.map_or("a string".to_string(), |only| format!("'{only}'"));
            let text = format!("Invalid value: {value}. Value must be {supported}.");
            Err(Problem::new(400, text).param(name).code("invalid_value"))
        }
    }
}

fn metadata(value: Option<&Value>) -> Result<Value, Problem> {
    let invalid =
        |what: &str| Problem::new(400, format!("Invalid 'metadata': {what}.")).param("metadata").code("invalid_value");
    let pairs = match value {
        None | Some(Value::Null) => return Ok(Value::Null),
        Some(Value::Object(pairs)) => pairs,
        Some(_) => return Err(invalid("expected an object")),
    };
    if pairs.len() > 16 {
        return Err(invalid("at most 16 pairs are allowed"));
    }
    for (key, value) in pairs {
        if key.chars().count() > 64 || value.as_str().is_none_or(|value| value.chars().count() > 512) {
            return Err(invalid("keys have at most 64 characters, values are strings of at most 512"));
        }
    }
    Ok(Value::Object(pairs.clone()))
}

pub fn get(world: &World, id: &str) -> Result<Reply, Problem> {
    let mut ledger = world.ledger();
    let mut batch = ledger.batch(id).cloned().ok_or_else(|| unknown(id))?;
    let late = batch.outcome.as_ref().is_some_and(|rule| rule.act == Act::LateFiles);
    if !late || batch.status != MockBatchStatus::Completed || batch.reads >= LATE_READS {
        return Ok(Reply::json(&batch.shown()));
    }
    batch.reads += 1;
    let mut shown = batch.shown();
    (shown["output_file_id"], shown["error_file_id"]) = (Value::Null, Value::Null);
    let events = vec![Event::Batch(Box::new(batch))];
    ledger.write(events).map_err(|error| Problem::internal("write its journal", error))?;
    Ok(Reply::json(&shown))
}

fn unknown(id: &str) -> Problem {
    Problem::new(404, format!("No batch found with id '{id}'."))
}

pub fn list(world: &World, query: Option<&str>) -> Result<Reply, Problem> {
    let ledger = world.ledger();
    let batches = ledger.batches();
    let ended = |batch: &&Batch| {
        use MockBatchStatus::*;
        matches!(batch.status, Completed | Failed | Expired | Cancelled)
    };
    let last = batches.iter().copied().filter(ended).map(|batch| batch.number).max().unwrap_or_default();
    let now = unix_millis();
    let shows = |batch: &Batch| batch.number < last || batch.shown_ms.is_some_and(|at| at <= now);
    let listed = batches.iter().filter(|batch| !batch.hidden || shows(batch));
    let items = listed.map(|batch| (batch.id.as_str(), batch.shown())).collect();
    Ok(Reply::json(&query::page(items, query, 20, 100)?))
}

/// Cancels a batch. The reply has the status `cancelling`; completed rows stay completed and charged.
pub fn cancel(world: &World, id: &str) -> Result<Reply, Problem> {
    let mut ledger = world.ledger();
    let mut batch = ledger.batch(id).cloned().ok_or_else(|| unknown(id))?;
    match batch.status {
        MockBatchStatus::Validating | MockBatchStatus::InProgress => {
            batch.move_to(MockBatchStatus::Cancelling);
            let reply = Reply::json(&batch.shown());
            let events = vec![Event::Batch(Box::new(batch))];
            ledger.write(events).map_err(|error| Problem::internal("write its journal", error))?;
            world.changed.send_replace(());
            Ok(reply)
        }
        MockBatchStatus::Cancelling => Ok(Reply::json(&batch.shown())),
        status => Err(Problem::new(409, format!("Cannot cancel a batch with status '{}'.", status.name()))),
    }
}
