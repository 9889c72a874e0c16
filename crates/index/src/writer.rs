//! The commit: stage a delta, swing the manifest, know for certain what became of it.
//!
//! ```text
//! load ─▶ (is it still wanted?) ─▶ check the model ─▶ stage delta/<ulid> ─▶ validate ─▶ swap ─▶ done
//!                                                     ▲          │ conflict or unknown
//!                                                     └─ load ◀──┘
//! ```
//! One writer a process commits one group after the other, so its sequence numbers can't land out of order. A number
//! is taken before the first wait and never given to other content. A commit that is dropped at any wait leaves
//! either the whole commit or an orphan delta that a collector removes; the next commit does not care which.
//!
//! A commit that finds the floor above its base is *not* staged anew by itself: the floor says that tombstones of that
//! time may be gone, so only the caller, who can ask the control store whether the documents are still wanted at
//! these versions, may begin again ([`VectorError::Stalled`]).

use std::sync::Arc;

use bytes::Bytes;
use docweir_core::clock::timestamp;
use docweir_core::model::ModelIdentity;
use docweir_objects::{ObjectError, Tag, write_failure};

use super::VectorStore;
use super::delta::{self, DeltaHeader};
use super::error::{VectorError, describe};
use super::manifest::{FileKind, LiveFile, Manifest, ManifestVersion};
use super::register::Swap;
use super::retry::{Retries, blocking, passing, ulid};
use super::validate::{self, Append, Refusal, Resolution, Stamp};
use docweir_target::{Write, gather};

/// Commits in the name of one writer. Not `Clone`: the sequence number has one owner.
pub struct CollectionWriter {
    store: Arc<VectorStore>,
    id: String,
    sequence: u64,
    random: fastrand::Rng,
}

/// The state that a commit is based on.
pub struct Base((Manifest, Option<Tag>));

/// A commit that is in the manifest.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// The manifest version that it came in with.
    pub version: ManifestVersion,
    /// Below the collection's prefix.
    pub file: String,
    pub documents: u64,
    pub tombstones: u64,
    pub rows: u64,
    /// Size of the file.
    pub bytes: u64,
    /// Times that the manifest was tried, 1 at least.
    pub attempts: u32,
}

impl CollectionWriter {
    pub(super) fn new(store: Arc<VectorStore>, mut random: fastrand::Rng) -> Self {
        let id = ulid(&store, &mut random);
        Self { store, id, sequence: 0, random }
    }

    /// Unique to this writer's life.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Makes all writes visible in one step, or none of them. Several writes of one document count as the one with
    /// the highest version. Safe to drop at any wait. After [`VectorError::Unresolved`] the same writes may be
    /// committed again: the same version of a document is never shown twice.
    ///
    /// For a caller that needs no leave from anybody to write what it writes; others [`begin`](CollectionWriter::begin) first.
    pub async fn commit(&mut self, writes: Vec<Write>, model: &ModelIdentity) -> Result<Committed, VectorError> {
        let base = self.begin().await?;
        self.commit_on(base, writes, model).await
    }

    /// What a commit will be based on. Whoever writes a document by leave of the control store makes sure *after* this,
    /// and before [`commit_on`](CollectionWriter::commit_on), that the leave still holds. A tombstone that supersedes the document
    /// is then either seen by the control store, or is newer than the base; and as long as this base may commit, no
    /// merge leaves such a tombstone out. The other way round a writer that was stopped in between could bring back a
    /// document of which not even the tombstone is left.
    pub async fn begin(&mut self) -> Result<Base, VectorError> {
        let mut retries = Retries::new(&self.store.clone());
        self.load(&mut retries).await.map(Base)
    }

    /// [`commit`](CollectionWriter::commit), on a base that was taken before.
    pub async fn commit_on(
        &mut self,
        base: Base,
        writes: Vec<Write>,
        model: &ModelIdentity,
    ) -> Result<Committed, VectorError> {
        let committed = self.add(base, writes, model).await?;
        if let Some(added) = &self.store.added {
            added(&self.store.collection, &committed);
        }
        Ok(committed)
    }

    async fn add(
        &mut self,
        Base(mut state): Base,
        writes: Vec<Write>,
        model: &ModelIdentity,
    ) -> Result<Committed, VectorError> {
        let store = self.store.clone();
        let writes = gather(writes, model, &store.options.capabilities())?;
        self.sequence += 1;
        let commit_id = ulid(&store, &mut self.random);
        let mut retries = Retries::new(&store);

        let (append, body) = self.prepare(&state.0, &writes, model, commit_id)?;
        self.stage(&append.file.file, body, &mut retries).await?;
        docweir_core::failpoint::reach("commit.staged", "");

        // The state from before the staging is as good as a fresh one: the swap is conditional on it.
        let attempts = store.options.commit_attempts;
        let mut unsure = false;
        for attempt in 1..=attempts {
            if attempt > 1 {
                retries.wait(&store, &mut self.random).await;
                state = self.load(&mut retries).await?;
            }
            let (manifest, tag) = &state;
            match validate::resolve_unknown(manifest, &append) {
                Resolution::Committed { version } => return Ok(committed(&append.file, version, attempt)),
                Resolution::Overtaken => return Err(self.stalled(manifest, &append)),
                Resolution::NotCommitted => {}
            }
            let stamp = Stamp { now: store.clock.now(), history_entries: store.options.history_entries };
            let next = validate::may_append(manifest, &append, stamp).map_err(|r| self.refused(r, &append))?;
            match store.register.swap(tag.as_ref(), &next).await? {
                Swap::Done => return Ok(committed(&append.file, next.version, attempt)),
                // A conflict tells nothing of an earlier try that is still under way.
                Swap::Conflict => {}
                Swap::Unknown => unsure = true,
            }
        }
        let (manifest, _) = self.load(&mut retries).await?;
        match validate::resolve_unknown(&manifest, &append) {
            Resolution::Committed { version } => Ok(committed(&append.file, version, attempts)),
            Resolution::Overtaken => Err(self.stalled(&manifest, &append)),
            Resolution::NotCommitted if unsure => {
                Err(VectorError::Unresolved { collection: store.collection.clone(), attempts })
            }
            Resolution::NotCommitted => Err(VectorError::Contention { collection: store.collection.clone(), attempts }),
        }
    }

    /// What is there now. A collection without a manifest is an empty one.
    async fn load(&mut self, retries: &mut Retries) -> Result<(Manifest, Option<Tag>), VectorError> {
        let store = self.store.clone();
        loop {
            match store.register.load().await {
                Ok(Some((manifest, tag))) => return Ok((manifest, Some(tag))),
                Ok(None) => return Ok((Manifest::empty(&store.collection, store.clock.now()), None)),
                Err(VectorError::Object(e)) if passing(&e) && retries.may_retry() => {
                    retries.wait(&store, &mut self.random).await;
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// The delta as bytes and as the manifest will list it. The model is looked at before anything is written.
    fn prepare(
        &mut self,
        manifest: &Manifest,
        writes: &[Write],
        model: &ModelIdentity,
        commit_id: String,
    ) -> Result<(Append, Bytes), VectorError> {
        let store = &self.store;
        let with_vectors = writes.iter().any(|w| !w.rows().is_empty());
        if with_vectors {
            store.may_mix(manifest, model)?;
        }
        // Deletes fit every model: their file is declared as one of the model that is there.
        let model = manifest.model().unwrap_or(model).clone();
        let header = DeltaHeader {
            format: delta::FORMAT,
            collection: store.collection.clone(),
            generation: manifest.generation,
            model: model.clone(),
            base_version: manifest.version,
            writer: self.id.clone(),
            sequence: self.sequence,
            commit_id: commit_id.clone(),
            created_at: timestamp(store.clock.now()),
        };
        let body = delta::encode(&header, writes)?;
        let name = format!("delta/{}.parquet", ulid(store, &mut self.random));
        let tombstones = writes.iter().filter(|w| matches!(w, Write::Delete { .. })).count() as u64;
        let file = LiveFile {
            rows: writes.iter().map(|w| w.rows().len() as u64).sum(),
            documents: writes.len() as u64 - tombstones,
            tombstones,
            bytes: body.len() as u64,
            crc32: crc32fast::hash(&body),
            ..validate::proposed(name, FileKind::Delta, manifest.generation, manifest.version)
        };
        let model = with_vectors.then_some(model);
        Ok((Append { file, model, writer: self.id.clone(), sequence: self.sequence, commit_id }, body))
    }

    /// Durable before the manifest may name it.
    async fn stage(&mut self, file: &str, body: Bytes, retries: &mut Retries) -> Result<(), VectorError> {
        let store = self.store.clone();
        let key = store.key(file);
        loop {
            // The name is this commit's alone, so writing it again writes the same bytes.
            match write_object(&store, &key, body.clone()).await {
                Ok(()) => return Ok(()),
                Err(e) if passing(&e) && retries.may_retry() => retries.wait(&store, &mut self.random).await,
                Err(e) => return Err(e.into()),
            }
        }
    }

    fn stalled(&self, manifest: &Manifest, append: &Append) -> VectorError {
        let (base, floor) = (append.file.base_version, manifest.gc_floor);
        VectorError::Stalled { collection: self.store.collection.clone(), base, floor }
    }

    fn refused(&self, refusal: Refusal, append: &Append) -> VectorError {
        let collection = self.store.collection.clone();
        match refusal {
            Refusal::OtherModel { stored, given } => {
                VectorError::ModelMismatch { collection, stored: describe(&stored), given: describe(&given) }
            }
            Refusal::BelowFloor { base, floor } => VectorError::Stalled { collection, base, floor },
            // A new generation, or a manifest restored from an older backup: what was staged is not for it.
            Refusal::OtherGeneration { .. } | Refusal::FromTheFuture { .. } => {
                VectorError::Stalled { collection, base: append.file.base_version, floor: append.file.base_version }
            }
            other => VectorError::BadManifest {
                key: self.store.manifest_key(),
                reason: format!("commit {} of writer {} was refused: {other:?}", append.sequence, append.writer),
            },
        }
    }
}

/// As an upload: nobody needs the tag that a put would make of the whole body.
async fn write_object(store: &VectorStore, key: &str, body: Bytes) -> Result<(), ObjectError> {
    let mut upload = store.objects.create(key).await?;
    let (upload, written) = blocking(move || {
        let written = upload.write_all(&body);
        (upload, written)
    })
    .await;
    written.map_err(|e| write_failure(key, &e))?;
    upload.finish().await
}

fn committed(file: &LiveFile, version: ManifestVersion, attempts: u32) -> Committed {
    Committed {
        version,
        file: file.file.clone(),
        documents: file.documents,
        tombstones: file.tombstones,
        rows: file.rows,
        bytes: file.bytes,
        attempts,
    }
}
