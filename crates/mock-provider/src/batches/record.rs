//! Defines the stored form of a batch, and its JSON form in replies.

use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use crate::charges::BatchEntry;
use crate::clock::unix_millis;
use crate::faults::Rule;

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MockBatchStatus {
    #[default]
    Validating,
    InProgress,
    Finalizing,
    Completed,
    Failed,
    Expired,
    Cancelling,
    Cancelled,
}

impl MockBatchStatus {
    pub fn name(self) -> &'static str {
        match self {
            MockBatchStatus::Validating => "validating",
            MockBatchStatus::InProgress => "in_progress",
            MockBatchStatus::Finalizing => "finalizing",
            MockBatchStatus::Completed => "completed",
            MockBatchStatus::Failed => "failed",
            MockBatchStatus::Expired => "expired",
            MockBatchStatus::Cancelling => "cancelling",
            MockBatchStatus::Cancelled => "cancelled",
        }
    }
}

/// Describes an error that makes a whole batch fail.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct BatchError {
    pub code: String,
    pub message: String,
    pub param: Option<String>,
    pub line: Option<u64>,
}

/// Counts the processed rows of a batch, and records the lengths of the output file and the error file. If the process
/// is killed during a write, a file may be longer than its recorded length. The excess is cut off at the next start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    pub done: u64,
    pub completed: u64,
    pub failed: u64,
    pub output_bytes: u64,
    pub error_bytes: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Batch {
    pub id: String,
    pub number: u64,
    /// API key that the rows are charged to.
    pub key: String,
    pub input_file_id: String,
    pub metadata: Value,
    pub status: MockBatchStatus,
    pub created_ms: u64,
    pub expires_ms: u64,
    pub in_progress_ms: Option<u64>,
    pub finalizing_ms: Option<u64>,
    pub completed_ms: Option<u64>,
    pub failed_ms: Option<u64>,
    pub expired_ms: Option<u64>,
    pub cancelling_ms: Option<u64>,
    pub cancelled_ms: Option<u64>,
    pub errors: Vec<BatchError>,
    /// Fault rule that applies to this batch. The rule is selected when the batch is created. `None` for a batch
    /// without a fault.
    pub outcome: Option<Rule>,
    pub model: Option<String>,
    /// Number of rows; 0 until the input file is checked.
    pub total: u64,
    /// Number of tokens of all rows.
    pub tokens: u64,
    pub charged_tokens: u64,
    pub progress: Progress,
    pub output_file_id: Option<String>,
    pub error_file_id: Option<String>,
    /// True if lists omit the batch until a later batch has ended.
    #[serde(default)]
    pub hidden: bool,
    /// Time from which lists show a hidden batch, in milliseconds since the Unix epoch.
    #[serde(default)]
    pub shown_ms: Option<u64>,
    /// Number of times that the completed batch was read.
    #[serde(default)]
    pub reads: u32,
}

impl Batch {
    /// Sets the status, and the time of the change.
    pub fn move_to(&mut self, status: MockBatchStatus) {
        let now = Some(unix_millis());
        self.status = status;
        match status {
            MockBatchStatus::Validating => {}
            MockBatchStatus::InProgress => self.in_progress_ms = now,
            MockBatchStatus::Finalizing => self.finalizing_ms = now,
            MockBatchStatus::Completed => self.completed_ms = now,
            MockBatchStatus::Failed => self.failed_ms = now,
            MockBatchStatus::Expired => self.expired_ms = now,
            MockBatchStatus::Cancelling => self.cancelling_ms = now,
            MockBatchStatus::Cancelled => self.cancelled_ms = now,
        }
    }

    pub fn fail(&mut self, errors: Vec<BatchError>) {
        self.move_to(MockBatchStatus::Failed);
        self.errors = errors;
    }

    pub fn shown(&self) -> Value {
        let seconds = |ms: Option<u64>| json!(ms.map(|ms| ms / 1000));
        let errors = match self.errors.is_empty() {
            true => Value::Null,
            false => json!({"object": "list", "data": self.errors}),
        };
        json!({
            "id": self.id,
            "object": "batch",
            "endpoint": super::ENDPOINT,
            "model": self.model,
            "errors": errors,
            "input_file_id": self.input_file_id,
            "completion_window": "24h",
            "status": self.status.name(),
            "output_file_id": self.output_file_id,
            "error_file_id": self.error_file_id,
            "created_at": self.created_ms / 1000,
            "in_progress_at": seconds(self.in_progress_ms),
            "expires_at": self.expires_ms / 1000,
            "finalizing_at": seconds(self.finalizing_ms),
            "completed_at": seconds(self.completed_ms),
            "failed_at": seconds(self.failed_ms),
            "expired_at": seconds(self.expired_ms),
            "cancelling_at": seconds(self.cancelling_ms),
            "cancelled_at": seconds(self.cancelled_ms),
            "request_counts": {
                "total": self.total,
                "completed": self.progress.completed,
                "failed": self.progress.failed,
            },
            "usage": {
                "input_tokens": self.charged_tokens,
                "input_tokens_details": {"cached_tokens": 0},
                "output_tokens": 0,
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": self.charged_tokens,
            },
            "metadata": self.metadata,
        })
    }

    pub fn entry(&self) -> BatchEntry {
        BatchEntry {
            id: self.id.clone(),
            status: self.status.name().into(),
            metadata: self.metadata.clone(),
            input_file_id: self.input_file_id.clone(),
            total: self.total,
            completed: self.progress.completed,
            failed: self.progress.failed,
            charged_tokens: self.charged_tokens,
        }
    }
}
