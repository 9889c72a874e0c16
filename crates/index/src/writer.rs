//! Commits writes: stages a delta and swaps the manifest. If the reply to a swap is lost, reads the manifest to find
//! out whether the swap was applied.
//!
//! ```text
//! load ─▶ (is it still wanted?) ─▶ check the model ─▶ stage delta/<ulid> ─▶ validate ─▶ swap ─▶ done
//!                                                     ▲          │ conflict or unknown
//!                                                     └─ load ◀──┘
//! ```
//! A process has one writer per collection. The writer commits one group after the other, so sequence numbers are
//! committed in order. A sequence number is assigned before the first await point and never reused for other content.
//! A commit that is dropped at an await point is either complete or leaves an orphan delta for the collector. In both
//! cases, the next commit works.
//!
//! A commit whose base version is below `gc_floor` is *not* staged again automatically. A document of the commit may
//! have been deleted meanwhile, and a merge may have dropped the document's tombstone. The commit therefore fails
//! with [`VectorError::Stalled`]. The caller checks with the control store that the documents are still wanted at
//! these versions, and then begins again.

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

/// Commits to a collection under one writer id. Not `Clone`, because only one owner may assign the sequence numbers.
pub struct CollectionWriter {
    store: Arc<VectorStore>,
    id: String,
    sequence: u64,
    random: fastrand::Rng,
}

/// Holds the manifest that a commit is based on.
pub struct Base((Manifest, Option<Tag>));

/// Describes a commit that the manifest contains.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Committed {
    /// Manifest version that contains the commit.
    pub version: ManifestVersion,
    /// Name of the delta, relative to the collection's prefix.
    pub file: String,
    pub documents: u64,
    pub tombstones: u64,
    pub rows: u64,
    /// Size of the file in bytes.
    pub bytes: u64,
    /// Number of attempts to swap the manifest, at least 1.
    pub attempts: u32,
}

impl CollectionWriter {
    pub(super) fn new(store: Arc<VectorStore>, mut random: fastrand::Rng) -> Self {
        let id = ulid(&store, &mut random);
        Self { store, id, sequence: 0, random }
    }

    /// Returns the writer's id, unique to this instance.
    pub fn id(&self) -> &str {
        &self.id
    }

    /// Makes either all writes visible in one step, or no write at all. If several writes concern the same document,
    /// only the write with the highest version counts. The future can be dropped at any await point. After
    /// [`VectorError::Unresolved`], the same writes may be committed again: the same version of a document is never
    /// shown twice.
    ///
    /// This method suits callers that write without a claim. A caller that writes under a claim first calls
    /// [`begin`](CollectionWriter::begin) instead.
    pub async fn commit(&mut self, writes: Vec<Write>, model: &ModelIdentity) -> Result<Committed, VectorError> {
        let base = self.begin().await?;
        self.commit_on(base, writes, model).await
    }

    /// Returns the current manifest as the base of the next commit.
    ///
    /// A caller that writes a document under a claim of the control store must check the claim *after* this call, and
    /// before [`commit_on`](CollectionWriter::commit_on). If the document is deleted before the check, the check
    /// fails. If the document is deleted after the check, its tombstone is newer than the base. No merge drops this
    /// tombstone while a commit on the base is possible. A caller must not check the claim before this call. It might
    /// be suspended between the two, and then restore a deleted document whose tombstone no longer exists.
    pub async fn begin(&mut self) -> Result<Base, VectorError> {
        let mut retries = Retries::new(&self.store.clone());
        self.load(&mut retries).await.map(Base)
    }

    /// Commits on a base that [`begin`](CollectionWriter::begin) has returned. Otherwise works like
    /// [`commit`](CollectionWriter::commit).
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

        // The first attempt uses the base without reading the manifest again, because the swap is conditional on the
        // base.
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
                // A conflict does not tell whether an earlier attempt will still be applied.
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

    /// Reads the current state. A collection without a manifest is empty.
    async fn load(&mut self, retries: &mut Retries) -> Result<(Manifest, Option<Tag>), VectorError> {
        let store = self.store.clone();
        loop {
            match store.register.load().await {
                Ok(Some((manifest, tag))) => return Ok((manifest, Some(tag))),
                Ok(None) => {
                    store.check_not_lost().await?;
                    return Ok((Manifest::empty(&store.collection, store.clock.now()), None));
                }
                Err(VectorError::Object(e)) if passing(&e) && retries.may_retry() => {
                    retries.wait(&store, &mut self.random).await;
                }
                Err(e) => return Err(e),
            }
        }
    }

    /// Encodes the delta and creates its manifest entry. Checks the model before anything is written.
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
        // Deletions fit every model, so their file is declared with the existing model.
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

    /// Stores the delta durably, before the manifest may list it.
    async fn stage(&mut self, file: &str, body: Bytes, retries: &mut Retries) -> Result<(), VectorError> {
        let store = self.store.clone();
        let key = store.key(file);
        loop {
            // The name belongs to this commit alone, so a retry writes the same bytes.
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
            // There is a new generation, or the manifest was restored from an older backup: the staged file does not
            // fit it.
            Refusal::OtherGeneration { .. } | Refusal::FromTheFuture { .. } => {
                VectorError::Stalled { collection, base: append.file.base_version, floor: append.file.base_version }
            }
            other => VectorError::BadManifest {
                key: self.store.manifest_key(),
                reason: format!("commit {} of writer {} violates a rule: {other:?}", append.sequence, append.writer),
            },
        }
    }
}

/// Stores the object through a streaming upload. An ordinary put would compute a tag by hashing the whole body, and
/// the tag is not needed here.
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
