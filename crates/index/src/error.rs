//! Defines the errors of the vector store and their failure classes.

use docweir_core::error::{ErrorClass, StageError};
use docweir_core::model::ModelIdentity;
use docweir_objects::ObjectError;
use docweir_target::{Limit, WriteError};

/// Describes a failed operation: the collection or file, the reason, and what to do next. Never contains text of a
/// document.
#[derive(Debug, thiserror::Error)]
pub enum VectorError {
    #[error("invalid collection name `{0}`; use 1 to 64 lower-case letters, digits, `_` and `-`")]
    BadCollection(String),
    /// The manifest or a vector file was written by a newer program.
    #[error(
        "`{key}` has format {found}, but this program supports at most {known}; use the newer program that wrote it \
         (nothing was changed)"
    )]
    TooNew { key: String, found: u32, known: u32 },
    /// The manifest is unreadable or contradictory. The program does not try to repair it.
    #[error("manifest `{key}` is invalid ({reason}); restore it from a backup of the state folder")]
    BadManifest { key: String, reason: String },
    /// The manifest is missing, but the collection has files. Committing to an empty manifest would give up these
    /// files.
    #[error(
        "manifest `{key}` is missing, but {files} files of its collection exist; restore it from a backup, or rebuild it \
         with `docweir store verify --repair` (nothing was changed)"
    )]
    ManifestLost { key: String, files: u64 },
    /// A live file is missing, truncated or altered.
    #[error("vector file `{file}` is damaged ({reason}); restore it from a backup, or ingest its documents again")]
    Damaged { file: String, reason: String },
    /// The model of the vectors differs from the model of the generation. A generation never holds vectors of two
    /// models.
    #[error(
        "collection `{collection}` holds vectors of model {stored}, which cannot be mixed with vectors of model \
         {given}; set the embedding model back, or ingest into another collection"
    )]
    ModelMismatch { collection: String, stored: String, given: String },
    /// The document cannot be stored, because its content is invalid or exceeds a limit.
    #[error("cannot store document `{document}`: {reason}")]
    Rejected { document: String, reason: String },
    /// The commit exceeds a limit. The caller can split the commit.
    #[error("{found} {what} exceed the limit of {limit} for one commit; split the commit or raise `vectors.{key}`")]
    TooLarge { what: &'static str, found: u64, limit: u64, key: &'static str },
    #[error("commit contains no documents")]
    EmptyCommit,
    /// Other writers won the swap of the manifest in every attempt. No part of this commit is visible.
    #[error(
        "cannot change the manifest of `{collection}`: other writers were faster in each of {attempts} attempts; try \
         again"
    )]
    Contention { collection: String, attempts: u32 },
    /// Replies were lost, so the outcome of the commit is unknown. The manifest does not contain the commit, but a
    /// delayed request may still add it. Committing the same versions again is harmless.
    #[error("outcome of the commit to `{collection}` is unknown after {attempts} attempts; commit again")]
    Unresolved { collection: String, attempts: u32 },
    /// The base version of the commit is below `gc_floor`, because garbage collection or a rollback has raised
    /// `gc_floor`. The documents may be out of date.
    #[error(
        "commit to `{collection}` began at version {base}, but garbage has since been collected up to version \
         {floor}; check that the documents are still wanted, then commit again"
    )]
    Stalled { collection: String, base: u64, floor: u64 },
    /// The merge was cancelled, or the merging process has lost its lease.
    #[error("merge in collection `{collection}` was aborted; nothing was changed")]
    Cancelled { collection: String },
    /// The result of a merge would be larger than the local copies of remote files may be. Nobody could open it.
    #[error(
        "merge in collection `{collection}` would make a file of more than {limit} bytes, which `copies.max_bytes` does \
         not allow; raise the limit (nothing was changed)"
    )]
    MergeTooLarge { collection: String, limit: u64 },
    /// The requested version is not available for viewing (`as_of`) or for a rollback.
    #[error(
        "version {asked} of `{collection}` is not available; versions {retained} to {version} are kept, and \
         `docweir store info` lists them"
    )]
    NotRetained { collection: String, asked: u64, retained: u64, version: u64 },
    /// Every attempt to open the files failed, because other processes had removed some of the files.
    #[error(
        "cannot open `{collection}`: other processes replaced its files during each of {attempts} attempts; try again"
    )]
    NoStableView { collection: String, attempts: u32 },
    #[error(
        "collection `{collection}` needs about {needed} bytes of memory, but `vectors.max_memory_bytes` is {limit}; \
         raise the limit or compact the collection"
    )]
    Memory { collection: String, needed: u64, limit: u64 },
    /// The search request is invalid.
    #[error("{0}")]
    Query(String),
    #[error("cannot encode a vector file: {0}")]
    Encode(String),
    #[error(transparent)]
    Object(#[from] ObjectError),
}

impl VectorError {
    /// Returns a stable error code for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadCollection(_) => "bad_collection",
            Self::TooNew { .. } => "store_too_new",
            Self::BadManifest { .. } => "bad_manifest",
            Self::ManifestLost { .. } => "manifest_lost",
            Self::Damaged { .. } => "damaged_vector_file",
            Self::ModelMismatch { .. } => "model_mismatch",
            Self::Rejected { .. } => "rejected_rows",
            Self::TooLarge { .. } => "commit_too_large",
            Self::EmptyCommit => "empty_commit",
            Self::Contention { .. } => "manifest_contention",
            Self::Unresolved { .. } => "commit_unresolved",
            Self::Stalled { .. } => "commit_stalled",
            Self::Cancelled { .. } => "merge_cancelled",
            Self::MergeTooLarge { .. } => "merge_too_large",
            Self::NotRetained { .. } => "version_not_retained",
            Self::NoStableView { .. } => "view_unsettled",
            Self::Memory { .. } => "vector_memory_limit",
            Self::Query(_) => "bad_query",
            Self::Encode(_) => "encode_failed",
            Self::Object(_) => "object_store",
        }
    }

    /// Returns the class of the failure, which decides about retries.
    pub fn class(&self) -> ErrorClass {
        match self {
            Self::Rejected { .. }
            | Self::TooLarge { .. }
            | Self::EmptyCommit
            | Self::Query(_)
            | Self::Encode(_)
            | Self::NotRetained { .. } => ErrorClass::Permanent,
            // Losing a race is no fault of the document.
            Self::Contention { .. } => ErrorClass::Throttled,
            // The store did not answer, or others changed the files again and again.
            Self::Unresolved { .. } | Self::Stalled { .. } | Self::NoStableView { .. } => ErrorClass::Unavailable,
            Self::Cancelled { .. } => ErrorClass::Transient,
            Self::Object(e) => match e {
                ObjectError::Unknown { .. } | ObjectError::Transient { .. } | ObjectError::Conflict(_) => {
                    ErrorClass::Unavailable
                }
                // The object may be a manifest or hold many documents, so no single document is to blame.
                ObjectError::TooLarge { .. }
                | ObjectError::NotFound(_)
                | ObjectError::Storage { .. }
                | ObjectError::Archived(_)
                | ObjectError::BadKey(_) => ErrorClass::System,
            },
            Self::BadCollection(_)
            | Self::TooNew { .. }
            | Self::BadManifest { .. }
            | Self::ManifestLost { .. }
            | Self::Damaged { .. }
            | Self::ModelMismatch { .. }
            | Self::MergeTooLarge { .. }
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

/// Describes a model for messages: `all-MiniLM-L6-v2 (384 dimensions, weights 53aa5117…)`.
pub fn describe(model: &ModelIdentity) -> String {
    let weights: String = model.weights.chars().take(12).collect();
    format!("`{}` ({} dimensions, weights {weights})", model.id, model.dimension)
}
