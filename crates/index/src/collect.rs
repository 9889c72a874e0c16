//! Collects garbage. The manifest records two horizons ([`retention`](crate::retention)). Each horizon is a manifest
//! version, and files that only older versions need may be deleted. The collector first raises the horizons as far as
//! the retention options allow. It then deletes the files that no remaining version needs.
//!
//! ```text
//! raise the horizons (swap) ─▶ list files ─▶ read the readers' pins ─▶ delete garbage ─▶ remove entries (swap)
//! ```
//! The collector reads the pins *after* raising the horizons, and a reader checks the horizons again after storing its
//! pin. Therefore either the collector sees the pin, or the reader sees the raised horizons. A collector may be
//! suspended at any step, for any length of time. When it resumes, the files that it was about to delete are still
//! garbage, because horizons never fall.

use std::collections::HashSet;
use std::sync::Arc;

use docweir_objects::{Durability, ObjectError, ObjectMeta, Pages, Precondition, Tag};
use serde::{Deserialize, Serialize};

use super::delta;
use super::error::VectorError;
use super::manifest::{Manifest, ManifestVersion};
use super::planted::{SkippedRule, planted};
use super::register::Swap;
use super::retention::{self, Horizons, RetentionOptions, is_garbage, may_forget, may_raise};
use super::retry::{Retries, passing, ulid};
use super::validate::{Refusal, Stamp, may_roll_back};
use super::{VectorStore, View};

/// Reports the result of a garbage collection.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Collected {
    /// Object keys of the deleted files.
    pub deleted: Vec<String>,
    pub bytes: u64,
    /// Number of garbage files that were kept because a reader has pinned them.
    pub pinned: u64,
    /// Object keys of files that could not be read. Such files are not deleted.
    pub unreadable: Vec<String>,
}

/// Selects which past versions and files are deleted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum CollectionScope {
    /// Deletes everything that the retention options do not require to be kept.
    Due(RetentionOptions),
    /// Deletes all staged files that no manifest lists. A commit or merge in progress loses its file and has to start
    /// again.
    Orphans,
    /// Deletes all files that the current version does not contain.
    All,
}

/// Protects the files of one version for a reader, until the pin expires.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Pin {
    version: ManifestVersion,
    expires_at_ms: i64,
}

/// Identifies a stored pin. A pin ends when [`VectorStore::unpin`] removes it, or when its time has expired.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pinned {
    key: String,
    pub version: ManifestVersion,
}

impl VectorStore {
    /// Deletes files that are no longer needed. May run concurrently with any operation, including other collectors.
    pub async fn collect(&self, reach: CollectionScope) -> Result<Collected, VectorError> {
        let mut random = self.random();
        let Some(manifest) = self.raise(reach, &mut random).await? else {
            self.check_not_lost().await?;
            return Ok(Collected::default());
        };
        docweir_core::failpoint::reach("collect.raised", "");

        let mut garbage: Vec<ObjectMeta> = Vec::new();
        let mut collected = Collected::default();
        for object in self.objects_there().await? {
            match self.base_of(&manifest, &object).await {
                Ok(Some(base)) if is_garbage(&manifest, self.file_of(&object.key), base) => garbage.push(object),
                Ok(_) => {}
                Err(VectorError::Object(ObjectError::NotFound(_))) => {}
                Err(VectorError::Object(e)) => return Err(e.into()),
                Err(_) => collected.unreadable.push(object.key),
            }
        }
        let spared = match planted(SkippedRule::PinsIgnored) {
            true => HashSet::new(),
            false => self.pinned_files(&manifest).await?,
        };
        for object in garbage {
            if spared.contains(self.file_of(&object.key)) {
                collected.pinned += 1;
                continue;
            }
            docweir_core::failpoint::reach("collect.deleting", "");
            self.objects.delete(&object.key).await?;
            collected.bytes += object.bytes;
            collected.deleted.push(object.key);
        }
        docweir_core::failpoint::reach("collect.deleted", "");
        self.forget(&spared, &mut random).await?;
        Ok(collected)
    }

    /// Returns whether a file of the collection is missing from the manifest. Either a process died after it wrote
    /// the file, or a commit or merge is still running and will list the file later.
    pub async fn has_orphans(&self) -> Result<bool, VectorError> {
        let Some(manifest) = self.manifest().await? else { return Ok(false) };
        let there = self.objects_there().await?;
        Ok(self.not_named(&manifest, there).next().is_some())
    }

    /// Returns every existing delta and snapshot of the collection, listed or not.
    pub(super) async fn objects_there(&self) -> Result<Vec<ObjectMeta>, VectorError> {
        let mut there = Vec::new();
        for folder in ["delta/", "snap/"] {
            let mut pages = Pages::new(self.objects.as_ref(), self.key(folder));
            while let Some(page) = pages.next().await? {
                there.extend(page);
            }
        }
        Ok(there)
    }

    /// Returns the object keys of the existing files that the manifest does not list.
    pub(super) fn not_named(&self, manifest: &Manifest, there: Vec<ObjectMeta>) -> impl Iterator<Item = String> {
        let named: HashSet<String> = manifest.files().map(|f| self.key(&f.file)).collect();
        there.into_iter().map(|object| object.key).filter(move |key| !named.contains(key))
    }

    /// Creates an empty manifest if the collection has a staged file but no manifest. The new manifest has high
    /// horizons, so the staged file can never be committed and the collector can delete it.
    ///
    /// Call this only if the collection is known to have never contained anything. If a manifest existed and was
    /// lost, the files are all that remains of the collection.
    pub async fn begin_if_staged(&self) -> Result<(), VectorError> {
        self.check_not_lost().await?;
        let staged = self.objects.list(&self.key("delta/"), None, 1).await?;
        if staged.is_empty() {
            return Ok(());
        }
        let mut random = self.random();
        let stamp = Stamp { now: self.clock.now(), history_entries: self.options.history_entries };
        let empty = Manifest::empty(&self.collection, stamp.now);
        let to = Horizons { gc_floor: 1, retained_from: 0 };
        let first = may_raise(&empty, to, &ulid(self, &mut random), stamp).map_err(|r| self.refused(&r))?;
        // The outcome does not matter: if another process was first, there is a manifest now.
        self.register.swap(None, &first).await.map(drop)
    }

    /// Raises the horizons to the values that `reach` demands, and returns the new manifest. Returns `None` if the
    /// collection has no manifest yet.
    async fn raise(&self, reach: CollectionScope, random: &mut fastrand::Rng) -> Result<Option<Manifest>, VectorError> {
        let to = |manifest: &Manifest, now_ms: i64| {
            let now = manifest.horizons();
            let top = manifest.version + 1;
            match reach {
                CollectionScope::Due(options) => retention::due(manifest, now_ms, &options).unwrap_or(now),
                CollectionScope::Orphans => Horizons { gc_floor: top, ..now },
                CollectionScope::All => Horizons { gc_floor: top, retained_from: top },
            }
        };
        self.change(random, true, |manifest, stamp, id| {
            let to = to(manifest, stamp.now.div_euclid(1000));
            if to == manifest.horizons() { Ok(None) } else { may_raise(manifest, to, id, stamp).map(Some) }
        })
        .await
    }

    /// Removes the entries of deleted files from the manifest's list of removed files.
    async fn forget(&self, spared: &HashSet<String>, random: &mut fastrand::Rng) -> Result<(), VectorError> {
        let Some(manifest) = self.manifest().await? else { return Ok(()) };
        let past = manifest.removed.iter().filter(|r| {
            r.at_version <= manifest.retained_from
                && r.file.base_version < manifest.gc_floor
                && !spared.contains(&r.file.file)
                && !manifest.is_live(&r.file.file)
        });
        let mut gone = Vec::new();
        for removed in past {
            let name = &removed.file.file;
            if matches!(self.objects.head(&self.key(name)).await, Err(ObjectError::NotFound(_))) {
                gone.push(name.clone());
            }
        }
        if gone.is_empty() {
            return Ok(());
        }
        self.change(random, true, |manifest, stamp, id| may_forget(manifest, &gone, id, stamp).map(Some))
            .await
            .map(drop)
    }

    /// Replaces the manifest by the manifest that `change` returns, unless `change` returns `None`. Returns the
    /// current manifest afterwards, or `None` if the collection has no manifest yet.
    ///
    /// If the reply to an attempt is lost, the manifest usually shows whether the attempt was applied. If another
    /// process has also replaced the manifest since, the outcome stays unknown. A `repeatable` change is then
    /// retried, and any other change fails with [`VectorError::Unresolved`].
    async fn change(
        &self,
        random: &mut fastrand::Rng,
        repeatable: bool,
        change: impl Fn(&Manifest, Stamp, &str) -> Result<Option<Manifest>, Refusal>,
    ) -> Result<Option<Manifest>, VectorError> {
        let id = ulid(self, random);
        let mut retries = Retries::new(self);
        let attempts = self.options.commit_attempts;
        let mut unsure: Option<ManifestVersion> = None;
        for attempt in 1..=attempts {
            if attempt > 1 {
                retries.wait(self, random).await;
            }
            let (manifest, tag): (Manifest, Tag) = match self.register.load().await {
                Ok(Some(state)) => state,
                Ok(None) => return Ok(None),
                Err(VectorError::Object(e)) if passing(&e) => continue,
                Err(e) => return Err(e),
            };
            // The change was applied, but its reply was lost.
            if manifest.commit_id == id {
                return Ok(Some(manifest));
            }
            if unsure.is_some_and(|before| before != manifest.version) && !repeatable {
                return Err(VectorError::Unresolved { collection: self.collection.clone(), attempts: attempt });
            }
            let stamp = Stamp { now: self.clock.now(), history_entries: self.options.history_entries };
            let next = match change(&manifest, stamp, &id) {
                Ok(Some(next)) => next,
                // Another process has raised the horizons, or an earlier attempt of this process did and its reply
                // was lost.
                Ok(None) | Err(Refusal::HorizonOutOfRange { .. }) => return Ok(Some(manifest)),
                Err(refusal) => return Err(self.refused(&refusal)),
            };
            match self.register.swap(Some(&tag), &next).await? {
                Swap::Done => return Ok(Some(next)),
                // A client that retries automatically reports a lost reply as a conflict.
                Swap::Conflict | Swap::Unknown => unsure = Some(manifest.version),
            }
        }
        Err(VectorError::Contention { collection: self.collection.clone(), attempts })
    }

    fn refused(&self, refusal: &Refusal) -> VectorError {
        let collection = self.collection.clone();
        match *refusal {
            Refusal::NotRetained { asked, retained, version } => {
                VectorError::NotRetained { collection, asked, retained, version }
            }
            _ => VectorError::Query(format!("cannot change the manifest of `{collection}`: {refusal:?}")),
        }
    }

    /// Returns the base version of a staged file: the manifest version that its commit or merge had read before
    /// writing the file. Returns `None` for a live file, because the collector never deletes live files.
    async fn base_of(&self, manifest: &Manifest, object: &ObjectMeta) -> Result<Option<ManifestVersion>, VectorError> {
        let file = self.file_of(&object.key);
        if manifest.is_live(file) {
            return Ok(None);
        }
        if let Some(removed) = manifest.removed.iter().find(|r| r.file.file == file) {
            return Ok(Some(removed.file.base_version));
        }
        self.base_in(object).await.map(Some)
    }

    pub(super) fn file_of<'k>(&self, key: &'k str) -> &'k str {
        key.strip_prefix("vectors/").and_then(|k| k.strip_prefix(&self.collection)).map_or(key, |k| &k[1..])
    }

    /// Pins a version for `seconds` seconds, so that its files are not deleted. `None` selects the newest version.
    pub async fn pin(&self, version: Option<ManifestVersion>, seconds: u64) -> Result<Pinned, VectorError> {
        let mut random = self.random();
        for _ in 0..self.options.read_attempts {
            let manifest = self.manifest().await?;
            let wanted = version.unwrap_or(manifest.as_ref().map_or(0, |m| m.version));
            let key = self.key(&format!("pins/{}.json", ulid(self, &mut random)));
            let until = self.clock.now().div_euclid(1000).saturating_add_unsigned(seconds.saturating_mul(1000));
            let body = serde_json::to_vec(&Pin { version: wanted, expires_at_ms: until }).unwrap_or_default();
            self.objects.put(&key, body.into(), Precondition::None, Durability::Rebuildable).await?;
            // Check again: a collector that did not see the pin has raised the horizon before the pin was stored.
            let (retained, newest) = self.manifest().await?.map_or((0, 0), |m| (m.retained_from, m.version));
            if wanted >= retained && wanted <= newest {
                return Ok(Pinned { key, version: wanted });
            }
            self.objects.delete(&key).await?;
            if let Some(asked) = version {
                let collection = self.collection.clone();
                return Err(VectorError::NotRetained { collection, asked, retained, version: newest });
            }
        }
        Err(VectorError::NoStableView { collection: self.collection.clone(), attempts: self.options.read_attempts })
    }

    pub async fn unpin(&self, pinned: Pinned) -> Result<(), VectorError> {
        Ok(self.objects.delete(&pinned.key).await?)
    }

    /// Returns the files of all pinned versions. Deletes expired pins.
    async fn pinned_files(&self, manifest: &Manifest) -> Result<HashSet<String>, VectorError> {
        let now_ms = self.clock.now().div_euclid(1000);
        let mut files = HashSet::new();
        let mut pages = Pages::new(self.objects.as_ref(), self.key("pins/"));
        while let Some(page) = pages.next().await? {
            for object in page {
                let body = match self.objects.get(&object.key).await {
                    Ok((body, _)) => body,
                    Err(ObjectError::NotFound(_)) => continue,
                    Err(e) => return Err(e.into()),
                };
                match serde_json::from_slice::<Pin>(&body) {
                    Ok(pin) if pin.expires_at_ms > now_ms => {
                        files.extend(manifest.live_at(pin.version).into_iter().map(|f| f.file.clone()));
                    }
                    Ok(_) => self.objects.delete(&object.key).await?,
                    // The pin may be from a newer program, so nothing may be deleted that it could protect.
                    Err(e) => {
                        let reason =
                            format!("a reader's pin cannot be parsed ({e}); if no reader is running, delete the pin");
                        return Err(delta::damaged(&object.key, reason));
                    }
                }
            }
        }
        Ok(files)
    }

    /// Returns a view of the given version of the collection.
    pub async fn view_at(&self, version: ManifestVersion) -> Result<Arc<View>, VectorError> {
        let Some(manifest) = self.manifest().await? else {
            return Err(self.refused(&Refusal::NotRetained { asked: version, retained: 0, version: 0 }));
        };
        let (retained, newest) = (manifest.retained_from, manifest.version);
        if version < retained || version > newest {
            return Err(self.refused(&Refusal::NotRetained { asked: version, retained, version: newest }));
        }
        match self.view_of(manifest, version).await {
            Err(VectorError::Object(ObjectError::NotFound(key))) => {
                // The file was deleted after the manifest was read, unless its version is still retained.
                let (retained, newest) = self.manifest().await?.map_or((0, 0), |m| (m.retained_from, m.version));
                match version < retained {
                    true => Err(self.refused(&Refusal::NotRetained { asked: version, retained, version: newest })),
                    false => Err(self.missing(key, version)),
                }
            }
            seen => seen,
        }
    }

    /// Returns a view of a version that is pinned. The pin must not have expired.
    pub async fn view_pinned(&self, pinned: &Pinned) -> Result<Arc<View>, VectorError> {
        match self.manifest().await? {
            Some(manifest) => self.view_of(manifest, pinned.version).await.map_err(|e| match e {
                VectorError::Object(ObjectError::NotFound(key)) => self.missing(key, pinned.version),
                e => e,
            }),
            None => self.view().await,
        }
    }

    /// Rolls the collection back: creates a new version with the content of a past version. Returns the number of the
    /// new version.
    pub async fn roll_back(&self, version: ManifestVersion) -> Result<ManifestVersion, VectorError> {
        let mut random = self.random();
        // Before changing anything, check that the files of the version exist and are intact.
        self.view_at(version).await?;
        let rolled = self
            .change(&mut random, false, |manifest, stamp, id| may_roll_back(manifest, version, id, stamp).map(Some))
            .await?;
        match rolled {
            Some(manifest) => Ok(manifest.version),
            None => Err(self.refused(&Refusal::NotRetained { asked: version, retained: 0, version: 0 })),
        }
    }
}

#[cfg(test)]
#[path = "collect_tests.rs"]
mod tests;
