//! Defines the errors of a search. The caller maps them to an exit code or an HTTP status.

use std::error::Error;
use std::sync::Arc;

use docweir_core::error::StageError;
use docweir_index::VectorError;

use super::filter::FilterError;

/// Error of another module that made a search fail.
pub type Cause = Arc<dyn Error + Send + Sync>;

/// Describes why a search failed. The error contains no text of the query or of a document. The underlying error is
/// kept unchanged.
#[derive(Debug, thiserror::Error)]
pub enum SearchError {
    /// A field of the query has an invalid value.
    #[error("invalid query field `{field}`: {reason}")]
    BadQuery { field: &'static str, reason: String },
    #[error(transparent)]
    BadFilter(#[from] FilterError),
    /// The query exceeds the token limit of the model. Full-text mode has no such limit.
    #[error("the query has {tokens} tokens, but model {model} accepts {window}; shorten it or use full-text mode")]
    TextTooLong { tokens: usize, window: usize, model: String },
    /// The name is not a valid collection name.
    #[error(transparent)]
    BadCollection(VectorError),
    /// The collection has no commits.
    #[error("collection `{collection}` does not exist; ingest documents or records into it first")]
    UnknownCollection { collection: String },
    /// The requested version of the collection is not retained.
    #[error(transparent)]
    UnknownVersion(VectorError),
    /// The query's vector is not comparable with the vectors of the collection.
    #[error(transparent)]
    ModelMismatch(VectorError),
    /// The embedder could not be opened. Full-text mode needs no embedder.
    #[error("cannot open the embedder for queries: {0}")]
    NoEmbedder(#[source] Cause),
    #[error("cannot embed the query: {0}")]
    Embedding(#[source] StageError),
    /// The index could not be read.
    #[error(transparent)]
    Index(VectorError),
    /// The thread that searched panicked, or the runtime is shutting down.
    #[error("the search was interrupted: {0}")]
    Interrupted(#[source] tokio::task::JoinError),
}

impl SearchError {
    /// Returns a stable error code for programs.
    pub fn code(&self) -> &'static str {
        match self {
            Self::BadQuery { .. } => "bad_query",
            Self::BadFilter(_) => "bad_filter",
            Self::TextTooLong { .. } => "query_too_long",
            Self::BadCollection(_) => "bad_collection",
            Self::UnknownCollection { .. } => "unknown_collection",
            Self::UnknownVersion(_) => "unknown_version",
            Self::ModelMismatch(_) => "model_mismatch",
            Self::NoEmbedder(_) => "no_embedder",
            Self::Embedding(_) => "embedding_failed",
            Self::Index(_) => "index_failed",
            Self::Interrupted(_) => "interrupted",
        }
    }

    pub(super) fn bad(field: &'static str, reason: impl Into<String>) -> Self {
        Self::BadQuery { field, reason: reason.into() }
    }
}

impl From<VectorError> for SearchError {
    fn from(error: VectorError) -> Self {
        match error {
            VectorError::BadCollection(_) => Self::BadCollection(error),
            VectorError::NotRetained { .. } => Self::UnknownVersion(error),
            VectorError::ModelMismatch { .. } => Self::ModelMismatch(error),
            VectorError::Query(reason) => Self::bad("query", reason),
            other => Self::Index(other),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_the_index_are_told_apart() {
        let mismatch = || VectorError::ModelMismatch { collection: "c".into(), stored: "a".into(), given: "b".into() };
        let table = [
            (VectorError::BadCollection("A b".into()), "bad_collection", "invalid collection name `A b`"),
            (
                VectorError::NotRetained { collection: "c".into(), asked: 9, retained: 1, version: 3 },
                "unknown_version",
                "version 9 of `c`",
            ),
            (mismatch(), "model_mismatch", "collection `c` holds vectors of model a"),
            (
                VectorError::Query("the vector is odd".into()),
                "bad_query",
                "invalid query field `query`: the vector is odd",
            ),
            (VectorError::Damaged { file: "f".into(), reason: "cut".into() }, "index_failed", "vector file `f`"),
        ];
        for (error, code, text) in table {
            let error = SearchError::from(error);
            assert_eq!(error.code(), code);
            assert!(error.to_string().starts_with(text), "{error}");
        }
    }

    #[test]
    fn a_failed_embedding_keeps_its_cause() {
        let error = SearchError::Embedding(StageError::transient("cut", "the connection was cut"));
        assert_eq!(error.to_string(), "cannot embed the query: the connection was cut");
        let cause = error.source().and_then(|cause| cause.downcast_ref::<StageError>());
        assert_eq!(cause.map(|cause| cause.code.as_str()), Some("cut"));
    }
}
