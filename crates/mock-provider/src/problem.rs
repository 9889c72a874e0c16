//! Builds errors in OpenAI's form: a status and `{"error": {"message", "type", "param", "code"}}`.

use std::time::Duration;

use serde_json::{Value, json};

#[derive(Clone, Debug, PartialEq)]
pub struct Problem {
    pub status: u16,
    pub kind: &'static str,
    pub code: Option<&'static str>,
    pub param: Option<&'static str>,
    pub message: String,
    /// Time after which a retry may succeed. This time is sent in the headers `retry-after` and `retry-after-ms`.
    pub retry_after: Option<Duration>,
    /// Additional headers with the state of the rate limits.
    pub headers: Vec<(&'static str, String)>,
}

impl Problem {
    pub fn new(status: u16, message: impl Into<String>) -> Self {
        let kind = match status {
            500.. => "server_error",
            _ => "invalid_request_error",
        };
        Self { status, kind, code: None, param: None, message: message.into(), retry_after: None, headers: Vec::new() }
    }

    pub fn code(mut self, code: &'static str) -> Self {
        self.code = Some(code);
        self
    }

    pub fn kind(mut self, kind: &'static str) -> Self {
        self.kind = kind;
        self
    }

    pub fn param(mut self, param: &'static str) -> Self {
        self.param = Some(param);
        self
    }

    pub fn retry_after(mut self, wait: Option<Duration>) -> Self {
        self.retry_after = wait;
        self
    }

    pub fn body(&self) -> Value {
        json!({"error": {"message": self.message, "type": self.kind, "param": self.param, "code": self.code}})
    }

    pub fn unknown_model(name: &str) -> Self {
        Self::new(404, format!("The model `{name}` does not exist or you do not have access to it."))
            .code("model_not_found")
    }

    pub fn quota() -> Self {
        Self::new(
            429,
            "You exceeded your current quota, please check your plan and billing details. For more information on this \
             error, read the docs: https://platform.openai.com/docs/guides/error-codes/api-errors.",
        )
        .kind("insufficient_quota")
        .code("insufficient_quota")
    }

    /// Reports a failure of the mock provider itself, such as a disk error. Tests never expect such a failure.
    pub fn internal(what: &str, error: impl std::fmt::Display) -> Self {
        Self::new(500, format!("the mock provider cannot {what}: {error}"))
    }
}
