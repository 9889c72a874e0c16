//! Compacts a collection by merging many files into few, while other processes keep reading and writing.
//!
//! ```text
//! plan on a manifest ─▶ open the inputs ─▶ merge ─▶ write snap/<ulid> ─▶ validate ─▶ swap
//!                                                                           ▲          │ conflict or unknown
//!                                                                           └─ load ◀──┘
//! ```
//! Any process may run the steps before the swap, at any time and repeatedly. If a merged file is not installed, the
//! file is an orphan, and the collector deletes it. [`may_install_snapshot`] checks whether the current manifest
//! permits the swap. The swap is applied only if the manifest has not changed since this check. A compactor holds a
//! lease ([`docweir_objects::lease`]), which prevents duplicate work and provides an epoch. A compactor with a
//! superseded epoch cannot swap the manifest.
//!
//! Deltas must be decoded for a merge, so they are merged in groups that fit the memory limit. If there are several
//! groups, each group is first merged into an intermediate file, and several groups are merged in parallel. The
//! intermediate files are then memory-mapped and merged like snapshots.
//!
//! [`may_install_snapshot`]: super::validate::may_install_snapshot

mod merger;
mod options;
mod policy;

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use docweir_core::cancel::Cancel;

pub use merger::Staged;
pub use options::CompactionOptions;
pub use policy::{Mode, next_group};

use super::VectorStore;
use super::error::VectorError;
use super::manifest::{FileKind, LiveFile, Manifest, ManifestVersion};
use super::register::Swap;
use super::retry::{Retries, passing, ulid};
use super::validate::{self, Install, Refusal, Stamp};

/// Merges files of one collection. A process needs only one compactor per collection.
pub struct Compactor {
    store: Arc<VectorStore>,
    options: CompactionOptions,
    random: fastrand::Rng,
    /// Names of live files that this compactor leaves alone, because merging them would make too large a file.
    too_large: HashSet<String>,
}

/// Describes the inputs and the result of a merge, for one line of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Report {
    pub why: &'static str,
    pub input_files: usize,
    pub input_bytes: u64,
    pub input_rows: u64,
    pub output_bytes: u64,
    pub output_rows: u64,
    /// Total number of bytes written, including intermediate files.
    pub written_bytes: u64,
    pub dropped_tombstones: u64,
    pub duration: Duration,
    /// Largest observed amount of anonymous memory of the process, in bytes; 0 if the operating system does not
    /// report this amount.
    pub peak_memory_bytes: u64,
}

/// Reports whether a merged file was installed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Installed {
    Yes(ManifestVersion),
    /// The merged file was not installed. Another process has merged or removed an input first, or has taken over the
    /// lease. Nothing was changed and nothing is lost.
    Superseded(Refusal),
}

impl Compactor {
    pub fn new(store: Arc<VectorStore>, options: CompactionOptions) -> Self {
        Self { store, options, random: fastrand::Rng::new(), too_large: HashSet::new() }
    }

    /// Creates a compactor for simulations. Its file names and random waits are derived from a seed.
    pub fn seeded(store: Arc<VectorStore>, options: CompactionOptions, seed: u64) -> Self {
        Self { store, options, random: fastrand::Rng::with_seed(seed), too_large: HashSet::new() }
    }

    pub fn options(&self) -> &CompactionOptions {
        &self.options
    }

    /// Returns the current manifest, the files to merge next, and the reason for this merge. Returns `None` if there
    /// is nothing to merge.
    pub async fn due(&self, mode: Mode) -> Result<Option<(Manifest, Vec<LiveFile>, &'static str)>, VectorError> {
        let Some(manifest) = self.store.manifest().await? else { return Ok(None) };
        let now_ms = self.store.clock.now().div_euclid(1000);
        let most = self.store.objects.max_copy_bytes().unwrap_or(u64::MAX);
        let group = if self.too_large.is_empty() {
            next_group(&manifest, now_ms, &self.options, mode, most)
        } else {
            let mut others = manifest.clone();
            others.live.retain(|f| !self.too_large.contains(&f.file));
            next_group(&others, now_ms, &self.options, mode, most)
        };
        Ok(group.map(|(files, why)| (manifest, files, why)))
    }

    /// Merges the inputs into a new file, which stays staged until it is installed. Needs no lease.
    ///
    /// The plan estimates the size of the result. If the result is nevertheless too large for the local copies of
    /// remote files, this method merges only the first half of the inputs, and so on. The inputs of the returned merge
    /// may therefore be fewer than the given ones.
    ///
    /// # Errors
    /// Returns [`VectorError::MergeTooLarge`] if no part of the inputs can be merged. The largest input then takes part
    /// in no further merge of this compactor, so that it does not prevent the merges of other files.
    pub async fn merge(
        &mut self,
        manifest: &Manifest,
        inputs: &[LiveFile],
        why: &'static str,
        cancelled: &Cancel,
    ) -> Result<Staged, VectorError> {
        self.too_large.retain(|file| manifest.is_live(file));
        let mut inputs = inputs;
        loop {
            let merged =
                merger::merge(&self.store, &self.options, &mut self.random, manifest, inputs, why, cancelled).await;
            let Err(VectorError::MergeTooLarge { .. }) = merged else { return merged };
            let half = inputs.get(..inputs.len() / 2).unwrap_or_default();
            // Rewriting a single snapshot would change nothing.
            if half.is_empty() || matches!(half, [only] if only.kind == FileKind::Snapshot) {
                let largest = inputs.iter().max_by_key(|f| f.bytes);
                self.too_large.extend(largest.map(|f| f.file.clone()));
                return merged;
            }
            inputs = half;
        }
    }

    /// Replaces the inputs in the manifest by the staged file. `epoch` is the epoch of the caller's lease.
    pub async fn install(&mut self, staged: &Staged, epoch: u64) -> Result<Installed, VectorError> {
        let store = self.store.clone();
        let install = Install {
            snapshot: staged.snapshot.clone(),
            base_version: staged.base_version,
            inputs: staged.inputs.clone(),
            epoch,
            commit_id: ulid(&store, &mut self.random),
        };
        let mut retries = Retries::new(&store);
        let attempts = store.options.commit_attempts;
        let mut unsure = false;
        for attempt in 1..=attempts {
            if attempt > 1 {
                retries.wait(&store, &mut self.random).await;
            }
            let (manifest, tag) = match store.register.load().await {
                Ok(Some(state)) => state,
                Ok(None) => return Ok(Installed::Superseded(Refusal::NoInputs)),
                Err(VectorError::Object(e)) if passing(&e) => continue,
                Err(e) => return Err(e),
            };
            if validate::is_installed(&manifest, &install) {
                return Ok(Installed::Yes(manifest.version));
            }
            let stamp = Stamp { now: store.clock.now(), history_entries: store.options.history_entries };
            let next = match validate::may_install_snapshot(&manifest, &install, stamp) {
                Ok(next) => next,
                Err(refusal) => return Ok(Installed::Superseded(refusal)),
            };
            docweir_core::failpoint::reach("compaction.validated", "");
            match store.register.swap(Some(&tag), &next).await? {
                Swap::Done => return Ok(Installed::Yes(next.version)),
                Swap::Conflict => {}
                Swap::Unknown => unsure = true,
            }
        }
        match unsure {
            true => Err(VectorError::Unresolved { collection: store.collection.clone(), attempts }),
            false => Err(VectorError::Contention { collection: store.collection.clone(), attempts }),
        }
    }

    /// Deletes a staged file that will not be installed. If this fails, the collector deletes the file later.
    pub async fn discard(&self, staged: Staged) {
        if let Some(snapshot) = staged.snapshot {
            let _ = self.store.objects.delete(&self.store.key(&snapshot.file)).await;
        }
    }
}

impl VectorStore {
    /// Merges all files into one, with the default options, or as many as fit into one file. Returns `None` if there is
    /// nothing to merge. Also returns `None` if another process changed the files meanwhile, which is harmless.
    ///
    /// This method takes no lease: two processes that call it concurrently do the same work twice. A service that
    /// merges in the background uses a [`Compactor`] under a [`docweir_objects::lease`].
    ///
    /// # Errors
    /// Returns an error if a file cannot be read or written, or if other processes keep changing the manifest.
    pub async fn compact(self: &Arc<Self>) -> Result<Option<Report>, VectorError> {
        let mut compactor = Compactor::new(self.clone(), CompactionOptions::default());
        let Some((manifest, files, why)) = compactor.due(Mode::All).await? else { return Ok(None) };
        let staged = compactor.merge(&manifest, &files, why, &Cancel::default()).await?;
        match compactor.install(&staged, manifest.epoch).await? {
            Installed::Yes(_) => Ok(Some(staged.report)),
            Installed::Superseded(_) => {
                compactor.discard(staged).await;
                Ok(None)
            }
        }
    }
}

#[cfg(test)]
#[path = "compaction_tests.rs"]
mod tests;

#[cfg(test)]
#[path = "size_tests.rs"]
mod size_tests;
