//! Stores vectors in immutable files, lists the current files in one manifest, and searches the vectors.
//!
//! # Guarantees
//! - A commit is atomic. One swap of the manifest makes all document versions of the commit visible and hides their
//!   predecessors. A reader sees exactly one version of the manifest.
//! - The highest version of a document wins, whatever the order of the commits. A deletion is a tombstone with a
//!   version.
//! - An acknowledged commit is never lost. A document that was committed twice, because a reply was lost, is shown
//!   once.
//! - Safety depends only on the compare-and-swap of the manifest. No lock and no clock is needed for safety.
//!
//! # Layout
//! - [`manifest`]: the only mutable object of a collection. [`validate`] and [`retention`]: functions without I/O that
//!   decide which changes of the manifest are permitted. `register`: replaces the manifest by compare-and-swap.
//! - [`docweir_target`]: the rows of a commit, and the trait [`Target`](docweir_target::Target). `target`: implements
//!   this trait for the store.
//! - [`delta`] and [`schema`]: the Parquet file that a commit writes. `vector_pages`: the vector column of this file.
//!   [`writer`]: commits writes.
//! - [`snapshot`]: the memory-mapped file that replaces many deltas. [`merge`]: merges files into one snapshot.
//!   [`compaction`]: selects the files to merge, and installs the result.
//! - `lookup`: finds the files that list a document. `collect`: deletes garbage, pins versions for readers, and opens
//!   past versions. [`verify`]: finds damage. [`lost`]: rebuilds a lost manifest.
//! - [`columns`]: the content of an opened file as columns. [`segment`]: an opened file. `opening`: opens each file
//!   once. [`view`]: all files of one manifest version. `visible`: the visible rows of each file. [`search`]: queries.
//!
//! # Trade-offs
//! Each search reads every live file. Deltas are held in memory, limited by [`VectorOptions::max_memory_bytes`];
//! snapshots are memory-mapped. Compaction keeps the number of files small.

mod collect;
pub mod collections;
pub mod columns;
pub mod compaction;
pub mod delta;
mod delta_columns;
pub mod error;
mod listed;
mod lookup;
pub mod lost;
pub mod manifest;
pub mod merge;
mod opening;
pub mod options;
mod planted;
mod register;
pub mod retention;
mod retry;
pub mod schema;
pub mod search;
pub mod segment;
pub mod snapshot;
mod target;
pub mod totals;
pub mod validate;
mod vector_pages;
pub mod verify;
pub mod view;
mod visible;
pub mod writer;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
#[cfg(test)]
mod commit_tests;
#[cfg(test)]
mod fuzz_tests;
#[cfg(test)]
mod process_tests;
#[cfg(test)]
mod protocol_tests;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod target_tests;
#[cfg(any(test, feature = "testing"))]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "used only in tests")]
pub mod testing;
#[cfg(test)]
mod watched;

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

pub use collect::{Collected, CollectionScope, Pinned};
pub use docweir_target::{DocumentRows, Row, Write};
pub use error::VectorError;
pub use manifest::{Manifest, ManifestVersion};
pub use options::{Normalisation, Stemming, VectorOptions};
pub use search::filter::Filter;
pub use search::{Hit, Mode, SearchRequest};
pub use totals::Totals;
pub use verify::Verified;
pub use view::{Inventory, View, ViewStats, WinningVersion};
pub use writer::{Base, CollectionWriter, Committed};

// Types of other crates that appear in the interface of this crate.
pub use docweir_core::clock::{SharedClock, SystemClock};
pub use docweir_core::documents::{DocumentId, Version};
pub use docweir_core::model::ModelIdentity;
pub use docweir_objects::ObjectStore;
pub use docweir_objects::local::LocalObjectStore;

use docweir_objects::local::LocalObjectOptions;
use docweir_objects::turns::Turns;
use opening::Cache;
use register::Register;

/// Opens, changes and searches one collection. Share the store in an [`Arc`], so that all readers use the same opened
/// files.
pub struct VectorStore {
    objects: Arc<dyn ObjectStore>,
    collection: String,
    clock: SharedClock,
    options: VectorOptions,
    register: Register,
    cache: Mutex<Cache>,
    /// Locks of the files and versions that are being opened. Readers of the same file or version wait for each other,
    /// so that it is opened once. Readers of other files do not wait.
    opening: Turns,
    /// Generates names and random waits.
    random: Mutex<fastrand::Rng>,
    /// Callback for every commit.
    added: Option<OnCommit>,
}

/// Opens collections by name. All collections are in one object store.
pub type OpenCollection = Arc<dyn Fn(&str) -> Result<Arc<VectorStore>, VectorError> + Send + Sync>;

/// Receives the name of a collection and each commit to it. Must not block.
pub type OnCommit = Arc<dyn Fn(&str, &Committed) + Send + Sync>;

impl VectorStore {
    /// Opens a collection in a local folder, with the default options. Creates the folder if it does not exist.
    /// Blocks the calling thread.
    ///
    /// # Errors
    /// Returns an error if the folder cannot be used or if the name of the collection is invalid.
    pub fn open_folder(folder: impl AsRef<Path>, collection: &str) -> Result<Arc<Self>, VectorError> {
        let clock: SharedClock = Arc::new(SystemClock);
        let objects = LocalObjectStore::open(folder.as_ref(), LocalObjectOptions::default(), &clock)?;
        Self::new(Arc::new(objects), collection, clock, VectorOptions::default()).map(Arc::new)
    }

    pub fn new(
        objects: Arc<dyn ObjectStore>,
        collection: &str,
        clock: SharedClock,
        options: VectorOptions,
    ) -> Result<Self, VectorError> {
        let letters = collection.bytes().all(|b| matches!(b, b'a'..=b'z' | b'0'..=b'9' | b'_' | b'-'));
        if !letters || !(1..=64).contains(&collection.len()) {
            return Err(VectorError::BadCollection(collection.to_owned()));
        }
        let register = Register::new(objects.clone(), format!("vectors/{collection}/MANIFEST"));
        let cache = Mutex::default();
        Ok(Self {
            objects,
            collection: collection.to_owned(),
            clock,
            options,
            register,
            cache,
            opening: Turns::default(),
            random: Mutex::default(),
            added: None,
        })
    }

    /// Sets a callback that is notified of every commit.
    pub fn telling(mut self, added: Option<OnCommit>) -> Self {
        self.added = added;
        self
    }

    /// Derives file names and random waits from a seed, for simulations.
    pub fn seeded(mut self, seed: u64) -> Self {
        self.random = Mutex::new(fastrand::Rng::with_seed(seed));
        self
    }

    /// Returns an independent random generator for one operation.
    fn random(&self) -> fastrand::Rng {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).fork()
    }

    pub fn collection(&self) -> &str {
        &self.collection
    }

    pub fn options(&self) -> &VectorOptions {
        &self.options
    }

    /// Returns a new writer. A process has one writer per collection (the committer).
    pub fn writer(self: &Arc<Self>) -> CollectionWriter {
        CollectionWriter::new(self.clone(), fastrand::Rng::new())
    }

    /// Returns a writer for simulations. Its ids and random waits are derived from a seed.
    pub fn writer_seeded(self: &Arc<Self>, seed: u64) -> CollectionWriter {
        CollectionWriter::new(self.clone(), fastrand::Rng::with_seed(seed))
    }

    /// Returns the current manifest; `None` before the first commit.
    pub async fn manifest(&self) -> Result<Option<Manifest>, VectorError> {
        Ok(self.register.load().await?.map(|(manifest, _)| manifest))
    }

    /// Returns an error if vectors of `model` must not be stored together with the existing vectors. Call this method
    /// before any vector is computed.
    pub async fn check_model(&self, model: &ModelIdentity) -> Result<(), VectorError> {
        match self.manifest().await? {
            Some(manifest) => self.may_mix(&manifest, model),
            None => Ok(()),
        }
    }

    fn may_mix(&self, manifest: &Manifest, model: &ModelIdentity) -> Result<(), VectorError> {
        may_mix(&self.collection, manifest, model)
    }

    /// Returns the object key of a file of this collection.
    fn key(&self, file: &str) -> String {
        format!("vectors/{}/{file}", self.collection)
    }

    fn manifest_key(&self) -> String {
        self.key("MANIFEST")
    }

    fn cache(&self) -> std::sync::MutexGuard<'_, Cache> {
        self.cache.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn may_mix(collection: &str, manifest: &Manifest, model: &ModelIdentity) -> Result<(), VectorError> {
    validate::may_mix(manifest.model(), model).map_err(|_| VectorError::ModelMismatch {
        collection: collection.to_owned(),
        stored: manifest.model().map(error::describe).unwrap_or_default(),
        given: error::describe(model),
    })
}
