//! Processes a batch after its creation: validating → in_progress → finalizing → completed, or another final status.
//!
//! Each batch has one task. The task reads the status from the ledger, performs the step for this status, and writes
//! the next status. If the batch was cancelled in the meantime, the task writes nothing and reads the status again.
//! Each step is complete only when the ledger is written. If the process is killed at any point, a task in the next
//! process therefore continues the batch.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;
use tokio::task::spawn_blocking;

use super::check::{Checked, check};
use super::record::{Batch, BatchError, MockBatchStatus};
use super::work::{Work, file_ids};
use crate::clock::{millis, unix_millis};
use crate::faults::Act;
use crate::files::written_by_batch;
use crate::ledger::Event;
use crate::world::World;

/// Number of rows that are processed before the clock and the batch's status are read again.
const ROWS_AT_ONCE: u64 = 64;

/// Resumes the batches that an earlier process left unfinished.
pub fn resume(world: &Arc<World>) {
    let ids: Vec<_> = world.ledger().batches().into_iter().rev().map(|batch| batch.id.clone()).collect();
    for id in ids {
        tokio::spawn(run(world.clone(), id));
    }
}

pub async fn run(world: Arc<World>, id: String) {
    let mut changed = world.changed.subscribe();
    loop {
        let Some(batch) = world.ledger().batch(&id).cloned() else { return };
        let status = batch.status;
        let step = match status {
            MockBatchStatus::Validating => validate(&world, batch, &mut changed).await,
            MockBatchStatus::InProgress => work(&world, batch, &mut changed).await,
            MockBatchStatus::Finalizing => finish(&world, batch, MockBatchStatus::Completed, &mut changed).await,
            MockBatchStatus::Cancelling => finish(&world, batch, MockBatchStatus::Cancelled, &mut changed).await,
            MockBatchStatus::Completed
            | MockBatchStatus::Failed
            | MockBatchStatus::Expired
            | MockBatchStatus::Cancelled => return,
        };
        if let Err(error) = step {
            let failed = change(&world, &id, status, |batch| {
                batch.fail(vec![simple_error("server_error", format!("the mock provider cannot continue: {error}"))]);
                Ok(Vec::new())
            });
            if failed.is_err() {
                return;
            }
        }
    }
}

/// Waits until `ms`, a Unix time in milliseconds. Returns earlier if a request changes any batch.
async fn wait_until(ms: u64, changed: &mut watch::Receiver<()>) {
    let wait = Duration::from_millis(ms.saturating_sub(unix_millis()));
    tokio::select! {
        () = tokio::time::sleep(wait) => {}
        // The sender lives as long as the world, and this task holds the world.
        _ = changed.changed() => {}
    }
}

/// Changes a batch if it still has the status `from`, and otherwise does nothing. The events that `edit` returns are
/// written before the changed batch.
fn change(
    world: &World,
    id: &str,
    from: MockBatchStatus,
    edit: impl FnOnce(&mut Batch) -> io::Result<Vec<Event>>,
) -> io::Result<()> {
    let mut ledger = world.ledger();
    let Some(mut batch) = ledger.batch(id).filter(|batch| batch.status == from).cloned() else { return Ok(()) };
    let mut events = edit(&mut batch)?;
    events.push(Event::Batch(Box::new(batch)));
    ledger.write(events)
}

fn simple_error(code: &str, message: String) -> BatchError {
    BatchError { code: code.into(), message, param: None, line: None }
}

async fn validate(world: &Arc<World>, batch: Batch, changed: &mut watch::Receiver<()>) -> io::Result<()> {
    let due = batch.created_ms + millis(world.options.pace.validate);
    if unix_millis() < due {
        wait_until(due, changed).await;
        return Ok(());
    }
    let file = world.ledger().file(&batch.input_file_id).cloned();
    let checked = match file {
        None => Err(vec![simple_error("file_not_found", format!("No such File object: {}", batch.input_file_id))]),
        Some(file) if file.purpose != "batch" => {
            Err(vec![simple_error("invalid_file", format!("The file's purpose is '{}', not 'batch'.", file.purpose))])
        }
        Some(file) => {
            let world = world.clone();
            spawn_blocking(move || check(&world, &world.file_path(&file.id))).await??
        }
    };
    accept(world, &batch.id, checked)
}

fn accept(world: &World, id: &str, checked: Result<Checked, Vec<BatchError>>) -> io::Result<()> {
    let limit = world.options.limits.enqueued_tokens;
    // Check and reservation happen under one lock. Otherwise two batches could both fit into the same limit.
    let mut ledger = world.ledger();
    let Some(mut batch) = ledger.batch(id).filter(|batch| batch.status == MockBatchStatus::Validating).cloned() else {
        return Ok(());
    };
    match checked {
        Err(errors) => batch.fail(errors),
        Ok(_) if batch.outcome.as_ref().is_some_and(|rule| rule.act == Act::Fail) => {
            let text = "The batch could not be processed because of an error on our side.".into();
            batch.fail(vec![simple_error("server_error", text)]);
        }
        Ok(checked) if ledger.enqueued_tokens(&checked.model) + checked.tokens > limit => {
            let text = format!(
                "Enqueued token limit reached for {} in organization org-mock. Limit: {limit} enqueued tokens. Please \
                 try again once some in_progress batches have been completed.",
                checked.model
            );
            batch.fail(vec![simple_error("token_limit_exceeded", text)]);
        }
        Ok(checked) => {
            (batch.total, batch.tokens, batch.model) = (checked.total, checked.tokens, Some(checked.model));
            batch.move_to(MockBatchStatus::InProgress);
        }
    }
    ledger.write(vec![Event::Batch(Box::new(batch))])
}

async fn work(world: &Arc<World>, batch: Batch, changed: &mut watch::Receiver<()>) -> io::Result<()> {
    let id = batch.id.clone();
    let outcome = batch.outcome.as_ref().map(|rule| rule.act);
    let (began, expires) = (batch.in_progress_ms.unwrap_or(batch.created_ms), batch.expires_ms);
    let shared = world.clone();
    let mut work = spawn_blocking(move || Work::open(&shared, batch)).await??;
    let target = work.target();
    loop {
        if world.ledger().batch(&id).is_none_or(|batch| batch.status != MockBatchStatus::InProgress) {
            return Ok(());
        }
        let (now, done) = (unix_millis(), work.progress.done);
        if now >= expires {
            return expire(world, &id, work).await;
        }
        if done >= target {
            return match outcome {
                Some(Act::Stuck) => {
                    wait_until(expires, changed).await;
                    continue;
                }
                Some(Act::Expire) => expire(world, &id, work).await,
                Some(Act::Cancel) => change(world, &id, MockBatchStatus::InProgress, |batch| {
                    batch.move_to(MockBatchStatus::Cancelling);
                    Ok(Vec::new())
                }),
                _ => change(world, &id, MockBatchStatus::InProgress, |batch| {
                    batch.move_to(MockBatchStatus::Finalizing);
                    Ok(Vec::new())
                }),
            };
        }
        let mut count = ROWS_AT_ONCE;
        if let Some(rate) = world.options.pace.items_per_second {
            let allowed = (now.saturating_sub(began) as f64 * rate / 1000.0) as u64;
            if allowed <= done {
                let due = began + ((done + 1) as f64 / rate * 1000.0).ceil() as u64;
                wait_until(due.min(expires), changed).await;
                continue;
            }
            count = count.min(allowed - done);
        }
        let shared = world.clone();
        let (returned, charges) = spawn_blocking(move || {
            let charges = work.rows(&shared, count);
            (work, charges)
        })
        .await?;
        work = returned;
        // The batch may have been cancelled meanwhile. These rows are done, so they are charged.
        world.ledger().write(vec![Event::Rows { batch: id.clone(), progress: work.progress, charges: charges? }])?;
    }
}

async fn expire(world: &Arc<World>, id: &str, mut work: Work) -> io::Result<()> {
    let work = spawn_blocking(move || work.expire().map(|()| work)).await??;
    change_with_files(world, id, MockBatchStatus::InProgress, |batch| {
        batch.progress = work.progress;
        batch.move_to(MockBatchStatus::Expired);
    })
}

async fn finish(
    world: &Arc<World>,
    batch: Batch,
    end: MockBatchStatus,
    changed: &mut watch::Receiver<()>,
) -> io::Result<()> {
    let since = batch.cancelling_ms.or(batch.finalizing_ms).unwrap_or(batch.created_ms);
    let due = since + millis(world.options.pace.finalize);
    if unix_millis() < due {
        wait_until(due, changed).await;
        return Ok(());
    }
    change_with_files(world, &batch.id, batch.status, |batch| batch.move_to(end))
}

/// Ends a batch. Publishes the output file and the error file, unless they are empty.
fn change_with_files(world: &World, id: &str, from: MockBatchStatus, edit: impl FnOnce(&mut Batch)) -> io::Result<()> {
    let (output, errors) = file_ids(world, id);
    let (first, second) = {
        let mut ledger = world.ledger();
        (ledger.next_number(), ledger.next_number())
    };
    change(world, id, from, |batch| {
        edit(batch);
        let mut events = Vec::new();
        let mut show = |file: String, number, bytes: u64, name: &str| -> io::Result<Option<String>> {
            let path = world.file_path(&file);
            if bytes == 0 {
                let _ = std::fs::remove_file(path);
                return Ok(None);
            }
            std::fs::OpenOptions::new().write(true).open(path)?.set_len(bytes)?;
            events.push(Event::File(written_by_batch(world, &file, number, format!("{id}_{name}.jsonl"))?));
            Ok(Some(file))
        };
        batch.output_file_id = show(output, first, batch.progress.output_bytes, "output")?;
        batch.error_file_id = show(errors, second, batch.progress.error_bytes, "error")?;
        Ok(events)
    })
}
