//! Classifies the outcome of a call that did not succeed.

use std::error::Error;
use std::io;
use std::time::{Duration, UNIX_EPOCH};

use docweir_admission::Observed;
use docweir_core::clock::{Clock, SystemClock};
use reqwest::StatusCode;
use reqwest::header::{DATE, HeaderMap, HeaderName, LOCATION, RETRY_AFTER};

use super::error_body::ErrorBody;
use super::tls;
use crate::secrets::SecretError;

/// Error codes that a provider reports for an account that cannot pay.
const UNPAID: [&str; 3] = ["insufficient_quota", "billing_not_active", "billing_hard_limit_reached"];

/// Phrases with which servers refuse a request that has too many texts.
const TOO_MANY: [&str; 10] = [
    "array_above_max_length",
    "array too long",
    "batch size",
    "batch_size",
    "list should have at most",
    "number of inputs",
    "number of texts",
    "too many inputs",
    "too many items",
    "too many texts",
];

/// Explains why a call has no answer. The variants distinguish all cases that a retry decision needs.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CallError {
    /// The endpoint throttles calls.
    #[error("the endpoint throttles requests")]
    Throttled { after: Option<Duration>, observed: Option<Observed> },
    /// The account has no credit left.
    #[error("the account has no credit left")]
    QuotaSpent,
    /// No API key is available, so the call was not sent.
    #[error("no API key: {0}")]
    Unkeyed(String),
    /// The certificate of the server is not trusted, so the call was not sent.
    #[error("{0}")]
    Untrusted(String),
    /// The API key is wrong or lacks a permission.
    #[error("the API key is wrong or lacks a permission ({0})")]
    Forbidden(String),
    /// The model, batch, file or path does not exist.
    #[error("not found ({0})")]
    Missing(String),
    /// The endpoint does not support the method, or its address has moved.
    #[error("the endpoint does not support this call ({0})")]
    Unknown(String),
    /// The request is invalid. The cause is either a single text of the request, or the request as a whole.
    #[error("the endpoint refused the request ({0})")]
    Refused(String),
    /// The request has too many texts, or is too large. Smaller requests may succeed.
    #[error("the endpoint refused the request as too large ({0})")]
    TooLarge(String),
    /// The endpoint does not support the requested form of vectors.
    #[error("the endpoint refused the form of vectors ({0})")]
    Encoding(String),
    /// The call was certainly not executed, because there was no connection or the endpoint reported a failure. A
    /// retry may succeed.
    #[error("the call failed: {0}")]
    Failed(String),
    /// The request was sent, but no complete answer arrived. The call may have been executed.
    #[error("the answer was lost: {0}")]
    Lost(String),
    /// The answer violates the protocol. The call may have been executed.
    #[error("the endpoint sent an invalid answer: {0}")]
    Garbled(String),
}

impl CallError {
    /// Returns whether the call may have been executed and charged. Repeating such a call may pay twice.
    pub fn may_be_charged(&self) -> bool {
        matches!(self, CallError::Lost(_) | CallError::Garbled(_))
    }
}

/// Returns the error that an answer reports. `excerpt` is the beginning of its body.
pub fn refused(status: StatusCode, headers: &HeaderMap, error: &ErrorBody, excerpt: &str) -> CallError {
    let what = match (excerpt.is_empty(), error.code.is_empty()) {
        (false, _) => format!("{status}: {excerpt}"),
        (true, false) => format!("{status}, {}", error.code),
        (true, true) => status.to_string(),
    };
    let unpaid = UNPAID.iter().any(|unpaid| error.code == *unpaid || error.kind == *unpaid);
    let says = |phrases: &[&str]| phrases.iter().any(|phrase| error.text.contains(phrase));
    // An error in an answer of the status 200 has its own status.
    let status = error.status.filter(|_| status.is_success()).unwrap_or(status);
    match status.as_u16() {
        402 => CallError::QuotaSpent,
        200..=499 if unpaid => CallError::QuotaSpent,
        429 => CallError::Throttled { after: retry_after(headers), observed: observed(headers) },
        // 503 with a time means "slow down", which is throttling.
        503 if headers.contains_key(RETRY_AFTER) => {
            CallError::Throttled { after: retry_after(headers), observed: observed(headers) }
        }
        401 | 403 => CallError::Forbidden(what),
        404 | 410 => CallError::Missing(what),
        405 | 415 => CallError::Unknown(what),
        // The gateway stopped waiting. The server behind it may have executed the request.
        502 | 504 => CallError::Lost(what),
        408 | 409 | 425 | 500..=599 => CallError::Failed(what),
        300..=399 => {
            let to = headers.get(LOCATION).and_then(|to| to.to_str().ok()).unwrap_or("another address");
            CallError::Unknown(format!("{status}: the address has moved to {to}: correct `base_url`"))
        }
        400..=499 if says(&["encoding_format", "base64"]) => CallError::Encoding(what),
        413 => CallError::TooLarge(what),
        400 | 422 if says(&TOO_MANY) => CallError::TooLarge(what),
        400..=499 => CallError::Refused(what),
        // An error in an answer of the status 200 that does not say what it is.
        _ => CallError::Garbled(what),
    }
}

/// Classifies a connection error. The message omits the address, because the address may contain a secret.
pub fn failed(error: &reqwest::Error) -> CallError {
    let not_sent = error.is_connect() || error.is_builder();
    let what = if error.is_connect() {
        "no connection"
    } else if error.is_builder() {
        "the request cannot be built"
    } else if error.is_timeout() {
        "no answer in time"
    } else {
        "the connection was cut"
    };
    let mut cause: &(dyn Error + 'static) = error;
    loop {
        if let Some(text) = tls::untrusted(cause) {
            return CallError::Untrusted(text);
        }
        match next(cause) {
            Some(next) => cause = next,
            None => break,
        }
    }
    // The innermost cause comes from the operating system and quotes no request.
    let what = format!("{what} ({cause})").replace(|c: char| c.is_control(), " ");
    if not_sent { CallError::Failed(what) } else { CallError::Lost(what) }
}

/// Returns the cause of an error. An I/O error does not report the error that it wraps as its source.
fn next<'e>(error: &'e (dyn Error + 'static)) -> Option<&'e (dyn Error + 'static)> {
    match error.downcast_ref::<io::Error>().and_then(io::Error::get_ref) {
        Some(wrapped) => Some(wrapped),
        None => error.source(),
    }
}

/// Returns the error for a key that cannot be read.
pub fn unkeyed(error: SecretError) -> CallError {
    match error.passing {
        true => CallError::Failed(error.text),
        false => CallError::Unkeyed(error.text),
    }
}

fn number(headers: &HeaderMap, name: &'static str) -> Option<f64> {
    let value = headers.get(HeaderName::from_static(name))?.to_str().ok()?;
    value.trim().parse().ok().filter(|n: &f64| n.is_finite() && *n >= 0.0)
}

/// Returns the rate limits that the headers of an answer report.
pub fn observed(headers: &HeaderMap) -> Option<Observed> {
    let observed = Observed {
        request_limit: number(headers, "x-ratelimit-limit-requests"),
        requests_left: number(headers, "x-ratelimit-remaining-requests"),
        token_limit: number(headers, "x-ratelimit-limit-tokens"),
        tokens_left: number(headers, "x-ratelimit-remaining-tokens"),
    };
    (observed != Observed::default()).then_some(observed)
}

/// Returns the wait that the provider asks for. The header in milliseconds takes precedence over the header in
/// seconds, which may also hold a date.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let milliseconds = number(headers, "retry-after-ms").map(|ms| ms / 1_000.0);
    let seconds = milliseconds.or_else(|| number(headers, "retry-after")).or_else(|| until_date(headers))?;
    Some(Duration::from_secs_f64(seconds.min(86_400.0)))
}

/// Returns the number of seconds until the date in the header. The time of the answer is that of the server's clock, if
/// the answer states it.
fn until_date(headers: &HeaderMap) -> Option<f64> {
    let date = |name: HeaderName| {
        let time = httpdate::parse_http_date(headers.get(name)?.to_str().ok()?.trim()).ok()?;
        Some(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64())
    };
    let now = || SystemClock.now() as f64 / 1e6;
    Some((date(RETRY_AFTER)? - date(DATE).unwrap_or_else(now)).max(0.0))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn each_end_is_told_by_its_status_and_body() {
        let none = HeaderMap::new();
        let after = headers(&[("retry-after", "7"), ("x-ratelimit-remaining-tokens", "12")]);
        let moved = headers(&[("location", "https://b/v1")]);
        let observed = Some(Observed { tokens_left: Some(12.0), ..Observed::default() });
        let coded = |code: &str| format!(r#"{{"error":{{"code":"{code}","message":"text of it"}}}}"#);
        let seven = Some(Duration::from_secs(7));
        let many = r#"{"error":"batch size 33 > maximum allowed batch size 32"}"#.to_owned();
        let long = r#"{"detail":[{"type":"too_long","msg":"List should have at most 32 items"}]}"#.to_owned();
        let form = r#"{"detail":[{"loc":["body","encoding_format"]}]}"#.to_owned();
        let inner = r#"{"error":{"code":429,"message":"slow down"}}"#.to_owned();
        let vague = r#"{"error":"no"}"#.to_owned();
        let table = [
            (429, &after, coded("rate_limit_exceeded"), CallError::Throttled { after: seven, observed }),
            (429, &none, String::new(), CallError::Throttled { after: None, observed: None }),
            (200, &none, inner, CallError::Throttled { after: None, observed: None }),
            (503, &after, String::new(), CallError::Throttled { after: seven, observed }),
            (503, &none, String::new(), CallError::Failed("503 Service Unavailable".into())),
            (429, &after, coded("insufficient_quota"), CallError::QuotaSpent),
            (429, &after, coded("billing_not_active"), CallError::QuotaSpent),
            (200, &none, coded("insufficient_quota"), CallError::QuotaSpent),
            (402, &none, coded("invalid_request_error"), CallError::QuotaSpent),
            (401, &none, coded("k"), CallError::Forbidden(format!("401 Unauthorized: {}", coded("k")))),
            (404, &none, coded("m"), CallError::Missing(format!("404 Not Found: {}", coded("m")))),
            (405, &none, String::new(), CallError::Unknown("405 Method Not Allowed".into())),
            (400, &none, coded("b"), CallError::Refused(format!("400 Bad Request: {}", coded("b")))),
            (413, &none, String::new(), CallError::TooLarge("413 Payload Too Large".into())),
            (400, &none, many.clone(), CallError::TooLarge(format!("400 Bad Request: {many}"))),
            (422, &none, long.clone(), CallError::TooLarge(format!("422 Unprocessable Entity: {long}"))),
            (422, &none, form.clone(), CallError::Encoding(format!("422 Unprocessable Entity: {form}"))),
            (200, &none, vague.clone(), CallError::Garbled(format!("200 OK: {vague}"))),
            (
                302,
                &moved,
                String::new(),
                CallError::Unknown("302 Found: the address has moved to https://b/v1: correct `base_url`".into()),
            ),
        ];
        for (status, headers, body, expected) in table {
            let error = ErrorBody::read(body.as_bytes()).unwrap_or_default();
            let status = StatusCode::from_u16(status).unwrap();
            assert_eq!(refused(status, headers, &error, &body), expected, "{status} {body}");
        }
    }

    #[test]
    fn waits_are_read_in_seconds_in_milliseconds_and_as_dates() {
        let date = "Fri, 31 Dec 2027 23:59:59 GMT";
        let table = [
            (vec![("retry-after", "2")], Some(2.0)),
            (vec![("retry-after", "2"), ("retry-after-ms", "250")], Some(0.25)),
            (vec![("retry-after", "0.5")], Some(0.5)),
            (vec![("retry-after", "-1")], None),
            (vec![("retry-after", "soon")], None),
            (vec![("retry-after", "1e300")], Some(86_400.0)),
            (vec![("retry-after", date), ("date", "Fri, 31 Dec 2027 23:59:29 GMT")], Some(30.0)),
            (vec![("retry-after", date), ("date", "Sat, 01 Jan 2028 00:00:29 GMT")], Some(0.0)),
            (vec![("retry-after", "Fri, 31 Dec 1999 23:59:59 GMT")], Some(0.0)),
            (vec![], None),
        ];
        for (pairs, expected) in table {
            assert_eq!(retry_after(&headers(&pairs)), expected.map(Duration::from_secs_f64), "{pairs:?}");
        }
    }
}
