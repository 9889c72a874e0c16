//! Reads the error that the body of an answer reports. Servers use several forms for the same content.

use reqwest::StatusCode;
use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::wire::word;

/// Maximum size, in bytes, of the body of a successful answer that is searched for an error.
const MOST_SUCCESS_BYTES: usize = 1 << 20;

/// Holds the fields that only an answer without an error has. Reading them needs no memory for the other fields.
#[derive(Deserialize)]
struct Outline {
    #[serde(default)]
    id: Option<IgnoredAny>,
    #[serde(default)]
    data: Option<IgnoredAny>,
}

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
    /// Reads the body of an answer with a successful status. Returns `None` if it reports no error. An answer with an
    /// id or data is a result, whatever its field `error` contains. A large body is not an error.
    pub fn of_success(body: &[u8]) -> Option<Self> {
        if body.len() > MOST_SUCCESS_BYTES {
            return None;
        }
        let outline: Outline = serde_json::from_slice(body).ok()?;
        if outline.id.is_some() || outline.data.is_some() { None } else { Self::read(body) }
    }

    /// Reads the body of an answer. Returns `None` if it reports no error.
    pub fn read(body: &[u8]) -> Option<Self> {
        let value: Value = serde_json::from_slice(body).ok()?;
        let stated = |field: &str| value.get(field).filter(|v| !is_empty(v));
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

/// Returns whether a field of an error says that there is no error.
fn is_empty(field: &Value) -> bool {
    match field {
        Value::Null | Value::Bool(false) => true,
        Value::String(text) => text.is_empty(),
        Value::Array(list) => list.is_empty(),
        Value::Object(fields) => fields.is_empty(),
        Value::Bool(true) | Value::Number(_) => false,
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
        for body in [
            r#"{"error":null}"#,
            r#"{"error":false}"#,
            r#"{"error":""}"#,
            r#"{"error":{}}"#,
            r#"{"error":[]}"#,
            r#"{"data":[]}"#,
            "[]",
            "<html>",
            "",
        ] {
            assert_eq!(ErrorBody::read(body.as_bytes()), None, "{body}");
        }
    }

    #[test]
    fn a_result_or_a_large_body_is_not_an_error() {
        for (body, is_error) in [
            (r#"{"error":{"code":429}}"#, true),
            (r#"{"id":null,"data":null,"error":"no"}"#, true),
            (r#"{"object":"error","message":"no"}"#, true),
            (r#"{"id":"batch_1","error":{"code":"x"}}"#, false),
            (r#"{"data":[{"embedding":[0.5]}],"error":"none"}"#, false),
            ("[0,0,0]", false),
        ] {
            assert_eq!(ErrorBody::of_success(body.as_bytes()).is_some(), is_error, "{body}");
        }
        let large = format!(r#"{{"error":"{}"}}"#, "x".repeat(MOST_SUCCESS_BYTES));
        assert_eq!(ErrorBody::of_success(large.as_bytes()), None);
    }
}
