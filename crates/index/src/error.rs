//! What can go wrong in the vector store, and which class of failure it is to a stage.

use docweir_core::error::{ErrorClass, StageError};
use docweir_core::model::ModelIdentity;
use docweir_objects::ObjectError;
use docweir_target::{Limit, WriteError};

/// Says what was tried on which collection or file and what to do next. Never holds text of a document.
#[derive(Debug, thiserror::Error)]
pub enum VectorError {
    #[error("`{0}` is no collection name: use 1 to 64 lower-case letters, digits, `_` and `-`")]
    BadCollection(String),
    /// The manifest was written by a newer program.
    #[error(
        "`{key}` has format {found} and this program knows up to {known}: use the newer program that wrote it; \
         nothing was changed"
    )]
    TooNew { key: String, found: u32, known: u32 },
    /// The one register is not readable. Nothing is guessed.
    #[error("the manifest `{key}` can't be read ({reason}): restore it from a backup of the state folder")]
    BadManifest { key: String, reason: String },
    /// A live file is missing, truncated or altered.
    #[error(
        "the vector file `{file}` is damaged ({reason}): restore it from a backup, or ingest the documents that it \
         held again"
    )]
    Damaged { file: String, reason: String },
    /// Two models never share a generation.
    #[error(
        "collection `{collection}` holds vectors of model {stored} and can't mix them with {given}: set the embedding \
         model back, or ingest into another collection"
    )]
    ModelMismatch { collection: String, stored: String, given: String },
    /// A document that can never be stored as it is.
    #[error("document `{document}`: {reason}")]
    Rejected { document: String, reason: String },
    /// More in one commit than the limits allow. The caller makes smaller commits.
    #[error("a commit of {found} {what} is over the limit of {limit}: commit less at once or raise `vectors.{key}`")]
    TooLarge { what: &'static str, found: u64, limit: u64, key: &'static str },
    #[error("a commit without documents was asked for")]
    EmptyCommit,
    /// Others won the manifest every time. Nothing of this commit is visible.
    #[error("the manifest of `{collection}` was changed by others {attempts} times in a row: try again")]
    Contention { collection: String, attempts: u32 },
    /// The replies were lost and the manifest could not be looked at. To commit the same versions again is harmless.
    #[error("it is not known whether the commit to `{collection}` was applied after {attempts} tries: commit it again")]
    Unresolved { collection: String, attempts: u32 },
    /// The collector has moved on since this commit began: what it says may be out of date.
    #[error(
        "the commit to `{collection}` began at version {base} and the store has collected up to {floor} since: check \
         that the documents are still wanted and commit anew"
    )]
    Stalled { collection: String, base: u64, floor: u64 },
    /// The lease was lost, or an end was asked for.
    #[error("the merge of files of `{collection}` was given up: nothing was changed")]
    Cancelled { collection: String },
    /// A version that `as_of` or a rollback can't reach.
    #[error(
        "version {asked} of `{collection}` can't be seen: versions {retained} to {version} are kept; \
         `docweir store info` lists them"
    )]
    NotRetained { collection: String, asked: u64, retained: u64, version: u64 },
    /// Reloaded again and again while others removed files.
    #[error("no consistent view of `{collection}` in {attempts} tries: its files were replaced meanwhile; try again")]
    NoStableView { collection: String, attempts: u32 },
    #[error(
        "a search of `{collection}` needs about {needed} bytes of memory and `vectors.max_memory_bytes` is {limit}: \
         raise it or compact the collection"
    )]
    Memory { collection: String, needed: u64, limit: u64 },
    /// A search request that makes no sense.
    #[error("{0}")]
    Query(String),
    #[error("can't encode a vector file: {0}")]
    Encode(String),
    #[error(transparent)]
    Object(#[from] ObjectError),
}

impl VectorError {
    /// A stable word for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadCollection(_) => "bad_collection",
            Self::TooNew { .. } => "store_too_new",
            Self::BadManifest { .. } => "bad_manifest",
            Self::Damaged { .. } => "damaged_vector_file",
            Self::ModelMismatch { .. } => "model_mismatch",
            Self::Rejected { .. } => "rejected_rows",
            Self::TooLarge { .. } => "commit_too_large",
            Self::EmptyCommit => "empty_commit",
            Self::Contention { .. } => "manifest_contention",
            Self::Unresolved { .. } => "commit_unresolved",
            Self::Stalled { .. } => "commit_stalled",
            Self::Cancelled { .. } => "merge_cancelled",
            Self::NotRetained { .. } => "version_not_retained",
            Self::NoStableView { .. } => "view_unsettled",
            Self::Memory { .. } => "vector_memory_limit",
            Self::Query(_) => "bad_query",
            Self::Encode(_) => "encode_failed",
            Self::Object(_) => "object_store",
        }
    }

    /// What the retry decision looks at.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Rejected { .. }
            | Self::TooLarge { .. }
            | Self::EmptyCommit
            | Self::Query(_)
            | Self::Encode(_)
            | Self::NotRetained { .. } => ErrorClass::Permanent,
            // Losing a race says nothing against the document.
            Self::Contention { .. } => ErrorClass::Throttled,
            Self::Unresolved { .. } | Self::Stalled { .. } | Self::NoStableView { .. } | Self::Cancelled { .. } => {
                ErrorClass::Transient
            }
            Self::Object(e) => match e {
                ObjectError::Unknown { .. } | ObjectError::Transient { .. } | ObjectError::Conflict(_) => {
                    ErrorClass::Transient
                }
                ObjectError::NotFound(_)
                | ObjectError::Storage { .. }
                | ObjectError::Archived(_)
                | ObjectError::BadKey(_) => ErrorClass::System,
            },
            Self::BadCollection(_)
            | Self::TooNew { .. }
            | Self::BadManifest { .. }
            | Self::Damaged { .. }
            | Self::ModelMismatch { .. }
            | Self::Memory { .. } => ErrorClass::System,
        }
    }
}

impl From<WriteError> for VectorError {
    fn from(error: WriteError) -> Self {
        match error {
            WriteError::Rejected { document, reason } => Self::Rejected { document, reason },
            WriteError::TooLarge { what, limited, found, limit } => {
                let key = match limited {
                    Limit::Documents => "max_commit_documents",
                    Limit::Rows => "max_commit_rows",
                    Limit::Bytes => "max_commit_bytes",
                };
                Self::TooLarge { what, found, limit, key }
            }
            WriteError::Empty => Self::EmptyCommit,
        }
    }
}

impl From<VectorError> for StageError {
    fn from(error: VectorError) -> Self {
        StageError::new(error.class(), error.code(), error.to_string())
    }
}

/// `all-MiniLM-L6-v2 (384 dimensions, weights 53aa5117…)`
pub fn describe(model: &ModelIdentity) -> String {
    let weights: String = model.weights.chars().take(12).collect();
    format!("`{}` ({} dimensions, weights {weights})", model.id, model.dimension)
}
