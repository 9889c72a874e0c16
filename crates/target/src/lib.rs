//! Defines the interface between the pipeline and the stores that hold the rows and vectors of documents.
//!
//! A [`Target`] is one collection of one store: the embedded index (`docweir-index`), a database or a service. The
//! loading stage, the recorder and the harvester write through this trait and know nothing else about the store. To
//! support another store, implement the trait and pass the tests in `conformance` (feature `testing`).
//!
//! # Guarantees of every target
//! - **The highest version of a document wins**, whatever the order of the calls. A deletion is a version too.
//! - **Writing is idempotent**: repeating a call whose reply was lost changes nothing.
//! - **A document version is visible as a whole or not at all.** No row of an older version stays visible with it.
//! - **Acknowledged writes are visible** to every later call of [`Target::held`].
//!
//! | module | contents |
//! | --- | --- |
//! | [`rows`] | rows of document versions, and deletions |
//! | [`capabilities`] | limits and properties of a target |
//! | `conformance`, `testing` | tests that every target passes, and small documents for them (feature `testing`) |

pub mod capabilities;
#[cfg(any(test, feature = "testing"))]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "used only in tests")]
pub mod conformance;
mod error;
mod metadata;
pub mod rows;
#[cfg(any(test, feature = "testing"))]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "used only in tests")]
pub mod testing;

use std::sync::Arc;

use async_trait::async_trait;
use docweir_core::documents::{DocumentId, Version};
use docweir_core::error::StageError;
use docweir_core::model::ModelIdentity;

pub use capabilities::{Capabilities, Limit};
pub use error::WriteError;
pub use metadata::RowMetadata;
pub use rows::{DocumentRows, Row, Write, gather};

/// Provides access to one collection of a vector store. All components that write to the collection share the target.
#[async_trait]
pub trait Target: Send + Sync + 'static {
    /// Returns the kind of target for messages and metrics, for example `index` or `qdrant`.
    fn kind(&self) -> &'static str;

    fn collection(&self) -> &str;

    fn capabilities(&self) -> Capabilities;

    /// Returns the model whose vectors the collection holds; `None` if the collection has no vectors yet.
    async fn model(&self) -> Result<Option<ModelIdentity>, StageError>;

    /// Checks that vectors of `model` can be stored alongside the existing vectors. The pipeline calls this method
    /// before it pays for any vector.
    ///
    /// # Errors
    /// Returns an error of class system if the models differ. The error names both models.
    async fn check_model(&self, model: &ModelIdentity) -> Result<(), StageError>;

    /// Returns a new writer. Each component uses its own writer, and several writers of a process may write
    /// concurrently.
    fn writer(self: Arc<Self>) -> Box<dyn TargetWriter>;

    /// Returns the visible version of each document, in the order of `documents`. Returns `None` for a document that
    /// is absent or deleted.
    async fn held(&self, documents: &[DocumentId]) -> Result<Vec<Option<LoadedVersion>>, StageError>;

    /// Returns the first `limit` visible documents after the id `after`, in the order of their ids. If `after` is
    /// `None`, begins with the first document.
    async fn list(
        &self,
        after: Option<&DocumentId>,
        limit: usize,
    ) -> Result<Vec<(DocumentId, LoadedVersion)>, StageError>;

    /// Returns the visible rows of each document, including their vectors. The documents are in the order of
    /// `documents`, and the rows of a document are in the order of their ordinals. Absent documents have no rows.
    async fn rows(&self, documents: &[DocumentId]) -> Result<Vec<Vec<Row>>, StageError>;
}

/// Writes to one target on behalf of one component.
#[async_trait]
pub trait TargetWriter: Send {
    /// Records the current state of the target. The next [`write`](TargetWriter::write) is based on this state.
    ///
    /// A caller that writes a document under a claim first calls `begin`, then checks the claim, and then writes. If
    /// the document is deleted before the check, the check fails. If the document is deleted after the check, the
    /// deletion is newer than the recorded state. If a target does not need a recorded state, this method does
    /// nothing.
    async fn begin(&mut self) -> Result<(), StageError>;

    /// Writes document versions durably. If several writes concern the same document, only the write with the highest
    /// version counts. The future can be dropped at any await point, and the call can be repeated.
    ///
    /// # Errors
    /// Returns an error whose class decides about retries. After an error, the documents may nevertheless be visible,
    /// because the reply may be lost after a successful write. If [`Capabilities::atomic`] is `false`, it is also
    /// possible that only some of the documents are visible.
    async fn write(&mut self, writes: Vec<Write>, model: &ModelIdentity) -> Result<Written, StageError>;
}

/// Describes the visible version of a document.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoadedVersion {
    pub version: Version,
    pub rows: u32,
}

/// Reports an acknowledged write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Written {
    /// Number of the first target state that contains the writes; `None` if the target does not number its states.
    pub version: Option<u64>,
}

/// Opens a collection by its name, in one kind of target.
pub type OpenTarget = Arc<dyn Fn(&str) -> Result<Arc<dyn Target>, StageError> + Send + Sync>;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
