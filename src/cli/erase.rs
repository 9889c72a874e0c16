//! Implements `docweir erase`, which removes documents from the index, its earlier versions and every cache.
//!
//! A second look verifies each deletion, except that of a cache that is deleted as a whole. The report names what was
//! verified, and the copies that the command cannot see, such as backups.

use std::collections::HashSet;

use docweir_core::cache::Forget;
use docweir_core::documents::{DocumentId, Sha256Hex};
use docweir_core::error::StageError;
use docweir_index::CollectionScope;
use docweir_index::compaction::Mode;
use docweir_objects::{ObjectError, ObjectStore};
use docweir_stages::chunk::artefact::{self, chunks_key, enriched_key};
use docweir_stages::enrich::comprehend::texts_of;
use docweir_stores::batches::Batches;
use docweir_stores::control::{ControlRecord, DocumentStatus};

use super::args;
use super::compact::compact;
use super::context::Context;
use super::delete;
use super::documents::{contained, find};
use super::erase_report::Erased;
use super::output::plural;
use crate::engine::{Engine, fingerprint};
use crate::exit::{Exit, Failure};

/// Maximum number of attempts to rewrite the vector files without the erased rows. An attempt fails if another
/// process changes the vector files meanwhile.
const ATTEMPTS: usize = 5;

pub fn run(context: &Context, args: &args::Erase) -> Result<Exit, Failure> {
    context.with_actors(async {
        let engine = Engine::open(context.config()?).await?;
        let mut records: Vec<ControlRecord> = Vec::new();
        for name in &args.documents {
            records.push(find(engine.control.as_ref(), name, &context.here).await?);
        }
        let mut known_ids: HashSet<DocumentId> = records.iter().map(|r| r.document_id.clone()).collect();
        for parent in records.clone() {
            let contained = contained(engine.control.as_ref(), &parent).await?;
            records.extend(contained.into_iter().filter(|child| known_ids.insert(child.document_id.clone())));
        }
        let vectors = engine.vectors()?;
        // Read the texts before the deletion: they are the keys of the cache.
        let ids: Vec<DocumentId> = records.iter().map(|r| r.document_id.clone()).collect();
        let texts = vectors.texts_of(&ids).await?;
        // Files of earlier versions may be gone while their vectors are still cached under texts that are no longer
        // known. The same holds for a version that was never loaded. In both cases the whole cache is deleted, and
        // other documents are embedded, and charged, again.
        let known = records.iter().all(|r| r.version == 1 && r.status == DocumentStatus::Completed);
        let forget = match known {
            true => Forget::Texts(texts.iter().map(|text| Sha256Hex::of(text.as_bytes())).collect()),
            false => Forget::Everything,
        };
        let findings = match engine.state.findings_cache_db().exists() {
            true => Some(asked_about(&engine, &records, known).await?),
            false => None,
        };
        let left = delete::documents(context, &engine, &records).await?;
        if left > 0 {
            let count = plural(left, "document");
            return Err(Failure::new(Exit::Busy, format!("{count} not deleted yet; run `docweir erase` again later")));
        }
        // First merge the rows out of the files, then delete the old files, so that no earlier version stays
        // reachable. Other processes may supersede the merge; it is then repeated.
        let (mut deleted, mut listed) = (0, false);
        for _ in 0..ATTEMPTS {
            let compacted = compact(&engine, Mode::All).await?;
            if compacted.busy {
                let text = "another process is merging files of this collection; run `docweir erase` again afterwards";
                return Err(Failure::new(Exit::Busy, text));
            }
            let collected = vectors.collect(CollectionScope::All).await?;
            deleted += collected.deleted.len() as u64;
            if collected.pinned > 0 {
                let text = "a reader still uses an earlier version; run `docweir erase` again later";
                return Err(Failure::new(Exit::Busy, text));
            }
            if let Some(key) = collected.unreadable.first() {
                let text =
                    format!("unrecognised object `{key}` may still contain the text; inspect it, then delete it");
                return Err(Failure::system(text));
            }
            listed = !vectors.has_orphans().await?;
            if listed && vectors.texts_of(&ids).await?.is_empty() {
                break;
            }
        }
        if !vectors.texts_of(&ids).await?.is_empty() {
            let text = "rows of the documents are still stored, because another process changed the collection or a \
                        vector file is too large to be merged; raise `copies.max_bytes` if the collection is larger, \
                        and run `docweir erase` again";
            return Err(Failure::new(Exit::Busy, text));
        }
        if !listed {
            let text = "vector files that no version of the collection lists may hold texts of the documents, because \
                        another process writes to the collection; run `docweir erase` again";
            return Err(Failure::new(Exit::Busy, text));
        }
        // The deletion of artefacts does not survive a power loss, so repeat it, and wait until it is on the disk.
        for prefix in ids.iter().flat_map(prefixes) {
            docweir_objects::delete_prefix(engine.objects.as_ref(), &prefix).await?;
        }
        engine.objects.forget_deleted().await?;
        nothing_left(engine.objects.as_ref(), &ids).await?;
        let versions = delete_versions(engine.objects.as_ref(), &ids).await?;
        let cache = engine.cache();
        let vectors = forget_in(async |entries| cache.forget(entries).await, forget).await?;
        let findings = match findings {
            Some(findings) => {
                let cache = engine.findings_cache();
                Some(forget_in(async |entries| cache.forget(entries).await, findings).await?)
            }
            None => None,
        };
        let open_batches = match engine.has_ledger() {
            true => Some(without_texts(engine.batches()?.as_ref()).await?),
            false => None,
        };
        let erased = Erased { files: deleted, vectors, texts_known: known, findings, versions, open_batches };
        let lines = erased.lines(&records, &engine.config.settings, &context.here, &context.out);
        lines.iter().for_each(|line| context.out.line(line));
        Ok(Exit::Success)
    })
}

/// Removes deleted texts from the log of the store of batches. Returns the number of open batches, which may still hold
/// texts.
async fn without_texts(batches: &dyn Batches) -> Result<u64, Failure> {
    batches.purge_log().await?;
    Ok(batches.open().await?.len() as u64)
}

/// Returns the prefixes of all objects that belong to one document.
fn prefixes(id: &DocumentId) -> Vec<String> {
    let mut prefixes = vec![format!("extracted/{id}/"), format!("errors/{id}/"), format!("input/_quarantine/{id}/")];
    prefixes.extend(["chunks", "enriched", "embeddings"].map(|stage| format!("{stage}/{id}_")));
    prefixes
}

/// Checks that no object of the documents is left.
async fn nothing_left(objects: &dyn ObjectStore, ids: &[DocumentId]) -> Result<(), Failure> {
    for prefix in ids.iter().flat_map(prefixes) {
        if let Some(left) = objects.list(&prefix, None, 1).await?.first() {
            let text = format!("object `{}` is still there; run `docweir erase` again", left.key);
            return Err(Failure::new(Exit::Busy, text));
        }
    }
    Ok(())
}

/// Deletes the noncurrent versions of the objects that held texts of the documents. In a versioned bucket, deleted
/// objects stay readable as such versions. Vector files and requests of batches hold texts of several documents, so all
/// their noncurrent versions are deleted. Returns the number of deleted versions, or `None` if the store keeps none.
async fn delete_versions(objects: &dyn ObjectStore, ids: &[DocumentId]) -> Result<Option<u64>, Failure> {
    let failed = |error: ObjectError| {
        let hint = "texts of the documents may still be readable as noncurrent versions of objects; allow \
                    s3:GetBucketVersioning, s3:ListBucketVersions and s3:DeleteObjectVersion (`docweir infra policy \
                    --role serve`), and run `docweir erase` again";
        Failure::system(format!("{error}; {hint}"))
    };
    if !objects.is_versioned().await.map_err(failed)? {
        return Ok(None);
    }
    let mut deleted = 0;
    let shared = ["vectors/".to_owned(), "batches/".to_owned()];
    for prefix in shared.into_iter().chain(ids.iter().flat_map(prefixes)) {
        deleted += objects.delete_noncurrent(&prefix).await.map_err(failed)?;
    }
    // Other processes may delete vector files meanwhile, so only the objects of the documents are verified.
    for prefix in ids.iter().flat_map(prefixes) {
        if objects.delete_noncurrent(&prefix).await.map_err(failed)? > 0 {
            let text = format!("`{prefix}` got new noncurrent versions during the command; run `docweir erase` again");
            return Err(Failure::new(Exit::Busy, text));
        }
    }
    Ok(Some(deleted))
}

/// Deletes entries of a cache of this machine, and verifies it by a second deletion. Returns the number of deleted
/// entries.
async fn forget_in(cache: impl AsyncFn(Forget) -> Result<u64, StageError>, entries: Forget) -> Result<u64, Failure> {
    let failed = |e: StageError| Failure::system(e.to_string());
    let deleted = cache(entries.clone()).await.map_err(failed)?;
    // A run that embeds other documents may refill the cache if all of it was deleted.
    if matches!(entries, Forget::Texts(_)) && cache(entries).await.map_err(failed)? > 0 {
        let text = "another process cached texts of the documents again; run `docweir erase` again";
        return Err(Failure::new(Exit::Busy, text));
    }
    Ok(deleted)
}

/// Selects the cached findings to delete for the given documents. The cache stores each finding under the hash of the
/// text that was sent to a service. If the artefacts of all given documents were produced with the current
/// configuration, the sent texts are computed again and only the findings for the sent texts are selected. Otherwise,
/// the sent texts are unknown and all findings are selected.
async fn asked_about(engine: &Engine, records: &[ControlRecord], known: bool) -> Result<Forget, Failure> {
    let settings = &engine.config.settings;
    let manifest = engine.vectors()?.manifest().await?;
    let Some(model) = manifest.as_ref().and_then(|m| m.model()).filter(|_| known) else {
        return Ok(Forget::Everything);
    };
    let today = fingerprint(settings, model);
    let mut texts = Vec::new();
    for record in records {
        // Passages are sent both as they were and as they were after redaction.
        for key in [chunks_key(&record.document_id), enriched_key(&record.document_id)] {
            let artefact = match engine.objects.get(&key).await {
                Ok((body, _)) if record.fingerprint == today => artefact::from_json(&body).ok(),
                _ => None,
            };
            let Some(chunks) = artefact else { return Ok(Forget::Everything) };
            let asked = texts_of(&chunks, &settings.enrich.options);
            texts.extend(asked.iter().map(|text| Sha256Hex::of(text.as_bytes())));
        }
    }
    Ok(Forget::Texts(texts))
}
