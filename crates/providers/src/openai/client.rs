//! Sends single calls and classifies their outcome. The callers decide on retries.

use std::net::IpAddr;
use std::time::Duration;

use docweir_admission::Observed;
use futures_util::StreamExt;
use reqwest::header::{CONTENT_TYPE, HeaderMap, HeaderName};
use reqwest::{Method, RequestBuilder, Response, StatusCode, Url};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::options::OpenAiOptions;
use super::wire::{EmbeddingsAnswer, EmbeddingsRequest, ErrorAnswer, ErrorBody, ModelsAnswer, word};
use crate::secrets::{Key, SecretError, Sensitive};

/// Error codes that a provider reports for an account that cannot pay.
const UNPAID: [&str; 3] = ["insufficient_quota", "billing_not_active", "billing_hard_limit_reached"];

/// Sends calls to an endpoint. The API key is stored in this type and nowhere else.
pub struct Client {
    http: reqwest::Client,
    base: String,
    key: Key,
    max_answer_bytes: u64,
}

/// Holds a successful answer, and the rate limits that the answer reports.
#[derive(Debug)]
pub struct Answered<T> {
    pub value: T,
    pub observed: Option<Observed>,
}

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

impl Client {
    /// Creates a client. The API key is sent only in the headers of requests.
    pub fn new(options: &OpenAiOptions, key: Key) -> Result<Self, reqwest::Error> {
        // This call fails if the process already has a cryptography provider, which serves as well.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let base = options.base_url.trim_end_matches('/').to_owned();
        let mut http = reqwest::Client::builder();
        if base.starts_with("http://") && keeps_secrets(&base) {
            // A proxy would receive the key and the texts of a server on this machine unencrypted.
            http = http.no_proxy();
        }
        let http = http
            .connect_timeout(Duration::from_secs_f64(options.connect_seconds))
            .timeout(Duration::from_secs_f64(options.request_seconds))
            // A redirect would send the key to another address.
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        Ok(Self { http, base, key, max_answer_bytes: options.max_answer_bytes })
    }

    /// Returns a vector for each text, in the order of the texts, and the number of charged tokens.
    pub async fn embeddings(
        &self,
        model: &str,
        dimensions: Option<u32>,
        texts: &[&str],
    ) -> Result<Answered<(Vec<Vec<f32>>, u64)>, CallError> {
        let request = EmbeddingsRequest { model, input: texts, encoding_format: "base64", dimensions };
        let request = with_json(self.request(Method::POST, &["embeddings"], &[])?, &request)?;
        let Answered { value: answer, observed } = self.call::<EmbeddingsAnswer>(request).await?;
        let garbled = |what: &str| CallError::Garbled(what.to_owned());
        let mut vectors: Vec<Option<Vec<f32>>> = vec![None; texts.len()];
        for item in answer.data {
            let place = vectors.get_mut(item.index).ok_or_else(|| garbled("a vector for a text that was not sent"))?;
            if place.replace(item.embedding.0).is_some() {
                return Err(garbled("two vectors for one text"));
            }
        }
        let vectors = vectors.into_iter().collect::<Option<Vec<_>>>();
        let vectors = vectors.ok_or_else(|| garbled("no vector for one of the texts"))?;
        Ok(Answered { value: (vectors, answer.usage.prompt_tokens), observed })
    }

    /// Returns whether the endpoint lists a model. This call is free of charge.
    pub async fn has_model(&self, model: &str) -> Result<bool, CallError> {
        let listed = self.call::<ModelsAnswer>(self.request(Method::GET, &["models"], &[])?).await?;
        Ok(listed.value.data.iter().any(|m| m.id == model))
    }

    /// Builds a request. Path segments and query values may come from the provider, so both are escaped.
    pub(super) fn request(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<RequestBuilder, CallError> {
        let unreadable = || CallError::Unknown("invalid endpoint address: correct `base_url`".into());
        let mut url = Url::parse(&self.base).map_err(|_| unreadable())?;
        url.path_segments_mut().map_err(|()| unreadable())?.pop_if_empty().extend(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(self.http.request(method, url))
    }

    /// Sends a request with the API key. If the endpoint refuses the key and a newer key is available, the request is
    /// sent once more with the newer key. This is safe, because a request with a refused key is not executed.
    pub(super) async fn send(&self, request: RequestBuilder) -> Result<Response, CallError> {
        let Some(key) = self.key.get().await.map_err(unkeyed)? else { return sent(request).await };
        if !keeps_secrets(&self.base) {
            let text = "`base_url` begins with http://, which would send the key unencrypted: use https://, or an \
                        address of this machine";
            return Err(CallError::Unkeyed(text.into()));
        }
        let again = request.try_clone().filter(|_| self.key.may_change());
        let answer = sent(with_key(request, &key)).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        match (self.key.instead_of(&key).await, again) {
            (None, _) => Ok(answer),
            (Some(new), Some(request)) => sent(with_key(request, &new)).await,
            // The request holds a file that was read to its end, so it cannot be repeated.
            (Some(_), None) => Err(CallError::Failed("the API key changed during the upload".into())),
        }
    }

    /// Sends a request, and parses the JSON of a successful answer.
    pub(super) async fn call<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<Answered<T>, CallError> {
        let response = self.send(request).await?;
        let observed = observed(response.headers());
        let body = self.body(self.accepted(response).await?).await?;
        // serde's message is left out, because it quotes the input.
        let garbled = |e: serde_json::Error| {
            CallError::Garbled(format!("incomplete or unexpected JSON at column {}", e.column()))
        };
        Ok(Answered { value: serde_json::from_slice(&body).map_err(garbled)?, observed })
    }

    /// Returns a successful response without reading the body. For any other response, returns the error that the
    /// response reports.
    pub(super) async fn accepted(&self, response: Response) -> Result<Response, CallError> {
        let (status, headers) = (response.status(), response.headers().clone());
        if status.is_success() {
            return Ok(response);
        }
        // The status identifies the error, whatever the body contains.
        let body = self.body(response).await.unwrap_or_default();
        let error = serde_json::from_slice::<ErrorAnswer>(&body).map_or_else(|_| ErrorBody::default(), |a| a.error);
        Err(refused(status, &headers, &error))
    }

    async fn body(&self, response: Response) -> Result<Vec<u8>, CallError> {
        let too_large = || CallError::Garbled(format!("the answer is larger than {} bytes", self.max_answer_bytes));
        let length = response.content_length().unwrap_or_default();
        if length > self.max_answer_bytes {
            return Err(too_large());
        }
        let mut body = Vec::with_capacity(usize::try_from(length).unwrap_or_default());
        let mut parts = response.bytes_stream();
        while let Some(part) = parts.next().await {
            let part = part.map_err(|e| failed(&e))?;
            if (body.len() + part.len()) as u64 > self.max_answer_bytes {
                return Err(too_large());
            }
            body.extend_from_slice(&part);
        }
        Ok(body)
    }
}

async fn sent(request: RequestBuilder) -> Result<Response, CallError> {
    request.send().await.map_err(|e| failed(&e))
}

/// Returns whether a key can be sent to an address safely. The connection must be encrypted, or must not leave this
/// machine.
fn keeps_secrets(base: &str) -> bool {
    let Ok(url) = Url::parse(base) else { return false };
    let host = url.host_str().unwrap_or_default().trim_matches(['[', ']']);
    let is_loopback = host.parse::<IpAddr>().is_ok_and(|address| address.is_loopback());
    url.scheme() == "https" || is_loopback || host == "localhost"
}

/// Adds the API key to the headers. The header is marked as sensitive, so that the connection does not log it.
fn with_key(request: RequestBuilder, key: &Sensitive) -> RequestBuilder {
    request.bearer_auth(key.expose())
}

fn unkeyed(error: SecretError) -> CallError {
    match error.passing {
        true => CallError::Failed(error.text),
        false => CallError::Unkeyed(error.text),
    }
}

pub(super) fn with_json(request: RequestBuilder, body: &impl Serialize) -> Result<RequestBuilder, CallError> {
    let body = serde_json::to_vec(body).map_err(|_| CallError::Refused("cannot serialise the request".into()))?;
    Ok(request.header(CONTENT_TYPE, "application/json").body(body))
}

fn refused(status: StatusCode, headers: &HeaderMap, error: &ErrorBody) -> CallError {
    let code = word(&error.code());
    let what = if code.is_empty() { status.to_string() } else { format!("{status}, {code}") };
    let unpaid = UNPAID.iter().any(|unpaid| code == *unpaid || error.r#type.as_deref() == Some(unpaid));
    match status.as_u16() {
        402 => CallError::QuotaSpent,
        400..=499 if unpaid => CallError::QuotaSpent,
        429 => CallError::Throttled { after: retry_after(headers), observed: observed(headers) },
        // 503 with a time means "slow down", which is throttling.
        503 if headers.contains_key(reqwest::header::RETRY_AFTER) => {
            CallError::Throttled { after: retry_after(headers), observed: observed(headers) }
        }
        401 | 403 => CallError::Forbidden(what),
        404 | 410 => CallError::Missing(what),
        405 | 415 => CallError::Unknown(what),
        // The gateway stopped waiting. The server behind it may have executed the request.
        502 | 504 => CallError::Lost(what),
        408 | 409 | 425 | 500..=599 => CallError::Failed(what),
        300..=399 => CallError::Unknown(format!("{status}: the address has moved")),
        _ => CallError::Refused(what),
    }
}

/// Classifies a connection error. The message omits the address, because the address may contain a secret.
pub(super) fn failed(error: &reqwest::Error) -> CallError {
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
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    // The innermost cause comes from the operating system and quotes no request.
    let what = format!("{what} ({cause})").replace(|c: char| c.is_control(), " ");
    if not_sent { CallError::Failed(what) } else { CallError::Lost(what) }
}

fn number(headers: &HeaderMap, name: &'static str) -> Option<f64> {
    let value = headers.get(HeaderName::from_static(name))?.to_str().ok()?;
    value.trim().parse().ok().filter(|n: &f64| n.is_finite() && *n >= 0.0)
}

fn observed(headers: &HeaderMap) -> Option<Observed> {
    let observed = Observed {
        request_limit: number(headers, "x-ratelimit-limit-requests"),
        requests_left: number(headers, "x-ratelimit-remaining-requests"),
        token_limit: number(headers, "x-ratelimit-limit-tokens"),
        tokens_left: number(headers, "x-ratelimit-remaining-tokens"),
    };
    (observed != Observed::default()).then_some(observed)
}

/// Returns the wait that the provider asks for. The header in milliseconds takes precedence over the header in
/// seconds. Dates are ignored, to avoid reading a clock.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let milliseconds = number(headers, "retry-after-ms").map(|ms| ms / 1_000.0);
    let seconds = milliseconds.or_else(|| number(headers, "retry-after"))?;
    Some(Duration::from_secs_f64(seconds.min(86_400.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_key_is_never_sent_unencrypted_to_another_machine() {
        let safe =
            ["https://api.openai.com/v1", "http://127.0.0.1:9/v1", "http://[::1]:9", "http://localhost:11434/v1"];
        assert!(safe.iter().all(|base| keeps_secrets(base)));
        let unsafe_ = [
            "http://api.openai.com/v1",
            "http://10.0.0.5/v1",
            "http://localhost.example/v1",
            "http://127.0.0.1.example",
        ];
        for base in unsafe_ {
            assert!(!keeps_secrets(base), "{base}");
            let options = OpenAiOptions { base_url: base.to_owned(), ..OpenAiOptions::default() };
            let client = Client::new(&options, Key::from("sk-do-not-show".to_owned())).unwrap();
            let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
            let error = runtime.block_on(client.has_model("m")).unwrap_err();
            assert!(matches!(&error, CallError::Unkeyed(text) if text.contains("https://")), "{error:?}");
            assert!(!error.to_string().contains("do-not-show"));
        }
    }

    fn headers(pairs: &[(&'static str, &str)]) -> HeaderMap {
        pairs.iter().map(|(name, value)| (HeaderName::from_static(name), value.parse().unwrap())).collect()
    }

    #[test]
    fn each_end_is_told_by_its_status_and_code() {
        let none = HeaderMap::new();
        let after = headers(&[("retry-after", "7"), ("x-ratelimit-remaining-tokens", "12")]);
        let observed = Some(Observed { tokens_left: Some(12.0), ..Observed::default() });
        let error = |code: &str| {
            serde_json::from_str::<ErrorBody>(&format!(r#"{{"code":"{code}","message":"text of it"}}"#)).unwrap()
        };
        let seven = Some(Duration::from_secs(7));
        let table = [
            (429, &after, "rate_limit_exceeded", CallError::Throttled { after: seven, observed }),
            (429, &none, "", CallError::Throttled { after: None, observed: None }),
            (503, &after, "", CallError::Throttled { after: seven, observed }),
            (503, &none, "", CallError::Failed("503 Service Unavailable".into())),
            (429, &after, "insufficient_quota", CallError::QuotaSpent),
            (429, &after, "billing_not_active", CallError::QuotaSpent),
            (402, &none, "invalid_request_error", CallError::QuotaSpent),
            (401, &none, "invalid_api_key", CallError::Forbidden("401 Unauthorized, invalid_api_key".into())),
            (404, &none, "model_not_found", CallError::Missing("404 Not Found, model_not_found".into())),
            (405, &none, "", CallError::Unknown("405 Method Not Allowed".into())),
            (400, &none, "bad<b>", CallError::Refused("400 Bad Request, badb".into())),
            (302, &none, "", CallError::Unknown("302 Found: the address has moved".into())),
        ];
        for (status, headers, code, expected) in table {
            assert_eq!(
                refused(StatusCode::from_u16(status).unwrap(), headers, &error(code)),
                expected,
                "{status} {code}"
            );
        }
    }

    #[test]
    fn waits_are_read_in_seconds_and_milliseconds() {
        let table = [
            (vec![("retry-after", "2")], Some(2.0)),
            (vec![("retry-after", "2"), ("retry-after-ms", "250")], Some(0.25)),
            (vec![("retry-after", "0.5")], Some(0.5)),
            (vec![("retry-after", "-1")], None),
            (vec![("retry-after", "1e300")], Some(86_400.0)),
            (vec![("retry-after", "Fri, 31 Dec 2027 23:59:59 GMT")], None),
            (vec![], None),
        ];
        for (pairs, expected) in table {
            assert_eq!(retry_after(&headers(&pairs)), expected.map(Duration::from_secs_f64), "{pairs:?}");
        }
    }
}
