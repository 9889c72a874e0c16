//! Calls the provider's Batch API.

use std::collections::BTreeMap;

use reqwest::Method;
use serde_json::{Value, json};

use super::call_error::CallError;
use super::client::{Client, with_json};
use super::page::{Page, page};
use super::request_lines::ENDPOINT;
use super::wire::{number, text, word};

/// Names the status of a batch, as the server reports it. Servers other than OpenAI may report further statuses.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum RemoteBatchStatus {
    Validating,
    InProgress,
    Finalizing,
    Completed,
    Failed,
    Expired,
    Cancelling,
    Cancelled,
    Unknown(String),
}

impl RemoteBatchStatus {
    /// Returns whether the status is final. An unknown status counts as not final.
    #[cfg(test)]
    pub fn is_terminal(&self) -> bool {
        use RemoteBatchStatus::*;
        matches!(self, Completed | Failed | Expired | Cancelled)
    }

    pub fn as_str(&self) -> &str {
        match self {
            RemoteBatchStatus::Validating => "validating",
            RemoteBatchStatus::InProgress => "in_progress",
            RemoteBatchStatus::Finalizing => "finalizing",
            RemoteBatchStatus::Completed => "completed",
            RemoteBatchStatus::Failed => "failed",
            RemoteBatchStatus::Expired => "expired",
            RemoteBatchStatus::Cancelling => "cancelling",
            RemoteBatchStatus::Cancelled => "cancelled",
            RemoteBatchStatus::Unknown(name) => name,
        }
    }
}

impl From<&str> for RemoteBatchStatus {
    fn from(name: &str) -> Self {
        match name {
            "validating" => RemoteBatchStatus::Validating,
            "in_progress" => RemoteBatchStatus::InProgress,
            "finalizing" => RemoteBatchStatus::Finalizing,
            "completed" => RemoteBatchStatus::Completed,
            "failed" => RemoteBatchStatus::Failed,
            "expired" => RemoteBatchStatus::Expired,
            "cancelling" | "canceling" => RemoteBatchStatus::Cancelling,
            "cancelled" | "canceled" => RemoteBatchStatus::Cancelled,
            other => RemoteBatchStatus::Unknown(word(other)),
        }
    }
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct RequestCounts {
    pub total: u64,
    pub completed: u64,
    pub failed: u64,
}

/// Describes why a batch failed as a whole. The provider's message is left out, because it may quote a text.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BatchProblem {
    pub code: String,
    /// Number of the line in the input file, from 1. Absent if the problem concerns the whole batch.
    pub line: Option<u64>,
}

/// Describes a batch, as the server reports it. Times are Unix times in seconds.
#[derive(Clone, Debug, PartialEq)]
pub struct BatchObject {
    pub id: String,
    pub status: RemoteBatchStatus,
    pub input_file_id: Option<String>,
    pub output_file_id: Option<String>,
    pub error_file_id: Option<String>,
    pub request_counts: RequestCounts,
    /// Number of tokens charged so far; `None` if the server does not report it.
    pub tokens: Option<u64>,
    pub created_at: Option<u64>,
    pub expires_at: Option<u64>,
    pub errors: Vec<BatchProblem>,
    pub metadata: BTreeMap<String, String>,
}

impl BatchObject {
    /// Reads a batch from JSON. Returns `None` if the JSON contains no id. Other fields count as absent if they are
    /// missing, null or of another type.
    pub fn read(value: &Value) -> Option<Self> {
        let part = |field| value.get(field).unwrap_or(&Value::Null);
        let counts = part("request_counts");
        let count = |field| number(counts, field).unwrap_or_default();
        let usage = part("usage");
        let errors = part("errors");
        let errors = errors.as_array().or_else(|| errors.get("data")?.as_array());
        let problem = |error: &Value| BatchProblem {
            code: word(&text(error, "code").unwrap_or_default()),
            line: number(error, "line"),
        };
        let metadata = part("metadata").as_object().into_iter().flatten();
        Some(Self {
            id: text(value, "id")?,
            status: text(value, "status").unwrap_or_default().as_str().into(),
            input_file_id: text(value, "input_file_id"),
            output_file_id: text(value, "output_file_id"),
            error_file_id: text(value, "error_file_id"),
            request_counts: RequestCounts {
                total: count("total"),
                completed: count("completed"),
                failed: count("failed"),
            },
            tokens: ["total_tokens", "input_tokens", "prompt_tokens"].iter().find_map(|field| number(usage, field)),
            created_at: number(value, "created_at"),
            expires_at: number(value, "expires_at"),
            errors: errors.into_iter().flatten().map(problem).collect(),
            metadata: metadata.filter_map(|(key, value)| Some((key.clone(), value.as_str()?.to_owned()))).collect(),
        })
    }
}

impl Client {
    /// Creates a batch. The API has no idempotency key, so a repeated call can create a second batch. If the call
    /// fails and [`CallError::may_be_charged`] is true for the error, the batch may exist. In this case, list the
    /// batches and search for `metadata` instead of repeating the call.
    pub async fn create_batch(
        &self,
        input_file_id: &str,
        metadata: &BTreeMap<String, String>,
    ) -> Result<BatchObject, CallError> {
        let body = json!({
            "input_file_id": input_file_id,
            "endpoint": ENDPOINT,
            "completion_window": "24h",
            "metadata": metadata,
        });
        self.batch(with_json(self.request(Method::POST, &["batches"], &[])?, &body)?).await
    }

    pub async fn get_batch(&self, id: &str) -> Result<BatchObject, CallError> {
        self.batch(self.request(Method::GET, &["batches", id], &[])?).await
    }

    /// Cancels a batch. Completed rows stay completed and charged. For a batch that has already ended, the server
    /// reports a conflict, which becomes [`CallError::Failed`].
    pub async fn cancel_batch(&self, id: &str) -> Result<BatchObject, CallError> {
        self.batch(self.request(Method::POST, &["batches", id, "cancel"], &[])?).await
    }

    /// Lists batches, newest first. `after` is [`Page::next`] of the previous page, or `None` for the first page.
    pub async fn list_batches(&self, after: Option<&str>, limit: u32) -> Result<Page<BatchObject>, CallError> {
        let limit_text = limit.to_string();
        let mut query = vec![("limit", limit_text.as_str())];
        query.extend(after.map(|after| ("after", after)));
        let answer = self.call::<Value>(self.request(Method::GET, &["batches"], &query)?).await?;
        page(&answer.value, after, limit, BatchObject::read)
    }

    async fn batch(&self, request: reqwest::RequestBuilder) -> Result<BatchObject, CallError> {
        let answer = self.call::<Value>(request).await?.value;
        BatchObject::read(&answer).ok_or_else(|| CallError::Garbled("a batch without an id".into()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_status_is_known_by_its_name_and_strange_ones_are_kept() {
        let table = [
            ("validating", false),
            ("in_progress", false),
            ("finalizing", false),
            ("completed", true),
            ("failed", true),
            ("expired", true),
            ("cancelling", false),
            ("cancelled", true),
            ("paused", false),
        ];
        for (name, terminal) in table {
            let status = RemoteBatchStatus::from(name);
            assert_eq!((status.as_str(), status.is_terminal()), (name, terminal));
            assert_eq!(matches!(status, RemoteBatchStatus::Unknown(_)), name == "paused");
        }
        assert_eq!(RemoteBatchStatus::from("canceled"), RemoteBatchStatus::Cancelled);
    }

    #[test]
    fn objects_are_read_whatever_is_left_out_or_added() {
        let read = |value: Value| BatchObject::read(&value);
        let bare = read(json!({"id": "b"})).unwrap();
        assert_eq!((bare.status.as_str(), bare.tokens, &bare.errors), ("", None, &vec![]));
        let nulls = json!({
            "id": "b", "status": "", "output_file_id": null, "error_file_id": "", "request_counts": null, "usage": null,
            "created_at": null, "errors": null, "metadata": null, "colour": {"deep": [1]}
        });
        assert_eq!(read(nulls), Some(bare));
        let full = json!({
            "id": "b", "status": "failed", "input_file_id": "i", "output_file_id": "o", "error_file_id": "e",
            "request_counts": {"total": 3, "completed": 1, "failed": 2}, "usage": {"total_tokens": 9, "input_tokens": 8},
            "created_at": 5.5, "in_progress_at": 6, "expires_at": 7, "metadata": {"run": "r1", "odd": 1},
            "errors": {"object": "list", "data": [{"code": "invalid <json>", "message": "text of it", "line": 4}, {}]}
        });
        let full = read(full).unwrap();
        assert_eq!(full.request_counts, RequestCounts { total: 3, completed: 1, failed: 2 });
        assert_eq!((full.tokens, full.created_at, full.expires_at), (Some(9), Some(5), Some(7)));
        let problem = |code: &str, line| BatchProblem { code: code.into(), line };
        assert_eq!(full.errors, [problem("invalidjson", Some(4)), problem("", None)]);
        assert_eq!(full.metadata, BTreeMap::from([("run".into(), "r1".into())]));
        assert!(!format!("{full:?}").contains("text of it"));
        assert_eq!((read(json!({})), read(json!({"id": ""})), read(json!([]))), (None, None, None));
    }
}

#[cfg(test)]
#[path = "batch_tests.rs"]
mod over_the_wire;
