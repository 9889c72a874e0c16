//! What can go wrong with a document, and what is to be done about it.
//!
//! A stage never decides whether it is tried again: it says what *kind* of failure it met, and the pool's
//! supervisor decides from the class and the persisted attempts. The text of an error says what was tried on
//! which input and what to do next, in lower case and without a full stop.

use std::fmt;
use std::time::Duration;

use serde::{Deserialize, Serialize};

/// The class of a failure: the only thing that the retry decision looks at besides the attempts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ErrorClass {
    /// The other side asked for less. Waits and tries again; never consumes an attempt.
    Throttled,
    /// May well go away: a cut connection, a busy file, a 5xx. Consumes an attempt.
    Transient,
    /// The stage's deadline ended the work. Consumes an attempt.
    Timeout,
    /// The worker or its child process died under the work (panic, signal, memory limit). Consumes an attempt.
    Crash,
    /// The document will never pass: encrypted, no such format, over a limit. Never tried again.
    Permanent,
    /// Not the document's fault and not to be held against it: full disk, read-only state, broken store.
    /// Consumes no attempt; escalates until the process ends with its own exit code.
    System,
}

/// A failure of one stage on one document.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StageError {
    pub class: ErrorClass,
    /// A stable word for programs, in snake case: `encrypted`, `not_a_pdf`, `too_many_pages`.
    pub code: String,
    /// For people. Holds no text of the document and no secret.
    pub message: String,
    /// The causes, outermost first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub causes: Vec<String>,
    /// How long the other side asked to wait (throttling only).
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

    pub fn throttled(message: impl Into<String>, retry_after: Option<Duration>) -> Self {
        Self { retry_after, ..Self::new(ErrorClass::Throttled, "throttled", message) }
    }

    pub fn with_code(self, code: impl Into<String>) -> Self {
        Self { code: code.into(), ..self }
    }

    /// Adds an error and all its sources as causes.
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
