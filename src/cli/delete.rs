//! Implements `docweir delete`, which removes documents from the index.
//!
//! The command writes a deletion request to the control store. If another process is ingesting into the state folder,
//! that process carries out the request. Otherwise, the command locks the folder and carries out the request itself.
//! The command returns when the documents can no longer be found.

use std::collections::HashSet;
use std::ffi::OsString;
use std::time::Duration;

use docweir_core::documents::DocumentId;
use docweir_index::Write;
use docweir_stores::batches::Space;
use docweir_stores::control::{ControlError, ControlRecord, ControlStore, DocumentStatus, RecordFilter};
use docweir_stores::state::LockError;

use super::args;
use super::context::Context;
use super::documents::{contained, find, folder};
use super::output::{plural, print_error, printable};
use crate::actors::batches::tombstones;
use crate::engine::Engine;
use crate::exit::{EngineError, Exit, Failure};
use crate::intake::source;
use crate::pipeline;

/// Number of documents of a folder that are deleted together.
const PAGE: usize = 500;
/// Maximum number of record tombstones in one commit.
const TOMBSTONES: usize = 2_000;
/// Interval at which the control record is polled while another process carries out the deletion.
const LOOK: Duration = Duration::from_millis(500);
/// Time that a run is given to commit a deletion, counted from when the run reads the request. The command waits for
/// two poll intervals of the run, and then for this time.
const MARGIN: Duration = Duration::from_secs(30);

pub fn run(context: &Context, args: &args::Delete) -> Result<Exit, Failure> {
    if let Some(collection) = &args.collection {
        return context.block_on(records(context, collection, &args.documents));
    }
    context.with_actors(async {
        let engine = Engine::open(context.config()?).await?;
        let control = engine.control.as_ref();
        // Resolve all names before anything is deleted.
        let (mut records, mut folders) = (Vec::new(), Vec::new());
        for name in &args.documents {
            match find(control, name, &context.here).await {
                Ok(record) => records.push(record),
                Err(absent) => {
                    let Some(below) = folder(name, &context.here) else { return Err(absent) };
                    if !has_documents(control, &below).await? {
                        return Err(absent);
                    }
                    folders.push(below);
                }
            }
        }
        let mut left = documents(context, &engine, &records).await?;
        for below in folders {
            left += documents_below(context, &engine, below).await?;
        }
        if left == 0 {
            return Ok(Exit::Success);
        }
        let working = engine.working().map(|held| format!(": {held}")).unwrap_or_default();
        let count = plural(left, "document");
        let text = format!("{count} not deleted yet; the request is recorded and the next run carries it out{working}");
        Err(Failure::new(Exit::Busy, text))
    })
}

/// Returns whether any document that is not deleted has a source with this prefix.
async fn has_documents(control: &dyn ControlStore, prefix: &str) -> Result<bool, Failure> {
    let filter = RecordFilter { source_prefix: Some(prefix.to_owned()), ..Default::default() };
    let mut after = None;
    loop {
        let page = control.list(&filter, after.as_ref(), PAGE).await?;
        if page.iter().any(|record| record.status != DocumentStatus::Deleted) {
            return Ok(true);
        }
        let Some(last) = page.last() else { return Ok(false) };
        after = Some(last.document_id.clone());
    }
}

/// Deletes all documents whose sources begin with a prefix, page by page. Returns the number of documents that could
/// not be deleted within the time limit.
async fn documents_below(context: &Context, engine: &Engine, prefix: String) -> Result<u64, Failure> {
    let filter = RecordFilter { source_prefix: Some(prefix), ..Default::default() };
    let (mut after, mut left) = (None, 0);
    loop {
        let mut page = engine.control.list(&filter, after.as_ref(), PAGE).await?;
        let Some(last) = page.last().map(|record| record.document_id.clone()) else { return Ok(left) };
        after = Some(last);
        // A document that another document contains is deleted together with that document.
        page.retain(|record| record.status != DocumentStatus::Deleted && record.parent.is_none());
        left += documents(context, engine, &page).await?;
    }
}

/// Deletes records immediately. No other process has to do this, because any process may write tombstones to a
/// collection of records. If an open batch contains a deleted record, the result for that record is discarded when
/// the batch ends.
async fn records(context: &Context, collection: &str, names: &[OsString]) -> Result<Exit, Failure> {
    let engine = Engine::open(context.config()?).await?;
    let none = || Failure::no(format!("collection `{}` contains no records", printable(collection)));
    if !engine.has_ledger() {
        return Err(none());
    }
    let batches = engine.batches()?;
    if !batches.collections().await?.iter().any(|(name, _)| name == collection) {
        return Err(none());
    }
    let space = Space::Records(collection.to_owned());
    let mut deleted = 0;
    for name in names {
        let key = name.to_str().ok_or_else(|| Failure::usage("the id of a record must be UTF-8"))?;
        match batches.delete(&space, vec![key.to_owned()]).await? {
            0 => print_error(format!("record `{}` not found in collection `{collection}`", printable(key))),
            _ => {
                context.out.line(format!("deleted: {}", printable(key)));
                deleted += 1;
            }
        }
    }
    let target = (engine.open_target())(collection).map_err(EngineError::of_target)?;
    if let Some(model) = target.model().await.map_err(EngineError::of_target)? {
        let mut writer = target.writer();
        loop {
            let removals = batches.removals(&space, TOMBSTONES).await?;
            if removals.is_empty() {
                break;
            }
            writer.write(tombstones(&removals), &model).await.map_err(EngineError::of_target)?;
            batches.removed(removals).await?;
        }
    }
    if let Err(error) = batches.purge_log().await {
        tracing::warn!(%error, "texts of the deleted records stay in the log of the store until it is overwritten");
    }
    Ok(if deleted == names.len() { Exit::Success } else { Exit::Failed })
}

/// Deletes the given documents, and all documents that these contain. Prints a line for each deleted document.
/// Returns the number of documents that could not be deleted within the time limit.
pub async fn documents(context: &Context, engine: &Engine, records: &[ControlRecord]) -> Result<u64, Failure> {
    let (mut wanted, mut deleted) = (Vec::new(), Vec::new());
    for record in records {
        let shown = source::display(&record.source, &context.here);
        if record.status == DocumentStatus::Deleted {
            deleted.push((record, shown));
            continue;
        }
        match engine.control.request_delete(&record.document_id).await {
            // Another process has deleted the document meanwhile.
            Err(ControlError::Refused(_)) => continue,
            requested => drop(requested?),
        }
        wanted.push((record.document_id.clone(), shown));
        // The request voids every claim, so the list of children can no longer grow.
        let record = engine.control.record(&record.document_id).await?;
        for child in contained(engine.control.as_ref(), &record).await? {
            if child.status != DocumentStatus::Deleted {
                let shown = source::display(&child.source, &context.here);
                wanted.push((child.document_id, shown));
            }
        }
    }
    let mut seen = HashSet::new();
    wanted.retain(|(id, _)| seen.insert(id.clone()));
    let left = fulfil(engine, wanted.iter().map(|(id, _)| id.clone()).collect()).await?;
    for (id, shown) in &wanted {
        if !left.contains(id) {
            context.out.line(format!("deleted: {shown}"));
        }
    }
    again(context, engine, deleted).await?;
    Ok(left.len() as u64)
}

/// Handles documents whose control records say that they are deleted already. A rollback may have made such a
/// document visible again; if so, a new tombstone is written for the document. Otherwise, nothing is written.
async fn again(context: &Context, engine: &Engine, deleted: Vec<(&ControlRecord, String)>) -> Result<(), Failure> {
    if deleted.is_empty() {
        return Ok(());
    }
    let vectors = engine.vectors()?;
    let view = vectors.view().await?;
    let mut tombstones = Vec::new();
    for (record, shown) in deleted {
        let document_id = record.document_id.clone();
        match view.version_of(&document_id) {
            Some((visible, _)) => {
                tombstones.push(Write::Delete { document_id, version: record.version.max(visible) });
                context.out.line(format!("deleted again: {shown}"));
            }
            None => context.out.line(format!("already deleted: {shown}")),
        }
    }
    if let Some(model) = view.manifest().model().filter(|_| !tombstones.is_empty()) {
        let _lock = engine.lock("docweir delete")?;
        vectors.writer().commit(tombstones, model).await?;
    }
    Ok(())
}

/// Waits until all documents are deleted, or until a time limit is reached. Returns the documents that are not
/// deleted by then.
async fn fulfil(engine: &Engine, mut left: Vec<DocumentId>) -> Result<Vec<DocumentId>, Failure> {
    let poll = Duration::from_secs(engine.config.settings.intake.poll_seconds);
    let looks = (poll.saturating_mul(2) + MARGIN).as_millis() / LOOK.as_millis();
    let mut told = false;
    for _ in 0..looks {
        left = remaining(engine, left).await?;
        if left.is_empty() {
            break;
        }
        let waiting = match engine.state.lock_orchestrator("docweir delete", engine.clock.as_ref()) {
            // Holds the lock until the requests are settled; an ingest that starts meanwhile is refused.
            Ok(lock) => {
                let settled = pipeline::carry_out_deletions(engine).await;
                drop(lock);
                settled.map_err(|e| Failure::system(e.to_string()))?;
                left = remaining(engine, left).await?;
                if left.is_empty() || !engine.is_shared() {
                    return Ok(left);
                }
                "waiting for another process that has started the deletion".to_owned()
            }
            Err(LockError::Held(held)) => format!("waiting for another process to delete the documents: {held}"),
            Err(LockError::State(e)) => return Err(Failure::system(e.to_string())),
        };
        if !std::mem::replace(&mut told, true) {
            print_error(waiting);
        }
        engine.clock.sleep(LOOK).await;
    }
    Ok(left)
}

async fn remaining(engine: &Engine, ids: Vec<DocumentId>) -> Result<Vec<DocumentId>, Failure> {
    let mut left = Vec::new();
    for id in ids {
        if engine.control.record(&id).await?.status != DocumentStatus::Deleted {
            left.push(id);
        }
    }
    Ok(left)
}
