//! The vector store: immutable files, one manifest that says which of them count, and search over them.
//!
//! # What it promises
//! - A commit is atomic: all its document versions become visible, and their predecessors vanish, in one swap of the
//!   manifest; a reader sees one version of the manifest, whole.
//! - The highest version of a document wins, whatever the order of the commits. A delete is a tombstone of a version.
//! - What was acknowledged is never lost; what was committed twice (a lost reply) is shown once.
//! - Safety rests on the compare-and-swap alone. No lock and no clock is needed for it.
//!
//! # Layout
//! - [`manifest`] the one mutable object; [`validate`] and [`retention`] who may change it to what, without I/O;
//!   `register` the swap
//! - [`docweir_target`] what is written, and the trait that the store implements in `target`; [`delta`] and [`schema`] the Parquet file of a commit, `vector_pages` its largest column;
//!   [`writer`] the commit
//! - [`snapshot`] the mapped file of many commits; [`merge`] from files to one; [`compaction`] which, when, and how it
//!   comes in
//! - `collect` what may be deleted, readers' marks, past versions; [`verify`] what is wrong
//! - [`columns`] what an opened file looks like; [`segment`] an opened file; [`view`] all files at one version, `visible`
//!   the rows of each that count; [`search`] queries
//!
//! # Trade-offs
//! Each search looks at every live file. Deltas are held in memory, which [`VectorOptions::max_memory_bytes`] bounds;
//! snapshots are mapped. Compaction keeps both few.

mod collect;
pub mod columns;
pub mod compaction;
pub mod delta;
mod delta_columns;
pub mod error;
pub mod manifest;
pub mod merge;
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
mod process_tests;
#[cfg(test)]
mod protocol_tests;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod target_tests;
#[cfg(any(test, feature = "testing"))]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::print_stderr, reason = "it is for tests")]
pub mod testing;

use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};

pub use collect::{Collected, Pinned, Reach};
pub use docweir_target::{DocumentRows, Row, Write};
pub use error::VectorError;
pub use manifest::{Manifest, ManifestVersion};
pub use options::{Normalisation, Stemming, VectorOptions};
pub use search::filter::Filter;
pub use search::{Hit, Mode, SearchRequest};
pub use verify::Verified;
pub use view::{Inventory, View, ViewStats, WinningVersion};
pub use writer::{Base, CollectionWriter, Committed};

// What the interface of this crate is made of.
pub use docweir_core::clock::{SharedClock, SystemClock};
pub use docweir_core::documents::{DocumentId, Version};
pub use docweir_core::model::ModelIdentity;
pub use docweir_objects::ObjectStore;
pub use docweir_objects::local::LocalObjectStore;

use docweir_objects::Tag;
use docweir_objects::local::LocalObjectOptions;
use register::Register;
use segment::Segment;

/// One collection of one store. Share it in an [`Arc`]: readers share its opened files.
pub struct VectorStore {
    objects: Arc<dyn ObjectStore>,
    collection: String,
    clock: SharedClock,
    options: VectorOptions,
    register: Register,
    cache: Mutex<Cache>,
    /// One reader opens files at a time, so that two don't open the same ones.
    opening: tokio::sync::Mutex<()>,
    /// For names and waits.
    random: Mutex<fastrand::Rng>,
    /// Told of every commit.
    added: Option<Added>,
}

/// Opens collections of one place by name.
pub type OpenCollection = Arc<dyn Fn(&str) -> Result<Arc<VectorStore>, VectorError> + Send + Sync>;

/// Is told of a collection and what was added to it. It must not wait.
pub type Added = Arc<dyn Fn(&str, &Committed) + Send + Sync>;

#[derive(Default)]
struct Cache {
    /// By name; those of the last view.
    segments: HashMap<String, Arc<Segment>>,
    view: Option<(Tag, Arc<View>)>,
}

impl VectorStore {
    /// Opens a collection in a local folder, with the default options. The folder is made if there is none; blocks.
    ///
    /// # Errors
    /// A folder that can't be used, a name that no collection can have.
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
            opening: tokio::sync::Mutex::default(),
            random: Mutex::default(),
            added: None,
        })
    }

    /// With somebody who is told of every commit.
    pub fn telling(mut self, added: Option<Added>) -> Self {
        self.added = added;
        self
    }

    /// With names and waits that follow from a seed: for simulations.
    pub fn seeded(mut self, seed: u64) -> Self {
        self.random = Mutex::new(fastrand::Rng::with_seed(seed));
        self
    }

    /// A source of its own for one operation.
    fn random(&self) -> fastrand::Rng {
        self.random.lock().unwrap_or_else(PoisonError::into_inner).fork()
    }

    pub fn collection(&self) -> &str {
        &self.collection
    }

    pub fn options(&self) -> &VectorOptions {
        &self.options
    }

    /// A new writer. A process has one a collection (the committer).
    pub fn writer(self: &Arc<Self>) -> CollectionWriter {
        CollectionWriter::new(self.clone(), fastrand::Rng::new())
    }

    /// A writer whose ids and waits follow from a seed: for simulations.
    pub fn writer_seeded(self: &Arc<Self>, seed: u64) -> CollectionWriter {
        CollectionWriter::new(self.clone(), fastrand::Rng::with_seed(seed))
    }

    /// The manifest as it is now; `None` before the first commit.
    pub async fn manifest(&self) -> Result<Option<Manifest>, VectorError> {
        Ok(self.register.load().await?.map(|(manifest, _)| manifest))
    }

    /// Refuses a model that may not be mixed with the vectors that are there. To be asked before any work is done.
    pub async fn check_model(&self, model: &ModelIdentity) -> Result<(), VectorError> {
        match self.manifest().await? {
            Some(manifest) => self.may_mix(&manifest, model),
            None => Ok(()),
        }
    }

    fn may_mix(&self, manifest: &Manifest, model: &ModelIdentity) -> Result<(), VectorError> {
        may_mix(&self.collection, manifest, model)
    }

    /// The object key of a file of this collection.
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
