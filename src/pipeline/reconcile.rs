//! Repairs the control store, the ledger, the quarantine and the vector store after a process has died. The manifest
//! of the vector store decides which documents are loaded. The functions are called before a run, or in a command
//! that starts no run.

use std::sync::Arc;
use std::time::Duration;

use docweir_core::clock::timestamp;
use docweir_core::documents::{DocumentId, Stage};
use docweir_core::error::StageError;
use docweir_core::model::{Metric, ModelIdentity};
use docweir_index::{CollectionScope, VectorStore};
use docweir_providers::account::BUDGET_SPENT;
use docweir_providers::batched::wake_word;
use docweir_stores::batches::Space;
use docweir_stores::control::{
    Claim, ClaimFilter, ControlRecord, DocumentKey, DocumentStatus, Intent, RecordFilter, rules,
};
use docweir_stores::paid::PaidError;
use docweir_stores::state::owner_id;
use docweir_target::{Target, Write};

use crate::actors::artefacts::delete_unredacted;
use crate::actors::committer::store;
use crate::actors::outcomes::control;
use crate::actors::retry_while_busy::retry_while_busy;
use crate::config::Provider;
use crate::engine::Engine;
use crate::messages::event::{Event, EventSink};
use crate::pipeline::{RunError, context};

/// Maximum number of records or documents per page.
const PAGE: usize = 500;

/// Carries out the deletion requests that are pending in the control store, without loading a model. Returns the
/// number of deleted documents. The caller must hold the lock of the state folder.
pub async fn carry_out_deletions(engine: &Engine) -> Result<u64, RunError> {
    let system = |e: StageError| RunError::system("delete", e);
    let target = engine.target().map_err(|e| RunError::system("vectors", e))?;
    let model = target.model().await.map_err(system)?;
    let settings = &engine.config.settings;
    let lease = Duration::from_secs(settings.lease.seconds);
    let owner = owner_id(engine.clock.as_ref());
    let retry = &settings.retry;
    let expired = retry_while_busy(retry, || engine.control.expire_leases_of_others(&owner)).await;
    expired.map_err(|e| system(control(e)))?;
    let silent: Arc<dyn EventSink> = Arc::new(|_: Event| {});
    let context = context(engine, model.clone().unwrap_or_else(unknown_model), silent);
    let mut writer = target.writer();
    let mut deleted = 0;
    loop {
        let batch = settings.intake.claim_batch;
        let claims =
            retry_while_busy(retry, || engine.control.claim(&owner, lease, batch, Some(ClaimFilter::Deletions))).await;
        let claims = claims.map_err(|e| system(control(e)))?;
        if claims.is_empty() {
            return Ok(deleted);
        }
        if let Some(model) = &model {
            let tombstone = |c: &Claim| Write::Delete { document_id: c.key.id.clone(), version: c.key.version };
            let writes = claims.iter().map(tombstone).collect();
            writer.write(writes, model).await.map_err(system)?;
        }
        for claim in &claims {
            context.deleted(claim).await.map_err(system)?;
            deleted += 1;
        }
    }
}

/// Returns a placeholder for the model of an empty index.
fn unknown_model() -> ModelIdentity {
    ModelIdentity { id: "none".into(), weights: String::new(), dimension: 0, metric: Metric::Cosine }
}

/// Ends the claims of dead processes. A dead process may have loaded a document into the index without recording
/// this; such a document is now marked as loaded in the control store.
pub async fn take_over(engine: &Engine, owner: &str, target: &dyn Target) -> Result<(), RunError> {
    // In a shared index it is unknown which processes are dead. Their leases expire, and the next claimant loads the
    // documents again, which has no visible effect.
    if engine.is_shared() {
        return Ok(());
    }
    let system = |e: StageError| RunError::system("control", e);
    let (control_store, retry) = (&engine.control, &engine.config.settings.retry);
    retry_while_busy(retry, || control_store.expire_leases_of_others(owner)).await.map_err(|e| system(control(e)))?;
    let filter = RecordFilter { status: Some(DocumentStatus::InProgress), ..Default::default() };
    let mut after = None;
    loop {
        let page = records(engine, &filter, after.as_ref()).await?;
        let loading =
            page.iter().filter(|r| r.intent == Intent::Process && rules::first_unfinished(r) == Some(Stage::Loading));
        let loading: Vec<_> = loading.collect();
        if !loading.is_empty() {
            let ids: Vec<_> = loading.iter().map(|record| record.document_id.clone()).collect();
            let held = target.held(&ids).await.map_err(system)?;
            let there = loading.iter().zip(held);
            let there = there.filter(|(record, held)| held.is_some_and(|held| held.version == record.version));
            let visible: Vec<_> = there
                .map(|(record, _)| DocumentKey { id: record.document_id.clone(), version: record.version })
                .collect();
            if engine.config.settings.enrich.options.redact {
                for document in &visible {
                    delete_unredacted(engine.objects.as_ref(), &document.id).await.map_err(system)?;
                }
            }
            retry_while_busy(retry, || control_store.mark_loaded(&visible)).await.map_err(|e| system(control(e)))?;
        }
        after = page.last().map(|r| r.document_id.clone());
        if page.len() < PAGE {
            return Ok(());
        }
    }
}

/// Marks reserved costs of dead runs as in doubt, because it is unknown whether the provider charged the calls. Also
/// resumes documents that wait for the budget, and deletes ledger entries that are older than the configured limit.
pub async fn reconcile_ledger(engine: &Engine, owner: &str) -> Result<(), RunError> {
    let control_store = &engine.control;
    let resumed = retry_while_busy(&engine.config.settings.retry, || control_store.resume(Some(BUDGET_SPENT))).await;
    resumed.map_err(|e| RunError::system("control", control(e)))?;
    if !engine.has_ledger() {
        return Ok(());
    }
    let ledger = engine.ledger().map_err(|e| RunError::system("ledger", e))?;
    let broken = |e: PaidError| RunError::system("ledger", e);
    let doubted = ledger.doubt_others(owner).await.map_err(broken)?;
    if doubted > 0 {
        tracing::warn!(calls = doubted, "an earlier run ended during paid calls; these calls are now in doubt");
    }
    let kept = Duration::from_secs(u64::from(engine.config.settings.budget.entry_days) * 86_400);
    let oldest = timestamp(engine.clock.now() - i64::try_from(kept.as_micros()).unwrap_or(i64::MAX));
    ledger.forget_before(oldest.get(..10).unwrap_or_default()).await.map_err(broken)?;
    Ok(())
}

/// Returns whether batches or items may exist for a run to process. The result is never false if any exist, but may
/// be true if none exist.
pub async fn has_batches(engine: &Engine) -> Result<bool, RunError> {
    if !engine.has_ledger() || !engine.is_shared() {
        return Ok(engine.has_ledger());
    }
    // The shared tables always exist, so their content is read.
    let broken = |e: &dyn std::fmt::Display| RunError::system("batches", e);
    let batches = engine.batches().map_err(|e| broken(&e))?;
    let used = !batches.collections().await.map_err(|e| broken(&e))?.is_empty();
    Ok(used || !batches.list(1).await.map_err(|e| broken(&e))?.is_empty())
}

/// Resumes documents that wait for vectors that will never arrive, so that the configured model embeds these
/// documents instead. The vectors will never arrive if they come from another model, or if they come from batches and
/// the configured provider has no batches.
pub async fn wake_documents_of_other_models(engine: &Engine, model: &ModelIdentity) -> Result<(), RunError> {
    if !engine.has_ledger() {
        return Ok(());
    }
    let settings = &engine.config.settings;
    let space = Space::texts(model);
    let ours = (settings.embed.options.provider == Provider::Openai).then_some(&space);
    let broken = |e: &dyn std::fmt::Display| RunError::system("batches", e);
    let batches = engine.batches().map_err(|e| broken(&e))?;
    loop {
        let documents = batches.documents_of_other_models(ours, PAGE).await.map_err(|e| broken(&e))?;
        for document in &documents {
            let word = wake_word(document);
            let resumed = retry_while_busy(&settings.retry, || engine.control.resume(Some(&word))).await;
            resumed.map_err(|e| RunError::system("control", control(e)))?;
            batches.taken(document).await.map_err(|e| broken(&e))?;
        }
        if documents.len() < PAGE {
            return Ok(());
        }
    }
}

/// Returns whether the control store records any document as loaded. If files of the collection are left, documents
/// count that are loaded and being replaced. If no file is left, only completed documents count: the others are loaded
/// again anyway.
async fn is_any_loaded(engine: &Engine, has_files: bool) -> Result<bool, RunError> {
    let status = (!has_files).then_some(DocumentStatus::Completed);
    let filter = RecordFilter { status, ..RecordFilter::default() };
    let mut after = None;
    loop {
        let page = records(engine, &filter, after.as_ref()).await?;
        if page.iter().any(|r| r.loaded_version.is_some() && r.status != DocumentStatus::Deleted) {
            return Ok(true);
        }
        if page.len() < PAGE {
            return Ok(false);
        }
        after = page.last().map(|r| r.document_id.clone());
    }
}

/// Checks that the index is not empty if documents are recorded as loaded.
pub async fn check_manifest(engine: &Engine, vectors: &VectorStore) -> Result<(), RunError> {
    let broken = |e| RunError::system("vectors", store(&e));
    if !engine.has_own_index() || vectors.manifest().await.map_err(broken)?.is_some() {
        return Ok(());
    }
    let has_files = vectors.has_files().await.map_err(broken)?;
    if !is_any_loaded(engine, has_files).await? {
        return Ok(());
    }
    let text = format!(
        "the manifest of collection `{}` is missing, but documents are recorded as loaded: restore it from a backup, or \
         run `docweir store verify --repair`, which rebuilds it from the files and loads what is missing again",
        vectors.collection()
    );
    Err(RunError::system("vectors", text))
}

/// Returns a page of control records. Waits while the control store is busy.
async fn records(
    engine: &Engine,
    filter: &RecordFilter,
    after: Option<&DocumentId>,
) -> Result<Vec<ControlRecord>, RunError> {
    let page = retry_while_busy(&engine.config.settings.retry, || engine.control.list(filter, after, PAGE)).await;
    page.map_err(|e| RunError::system("control", control(e)))
}

/// Deletes two kinds of objects that a crashed process leaves behind: quarantine objects that no control record
/// names, and vector files that no manifest lists.
pub async fn sweep(engine: &Engine, vectors: &VectorStore) -> Result<(), RunError> {
    // In a shared index, such a file may belong to a running commit.
    if engine.is_shared() {
        return Ok(());
    }
    let quarantine = engine.quarantine_store();
    let swept = quarantine.sweep(engine.control.as_ref()).await.map_err(|e| RunError::system("quarantine", e))?;
    let broken = |e| RunError::system("vectors", store(&e));
    if vectors.manifest().await.map_err(broken)?.is_none() {
        vectors.begin_if_staged().await.map_err(broken)?;
    }
    // Other processes that work on the collection restart their commit or merge.
    let orphans = match vectors.has_orphans().await.map_err(broken)? {
        true => vectors.collect(CollectionScope::Orphans).await.map_err(broken)?.deleted.len() as u64,
        false => 0,
    };
    if swept + orphans > 0 {
        tracing::info!(quarantine = swept, vector_files = orphans, "deleted leftovers of an interrupted run");
    }
    Ok(())
}
