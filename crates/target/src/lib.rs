//! Where vectors go: the trait between the pipeline and whatever holds the rows of documents.
//!
//! A [`Target`] is one collection of one store: the embedded index (`docweir-index`), a database, a service. The loading
//! stage, the recorder and the harvester write through it and know nothing else of it. Another target is one
//! implementation that passes `conformance` (feature `testing`).
//!
//! # What every target promises
//! - **The highest version of a document wins**, whatever the order of the calls. A deletion is a version too.
//! - **Writing is idempotent**: a call that is repeated because its reply was lost changes nothing.
//! - **A document version is visible as a whole or not at all**, and none of its predecessor's rows with it.
//! - **What was acknowledged is there** for a [`Target::held`] that is asked afterwards.
//!
//! | module | what is in it |
//! | --- | --- |
//! | [`rows`] | what is written: rows of document versions, and deletions |
//! | [`capabilities`] | what a target can take |
//! | `conformance`, `testing` | what it has to do, as tests; small documents for them (feature `testing`) |

pub mod capabilities;
#[cfg(any(test, feature = "testing"))]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is for tests")]
pub mod conformance;
mod error;
pub mod rows;
#[cfg(any(test, feature = "testing"))]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "it is for tests")]
pub mod testing;

use std::sync::Arc;

use async_trait::async_trait;
use docweir_core::documents::{DocumentId, Version};
use docweir_core::error::StageError;
use docweir_core::model::ModelIdentity;

pub use capabilities::{Capabilities, Limit};
pub use error::WriteError;
pub use rows::{DocumentRows, Row, Write, gather};

/// One collection of a place that vectors are loaded into. Shared by all who write to it.
#[async_trait]
pub trait Target: Send + Sync + 'static {
    /// Returns the kind of target, for messages and metrics: `index`, `qdrant`.
    fn kind(&self) -> &'static str;

    fn collection(&self) -> &str;

    fn capabilities(&self) -> Capabilities;

    /// Returns the model whose vectors the collection holds; `None` while it holds none.
    async fn model(&self) -> Result<Option<ModelIdentity>, StageError>;

    /// Refuses a model whose vectors may not stand beside those that are there. Asked before anything is paid for.
    ///
    /// # Errors
    /// Of class system, naming both models, where they differ.
    async fn check_model(&self, model: &ModelIdentity) -> Result<(), StageError>;

    /// Returns a writer. A process has one for each of its components that write; several may write at a time.
    fn writer(self: Arc<Self>) -> Box<dyn TargetWriter>;

    /// Returns what is visible of each document, in the order of `documents`; `None` for those that are not there or
    /// were deleted.
    async fn held(&self, documents: &[DocumentId]) -> Result<Vec<Option<LoadedVersion>>, StageError>;

    /// Returns visible documents in the order of their ids: `limit` at most, those after `after`.
    async fn list(
        &self,
        after: Option<&DocumentId>,
        limit: usize,
    ) -> Result<Vec<(DocumentId, LoadedVersion)>, StageError>;

    /// Returns the visible rows of each document with their vectors, in the order of `documents` and of the rows'
    /// ordinals; none for those that are not there.
    async fn rows(&self, documents: &[DocumentId]) -> Result<Vec<Vec<Row>>, StageError>;
}

/// Writes to one target in the name of one component.
#[async_trait]
pub trait TargetWriter: Send {
    /// Fixes the state that the next [`write`](TargetWriter::write) is based on. Whoever writes a document by a claim makes sure
    /// of the claim *after* this and *before* the write: a deletion that comes in between is then either seen by the
    /// control store or newer than what was fixed. A target without such a state does nothing.
    async fn begin(&mut self) -> Result<(), StageError>;

    /// Writes document versions durably. Several writes of one document count as the one with the highest version. Safe
    /// to drop at any wait and safe to repeat.
    ///
    /// # Errors
    /// By class, as the retry decision needs it. After an error some of the documents may be visible, where
    /// [`Capabilities::atomic`] is `false`, or all of them, where a reply was lost.
    async fn write(&mut self, writes: Vec<Write>, model: &ModelIdentity) -> Result<Written, StageError>;
}

/// What is visible of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadedVersion {
    pub version: Version,
    pub rows: u32,
}

/// A call that was acknowledged.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// State of the target that first shows the writes, where it counts states.
    pub version: Option<u64>,
}

/// Opens collections of a kind of target by name.
pub type OpenTarget = Arc<dyn Fn(&str) -> Result<Arc<dyn Target>, StageError> + Send + Sync>;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
