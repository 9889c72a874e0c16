//! Defines and classifies the failures of a stage on a document.
//!
//! A stage never decides whether it is retried. The stage reports the class of the failure, and the pool's supervisor
//! decides from the class and the stored number of attempts. The message of an error states what failed on which
//! input and what to do next, in lower case and without a full stop.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// Classifies a failure. The decision to retry depends only on the class and the number of attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// The endpoint throttles calls. The stage is retried after a wait; no attempt is consumed.
    Throttled,
    /// The failure may be temporary, such as a broken connection, a busy file or an HTTP status 5xx. One attempt is
    /// consumed.
    Transient,
    /// The stage exceeded its deadline. One attempt is consumed.
    Timeout,
    /// The worker or its child process died during the work (panic, signal, memory limit). One attempt is consumed.
    Crash,
    /// A store of Docweir, the machine or a whole service is unavailable. The document is not the cause, so no attempt is
    /// consumed. The work waits until the outage is over.
    Unavailable,
    /// The document can never be processed: it is encrypted, has an unsupported format or exceeds a limit. The stage
    /// is never retried.
    Permanent,
    /// The environment failed, not the document or its endpoint. Examples are a full disk, a read-only state folder
    /// or a broken store. No attempt is consumed. The failure escalates until the process ends with the matching exit
    /// code.
    System,
}

impl ErrorClass {
    /// Returns whether the same call may succeed later without a change by anybody.
    pub fn is_temporary(self) -> bool {
        matches!(self, Self::Throttled | Self::Transient | Self::Timeout | Self::Unavailable)
    }
}

/// Describes a failure of one stage on one document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageError {
    pub class: ErrorClass,
    /// Stable error code for programs, in snake case, such as `encrypted`, `not_a_pdf` or `too_many_pages`.
    pub code: String,
    /// Message for people. It contains no text of the document and no secret.
    pub message: String,
    /// Causes, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// Wait that the endpoint asked for. Only throttling errors have such a wait.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after: Option<Duration>,
}

impl StageError {
    pub fn new(class: ErrorClass, code: impl Into<String>, message: impl Into<String>) -> Self {
        Self { class, code: code.into(), message: message.into(), causes: Vec::new(), retry_after: None }
    }

    pub fn permanent(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Permanent, code, message)
    }

    pub fn transient(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Transient, code, message)
    }

    pub fn timeout(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Timeout, code, message)
    }

    pub fn crash(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Crash, code, message)
    }

    pub fn system(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ErrorClass::System, code, message)
    }

    pub fn unavailable(code: impl Into<String>, message: impl Into<String>) -> Self {
        Self::new(ErrorClass::Unavailable, code, message)
    }

    pub fn throttled(message: impl Into<String>, retry_after: Option<Duration>) -> Self {
        Self { retry_after, ..Self::new(ErrorClass::Throttled, "throttled", message) }
    }

    pub fn with_code(self, code: impl Into<String>) -> Self {
        Self { code: code.into(), ..self }
    }

    /// Appends `error` and all its sources to the list of causes.
    pub fn caused_by(mut self, error: &(dyn std::error::Error + 'static)) -> Self {
        let mut next = Some(error);
        while let Some(e) = next {
            self.causes.push(e.to_string());
            next = e.source();
        }
        self
    }
}

impl fmt::Display for StageError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        for cause in &self.causes {
            write!(f, ": {cause}")?;
        }
        Ok(())
    }
}

impl std::error::Error for StageError {}
