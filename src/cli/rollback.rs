//! Implements `docweir store rollback`, which restores the content of the index as of an earlier version.
//!
//! A rollback changes only the index. The files of the documents still have their current content, so the next ingest
//! would apply the undone changes again. With `--hold`, the documents whose changes were undone are parked instead. A
//! held document is processed again once its file changes, or after `docweir retry`.

use docweir_core::documents::{DocumentId, Stage};
use docweir_index::VectorStore;
use docweir_index::verify::Disagreement;
use docweir_stores::control::rules::first_unfinished;
use docweir_stores::control::{DocumentStatus, Intent, RecordFilter};

use super::context::Context;
use super::documents::each;
use super::output::plural;
use super::store::{disagreements, reconcile, record_items};
use crate::engine::Engine;
use crate::exit::{Exit, Failure};

/// Reason that `docweir status` shows for a held document.
const HELD: &str = "held by `docweir store rollback --hold`";

/// Rolls the index back to `version`. Meanwhile, the command holds the lock of the state folder, so that no run can
/// load documents.
pub async fn run(
    context: &Context,
    engine: &Engine,
    vectors: &VectorStore,
    version: u64,
    hold: bool,
) -> Result<Exit, Failure> {
    let _lock = engine.lock("docweir store rollback")?;
    // A shared index has no lock that excludes other processes.
    let at_work = RecordFilter { status: Some(DocumentStatus::InProgress), ..RecordFilter::default() };
    if engine.is_shared() && !engine.control.list(&at_work, None, 1).await?.is_empty() {
        let text = "documents are in progress: stop all docweir processes that work on them, then roll back";
        return Err(Failure::new(Exit::Busy, text));
    }
    let records = record_items(engine, vectors).await?;
    if hold && records.is_some() {
        let collection = vectors.collection();
        return Err(Failure::usage(format!(
            "--hold: records cannot be held, and `{collection}` is a collection of records"
        )));
    }
    let now = vectors.roll_back(version).await?;
    let out = &context.out;
    out.line(format!("rolled back to version {version}; this is now version {now}"));
    if let Some(batches) = records {
        match reconcile(batches.as_ref(), vectors).await? {
            0 => {}
            n => {
                let records = plural(n, "record");
                out.line(format!("{records} pending again: the next run embeds their current content, which applies the undone changes again"));
            }
        }
        return Ok(Exit::Success);
    }
    let mut undone = Vec::new();
    let mut back = Vec::new();
    for disagreement in disagreements(engine, vectors).await? {
        match disagreement {
            Disagreement::NotVisible { document, .. } => undone.push(document),
            Disagreement::NotRecorded { document, .. } => back.push(document),
        }
    }
    if hold {
        undone.extend(undone_before(engine, vectors).await?);
    }
    for document in &undone {
        match hold {
            true => engine.control.hold(document, Some(Stage::Loading), HELD).await?,
            false => engine.control.reset(document, Some(Stage::Loading)).await?,
        };
    }
    let documents = plural(undone.len() as u64, "document");
    match (undone.is_empty(), hold) {
        (true, _) => {}
        (false, true) => {
            out.line(format!("{documents} held: `docweir ingest` leaves each of them as it is until its file changes"));
            out.line("`docweir retry --held` applies the undone changes again");
        }
        (false, false) => {
            out.line(format!("{documents} pending again: the next `docweir ingest` applies the undone changes again"));
            out.line(format!("to keep the restored content instead, run `docweir store rollback {version} --hold`"));
        }
    }
    for document in back {
        out.line(format!("deleted document {document} can be found again; run `docweir delete {document}`"));
    }
    Ok(Exit::Success)
}

/// Returns the documents whose changes an earlier rollback has undone, and which are still pending. Their last loaded
/// version is not the visible one, and only loading is left to do. (A newer file is pending from its extraction on.)
async fn undone_before(engine: &Engine, vectors: &VectorStore) -> Result<Vec<DocumentId>, Failure> {
    let visible = vectors.inventory().await?.documents;
    let filter = RecordFilter { status: Some(DocumentStatus::Pending), ..RecordFilter::default() };
    let mut undone = Vec::new();
    each(engine.control.as_ref(), &filter, |record| {
        let held = visible.get(&record.document_id).filter(|held| !held.tombstone).map(|held| held.version);
        let only_loading = first_unfinished(&record) == Some(Stage::Loading);
        let undoes = record.loaded_version.is_some_and(|loaded| held < Some(loaded));
        if record.intent == Intent::Process && only_loading && undoes {
            undone.push(record.document_id);
        }
    })
    .await?;
    Ok(undone)
}
