//! Reads the error that the body of an answer reports. Servers use several forms for the same content.

use reqwest::StatusCode;
use serde_json::Value;

use super::wire::word;

/// Holds the parts of an error that decide how it is handled.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct ErrorBody {
    /// Error code, or the error type if there is no code.
    pub code: String,
    pub kind: String,
    /// HTTP status that the error states.
    pub status: Option<StatusCode>,
    /// All of the error in lower case, to search for phrases.
    pub text: String,
}

impl ErrorBody {
    /// Reads the body of an answer. Returns `None` if it reports no error.
    pub fn read(body: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(body).ok()?;
        let stated = |field: &str| value.get(field).filter(|v| !v.is_null() && *v != &Value::Bool(false));
        if let Some(error) = stated("error").or_else(|| stated("detail")) {
            return Some(Self::of(error));
        }
        (value.get("object").and_then(Value::as_str) == Some("error")).then(|| Self::of(&value))
    }

    /// Reads an error: an object, a text or a list.
    pub fn of(error: &Value) -> Self {
        let field = |name: &str| match error.get(name) {
            Some(Value::String(text)) => Some(text.clone()),
            // Some servers send the code as a number.
            Some(Value::Number(number)) => Some(number.to_string()),
            _ => None,
        };
        let kind = field("type").unwrap_or_default();
        let code = field("code").unwrap_or_else(|| kind.clone());
        let status = ["code", "status", "status_code"].iter().find_map(|name| {
            let status = field(name)?.parse().ok()?;
            StatusCode::from_u16(status).ok().filter(|status| status.as_u16() >= 400)
        });
        Self { code: word(&code), kind, status, text: error.to_string().to_lowercase() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn errors_of_all_forms_are_read() {
        let table = [
            (r#"{"error":{"code":"insufficient_quota","type":"x"}}"#, "insufficient_quota", None),
            (r#"{"error":{"code":null,"type":"invalid_request_error"}}"#, "invalid_request_error", None),
            (r#"{"error":{"code":429}}"#, "429", Some(429)),
            (r#"{"error":"not <b>this</b>"}"#, "", None),
            (r#"{"error":null,"detail":"Not Found"}"#, "", None),
            (r#"{"detail":[{"type":"too_long"}]}"#, "", None),
            (r#"{"object":"error","message":"no","type":"BadRequestError","code":400}"#, "400", Some(400)),
            (r#"{"error":{"status":503,"type":"bad <x>"}}"#, "badx", Some(503)),
        ];
        for (body, code, status) in table {
            let error = ErrorBody::read(body.as_bytes()).unwrap();
            assert_eq!((error.code.as_str(), error.status.map(|s| s.as_u16())), (code, status), "{body}");
        }
        for body in [r#"{"error":null}"#, r#"{"error":false}"#, r#"{"data":[]}"#, "[]", "<html>", ""] {
            assert_eq!(ErrorBody::read(body.as_bytes()), None, "{body}");
        }
    }
}
