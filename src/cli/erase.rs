//! Implements `docweir erase`, which removes documents from the index, its earlier versions and every cache.

use std::collections::HashSet;

use docweir_core::cache::Forget;
use docweir_core::documents::{DocumentId, Sha256Hex};
use docweir_index::CollectionScope;
use docweir_index::compaction::Mode;
use docweir_objects::{ObjectError, ObjectStore};
use docweir_stages::chunk::artefact::{self, chunks_key, enriched_key};
use docweir_stages::enrich::comprehend::texts_of;
use docweir_stores::control::{ControlRecord, DocumentStatus};

use super::args;
use super::compact::compact;
use super::context::Context;
use super::delete;
use super::documents::{contained, find};
use super::output::plural;
use crate::engine::{Engine, fingerprint};
use crate::exit::{Exit, Failure};
use crate::intake::source;

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
        let mut deleted = 0;
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
            if vectors.texts_of(&ids).await?.is_empty() && !vectors.has_orphans().await? {
                break;
            }
        }
        if !vectors.texts_of(&ids).await?.is_empty() {
            let text = "rows of the documents are still stored, because another process changed the collection or a \
                        vector file is too large to be merged; raise `copies.max_bytes` if the collection is larger, \
                        and run `docweir erase` again";
            return Err(Failure::new(Exit::Busy, text));
        }
        let versions = delete_versions(engine.objects.as_ref(), &ids).await?;
        let cached = engine.cache().forget(forget).await.map_err(|e| Failure::system(e.to_string()))?;
        if let Some(findings) = findings {
            engine.findings_cache().forget(findings).await.map_err(|e| Failure::system(e.to_string()))?;
        }
        for record in &records {
            context.out.line(format!("erased: {}", source::display(&record.source, &context.here)));
        }
        context.out.line(format!(
            "no earlier version of the index is kept: {} deleted, {} deleted from the cache{}",
            plural(deleted, "file"),
            plural(cached, "vector"),
            if known { "" } else { " (all, because the texts of earlier versions are unknown)" },
        ));
        if versions > 0 {
            let versions = plural(versions, "noncurrent version");
            context.out.line(format!("{versions} of objects deleted from the versioned bucket"));
        }
        Ok(Exit::Success)
    })
}

/// Deletes the noncurrent versions of the objects that held texts of the documents. In a versioned bucket, deleted objects
/// stay readable as such versions. Vector files and requests of batches hold texts of several documents, so all their
/// noncurrent versions are deleted. Returns the number of deleted versions.
async fn delete_versions(objects: &dyn ObjectStore, ids: &[DocumentId]) -> Result<u64, Failure> {
    let failed = |error: ObjectError| {
        let hint = "texts of the documents may still be readable as noncurrent versions of objects; allow \
                    s3:GetBucketVersioning, s3:ListBucketVersions and s3:DeleteObjectVersion (`docweir infra policy \
                    --role serve`), and run `docweir erase` again";
        Failure::system(format!("{error}; {hint}"))
    };
    if !objects.is_versioned().await.map_err(failed)? {
        return Ok(0);
    }
    let mut prefixes = vec!["vectors/".to_owned(), "batches/".to_owned()];
    for id in ids {
        prefixes.push(format!("extracted/{id}/"));
        prefixes.extend(["chunks", "enriched", "embeddings"].map(|stage| format!("{stage}/{id}_")));
        prefixes.extend([format!("errors/{id}/"), format!("input/_quarantine/{id}/")]);
    }
    let mut deleted = 0;
    for prefix in prefixes {
        deleted += objects.delete_noncurrent(&prefix).await.map_err(failed)?;
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
