//! Stores the artefact of each stage, and loads artefacts to resume a document after a crash.
//!
//! Artefacts are written without a sync, because they can be rebuilt. The control record holds the hash of each
//! artefact. An artefact that a power loss damaged is therefore detected, and its stage runs again. The object keys are
//! the same as in the system that Docweir replaces, unless the pages of a document are packed into one object. A newer
//! version of a document overwrites the artefacts of the older version. A process with an older claim never overwrites
//! the artefacts of a process with a newer claim ([`Fence`]).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use bytes::Bytes;
use docweir_core::cancel::Cancel;
use docweir_core::clock::UnixMicros;
use docweir_core::documents::{DocumentId, Sha256Hex, Stage};
use docweir_core::error::{ErrorClass, StageError};
use docweir_core::model::{Chunks, EmbeddedDocument, ExtractedDocument, ModelIdentity};
use docweir_extract as extract;
use docweir_objects::{Durability, ObjectStore, Pages};
use docweir_stages::{chunk, embed};
use docweir_stores::control::{Claim, ClaimKey, Intent, StageMetrics, StageOutput};
use serde::Deserialize;
use sha2::{Digest, Sha256};

use crate::actors::fence::Fence;
use crate::actors::outcomes::storage;
use crate::messages::job::Input;

/// Reads and writes the artefacts of documents.
pub struct Artefacts {
    objects: Arc<dyn ObjectStore>,
    /// Fence that refuses the writes of a process whose claim is no longer valid. `None` if no other process can take
    /// over documents.
    fence: Option<Fence>,
    /// If true, personal data is redacted, and artefacts that were written before the redaction are deleted.
    redacts: bool,
    /// If true, all pages of a document are stored in one object, with the metadata.
    packs_pages: bool,
    /// Chunking options, which are written to the metadata of artefacts.
    pub chunking: chunk::ChunkOptions,
    /// Embedding model, which is written to the metadata of artefacts.
    pub model: ModelIdentity,
}

impl Artefacts {
    pub fn new(objects: Arc<dyn ObjectStore>, chunking: chunk::ChunkOptions, model: ModelIdentity) -> Self {
        Self { objects, fence: None, redacts: false, packs_pages: false, chunking, model }
    }

    pub fn fenced(self, fence: Option<Fence>) -> Self {
        Self { fence, ..self }
    }

    /// Sets whether personal data is redacted.
    pub fn redacting(self, redacts: bool) -> Self {
        Self { redacts, ..self }
    }

    /// Sets whether all pages of a document are stored in one object.
    pub fn packing_pages(self, packs_pages: bool) -> Self {
        Self { packs_pages, ..self }
    }

    /// Deletes the artefacts that still contain the unredacted text, if personal data is redacted. If a later retry
    /// needs a deleted artefact, processing starts again from the document's original file.
    pub async fn forget_unredacted(&self, claim: &Claim) -> Result<(), StageError> {
        // The claim is not checked. If another process has taken over the document, that process holds its input in
        // memory, and a later resume starts from the original.
        if self.redacts { delete_unredacted(self.objects.as_ref(), &claim.key.id).await } else { Ok(()) }
    }

    /// Stores what a stage made from a document. Stores nothing if `cancel` is cancelled: the document may have been
    /// deleted since.
    pub async fn put_extracted(
        &self,
        claim: &Claim,
        document: &ExtractedDocument,
        cancel: &Cancel,
    ) -> Result<StageOutput, StageError> {
        let id = &claim.key.id;
        let objects = extract::to_objects(document, id, claim.key.version);
        cancel.check()?;
        if claim.key.version > 1 {
            // A deletion cannot be conditional, so the claim is checked first.
            if let Some(fence) = &self.fence {
                fence.demand(&claim.key).await?;
            }
            self.delete_leftovers(id, document.pages.len()).await?;
        }
        if self.packs_pages {
            return self.put_one(&claim.key, packed_key(id), pack(id, &objects), cancel).await;
        }
        let key = metadata_key(id);
        let sha256 = digest(objects.iter().map(|(key, body)| (key.as_str(), body.as_slice())));
        let objects = objects.into_iter().map(|(key, body)| (key, Bytes::from(body))).collect();
        self.put_all(&claim.key, objects, cancel).await?;
        Ok(StageOutput { key, sha256 })
    }

    pub async fn put_chunks(
        &self,
        claim: &Claim,
        chunks: &Chunks,
        at: UnixMicros,
        cancel: &Cancel,
    ) -> Result<StageOutput, StageError> {
        let body = chunk::artefact::to_json(chunks, &self.header(claim, at))?;
        self.put_one(&claim.key, chunk::artefact::chunks_key(&claim.key.id), body, cancel).await
    }

    pub async fn put_enriched(
        &self,
        claim: &Claim,
        chunks: &Chunks,
        statistics: &StageMetrics,
        at: UnixMicros,
        cancel: &Cancel,
    ) -> Result<StageOutput, StageError> {
        let body = chunk::artefact::to_enriched_json(chunks, &self.header(claim, at), statistics)?;
        self.put_one(&claim.key, chunk::artefact::enriched_key(&claim.key.id), body, cancel).await
    }

    pub async fn put_embedded(
        &self,
        claim: &Claim,
        document: &EmbeddedDocument,
        at: UnixMicros,
        cancel: &Cancel,
    ) -> Result<StageOutput, StageError> {
        let body = embed::artefact::to_json(document, &claim.key.id, claim.key.version, &self.model, at)?;
        self.put_one(&claim.key, embed::artefact::key(&claim.key.id), body, cancel).await
    }

    /// Returns the input of the first unfinished stage. If the artefact with this input is missing, damaged or
    /// archived, returns the input of an earlier stage, which then rebuilds the artefact. An artefact that cannot be
    /// read because of an outage is not given up, because its embeddings may be paid for, unless `give_up` is true.
    pub async fn resume(&self, claim: &Claim, give_up: bool) -> Result<Input, StageError> {
        if claim.intent == Intent::Delete {
            return Ok(Input::Removal);
        }
        let done = Stage::ALL.iter().copied().take_while(|s| *s < claim.stage);
        for stage in done.collect::<Vec<_>>().into_iter().rev() {
            let Some(output) = claim.outputs.get(&stage) else { continue };
            match self.load(stage, output, claim).await {
                Ok(input) => return Ok(input),
                Err(error) if error.class == ErrorClass::System => return Err(error),
                Err(error) if error.class == ErrorClass::Unavailable && !give_up => return Err(error),
                Err(error) => {
                    tracing::warn!(artefact = stage.name(), %error, "artefact unusable; the stage runs again");
                }
            }
        }
        Ok(Input::Original)
    }

    /// Deletes all artefacts of a deleted document.
    pub async fn purge(&self, id: &DocumentId) -> Result<(), StageError> {
        delete_unredacted(self.objects.as_ref(), id).await?;
        for key in [chunk::artefact::enriched_key(id), embed::artefact::key(id)] {
            self.objects.delete(&key).await.map_err(storage)?;
        }
        Ok(())
    }

    async fn load(&self, stage: Stage, output: &StageOutput, claim: &Claim) -> Result<Input, StageError> {
        if stage == Stage::Extraction {
            return self.load_extracted(output, &claim.key.id).await;
        }
        let (body, _) = self.objects.get(&output.key).await.map_err(storage)?;
        whole(&output.sha256, digest([(output.key.as_str(), body.as_ref())].into_iter()))?;
        match stage {
            Stage::Chunking => Ok(Input::Chunks(Arc::new(chunk::artefact::from_json(&body)?))),
            Stage::Enrichment => Ok(Input::Enriched(Arc::new(chunk::artefact::from_json(&body)?))),
            _ => Ok(Input::Embedded(Arc::new(embed::artefact::from_json(&body)?))),
        }
    }

    async fn load_extracted(&self, output: &StageOutput, id: &DocumentId) -> Result<Input, StageError> {
        let (metadata, _) = self.objects.get(&output.key).await.map_err(storage)?;
        if output.key == packed_key(id) {
            whole(&output.sha256, digest([(output.key.as_str(), metadata.as_ref())].into_iter()))?;
            let files: HashMap<String, String> = serde_json::from_slice(&metadata).map_err(unreadable)?;
            let file = |key: &str| files.get(key.strip_prefix(&folder(id))?).map(|text| text.clone().into_bytes());
            let (document, _) = extract::from_objects(id, file).map_err(unreadable)?;
            return Ok(Input::Extracted(Arc::new(document)));
        }
        let index: PageIndex = serde_json::from_slice(&metadata).map_err(unreadable)?;
        // The objects are listed in the order in which they were hashed: pages first, then metadata.
        let mut objects = Vec::with_capacity(index.pages.len() + 1);
        for page in index.pages {
            let key = format!("extracted/{id}/{}", page.file);
            let (body, _) = self.objects.get(&key).await.map_err(storage)?;
            objects.push((key, body));
        }
        objects.push((output.key.clone(), metadata));
        whole(&output.sha256, digest(objects.iter().map(|(key, body)| (key.as_str(), body.as_ref()))))?;
        let objects: HashMap<String, Bytes> = objects.into_iter().collect();
        let (document, _) =
            extract::from_objects(id, |key| objects.get(key).map(|b| b.to_vec())).map_err(unreadable)?;
        Ok(Input::Extracted(Arc::new(document)))
    }

    fn header<'a>(&'a self, claim: &'a Claim, at: UnixMicros) -> chunk::artefact::Header<'a> {
        chunk::artefact::Header {
            document: &claim.key.id,
            version: claim.key.version,
            source: &claim.source,
            s3_uri: claim.source.starts_with("s3://").then_some(claim.source.as_str()),
            at,
            options: &self.chunking,
        }
    }

    async fn put_one(
        &self,
        claim: &ClaimKey,
        key: String,
        body: Vec<u8>,
        cancel: &Cancel,
    ) -> Result<StageOutput, StageError> {
        let sha256 = digest([(key.as_str(), body.as_slice())].into_iter());
        self.put_all(claim, vec![(key.clone(), Bytes::from(body))], cancel).await?;
        Ok(StageOutput { key, sha256 })
    }

    async fn put_all(
        &self,
        claim: &ClaimKey,
        objects: Vec<(String, Bytes)>,
        cancel: &Cancel,
    ) -> Result<(), StageError> {
        // An aborted attempt ends at its next wait only, and making the objects may have taken long.
        cancel.check()?;
        match &self.fence {
            Some(fence) => fence.put_all(claim, objects).await,
            None => self.objects.put_all(objects, Durability::Rebuildable).await.map_err(storage),
        }
    }

    /// Returns whether the claim is still valid. Always returns `true` if no other process can take over documents.
    pub async fn are_ours(&self, claim: &ClaimKey) -> Result<bool, StageError> {
        match &self.fence {
            Some(fence) => fence.holds(claim).await,
            None => Ok(true),
        }
    }

    /// Deletes the objects that a new version with `pages` pages does not overwrite. They remain if an earlier version
    /// of the document had more pages, or if it was stored in the other layout.
    async fn delete_leftovers(&self, id: &DocumentId, pages: usize) -> Result<(), StageError> {
        let (other, pages) = if self.packs_pages { (metadata_key(id), 0) } else { (packed_key(id), pages) };
        let mut listed = Pages::new(self.objects.as_ref(), folder(id));
        while let Some(page) = listed.next().await.map_err(storage)? {
            for object in page {
                let number = object.key.rsplit_once("page_").and_then(|(_, n)| n.strip_suffix(".md")?.parse().ok());
                if object.key == other || number.is_some_and(|n: usize| n > pages) {
                    self.objects.delete(&object.key).await.map_err(storage)?;
                }
            }
        }
        Ok(())
    }
}

/// Deletes the artefacts of a document that contain its text before redaction.
pub async fn delete_unredacted(objects: &dyn ObjectStore, id: &DocumentId) -> Result<(), StageError> {
    docweir_objects::delete_prefix(objects, &format!("extracted/{id}/")).await.map_err(storage)?;
    objects.delete(&chunk::artefact::chunks_key(id)).await.map_err(storage)
}

/// Lists the page files of one extraction artefact.
#[derive(Deserialize)]
struct PageIndex {
    pages: Vec<PageFile>,
}

#[derive(Deserialize)]
struct PageFile {
    file: String,
}

/// Returns the prefix of the keys of a document's extraction artefact.
fn folder(id: &DocumentId) -> String {
    format!("extracted/{id}/")
}

fn metadata_key(id: &DocumentId) -> String {
    format!("{}metadata.json", folder(id))
}

/// Returns the key of the object with all pages and the metadata.
fn packed_key(id: &DocumentId) -> String {
    format!("{}pages.json", folder(id))
}

/// Writes the objects of an extraction artefact as one JSON object. Its keys are the names of the files below the
/// document's prefix, and its values are their texts.
fn pack(id: &DocumentId, objects: &[(String, Vec<u8>)]) -> Vec<u8> {
    let name = |key: &str| key.strip_prefix(&folder(id)).unwrap_or(key).to_owned();
    let files: BTreeMap<String, String> =
        objects.iter().map(|(key, body)| (name(key), String::from_utf8_lossy(body).into_owned())).collect();
    // The value has only strings, so serialising can't fail.
    serde_json::to_vec(&files).unwrap_or_default()
}

/// Returns one hash over the keys, lengths and bytes of several objects. The lengths mark where each object ends, so
/// two different sets of objects never yield the same input to the hash.
fn digest<'a>(objects: impl Iterator<Item = (&'a str, &'a [u8])>) -> Sha256Hex {
    let mut hasher = Sha256::new();
    for (key, body) in objects {
        hasher.update(key.as_bytes());
        hasher.update([0]);
        hasher.update((body.len() as u64).to_le_bytes());
        hasher.update(body);
    }
    Sha256Hex::from_digest(&hasher.finalize())
}

fn whole(expected: &Sha256Hex, found: Sha256Hex) -> Result<(), StageError> {
    if *expected == found {
        return Ok(());
    }
    Err(StageError::transient("artefact_changed", "the artefact does not match the hash in the control record"))
}

fn unreadable(error: impl std::error::Error + 'static) -> StageError {
    StageError::transient("artefact_unreadable", "the artefact can't be read").caused_by(&error)
}

#[cfg(test)]
#[path = "artefacts_tests.rs"]
mod tests;
