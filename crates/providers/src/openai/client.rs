//! One call each, and what its end means. Nothing is tried again here.

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

/// What says that an account can't pay.
const UNPAID: [&str; 3] = ["insufficient_quota", "billing_not_active", "billing_hard_limit_reached"];

/// A connection to an endpoint. The key is in it and nowhere else.
pub struct Client {
    http: reqwest::Client,
    base: String,
    key: Key,
    max_answer_bytes: u64,
}

/// What a call came to.
#[derive(Debug)]
pub struct Answered<T> {
    pub value: T,
    pub observed: Option<Observed>,
}

/// Why there is no answer. What a retry decision needs, and no more.
#[derive(Clone, Debug, PartialEq, thiserror::Error)]
pub enum CallError {
    /// Asked too fast.
    #[error("it asks for less")]
    Throttled { after: Option<Duration>, observed: Option<Observed> },
    /// The account has no money left.
    #[error("the account has no money left")]
    QuotaSpent,
    /// There is no key to ask with: nothing was asked.
    #[error("there is no key: {0}")]
    Unkeyed(String),
    /// The key is wrong or may not do this.
    #[error("the key is wrong or may not do this ({0})")]
    Forbidden(String),
    /// There is no such model, batch, file or path.
    #[error("there is no such thing ({0})")]
    Missing(String),
    /// No such method, or the address has moved.
    #[error("it can't be called so ({0})")]
    Unknown(String),
    /// The request is at fault, for one of its texts or as a whole.
    #[error("it refuses the request ({0})")]
    Refused(String),
    /// Certainly not done: no connection, or a failure that it tells. It may go away.
    #[error("it failed: {0}")]
    Failed(String),
    /// Sent, and no answer came, or only the beginning of one. It may have been done.
    #[error("its answer was lost: {0}")]
    Lost(String),
    /// An answer that is not what the protocol says. It may have been done.
    #[error("it sent what is no answer: {0}")]
    Garbled(String),
}

impl CallError {
    /// Whether the call may have been done all the same: who repeats it blindly may pay twice.
    pub fn may_be_charged(&self) -> bool {
        matches!(self, CallError::Lost(_) | CallError::Garbled(_))
    }
}

impl Client {
    /// `key` goes into the requests' headers only.
    pub fn new(options: &OpenAiOptions, key: Key) -> Result<Self, reqwest::Error> {
        // Fails where the process has a provider of cryptography already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let http = reqwest::Client::builder()
            .connect_timeout(Duration::from_secs_f64(options.connect_seconds))
            .timeout(Duration::from_secs_f64(options.request_seconds))
            // An address that moves would be sent the key.
            .redirect(reqwest::redirect::Policy::none())
            .build()?;
        let base = options.base_url.trim_end_matches('/').to_owned();
        Ok(Self { http, base, key, max_answer_bytes: options.max_answer_bytes })
    }

    /// A vector for each text, in their order, and the tokens that were charged.
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

    /// Whether the endpoint lists a model. Free of charge.
    pub async fn has_model(&self, model: &str) -> Result<bool, CallError> {
        let listed = self.call::<ModelsAnswer>(self.request(Method::GET, &["models"], &[])?).await?;
        Ok(listed.value.data.iter().any(|m| m.id == model))
    }

    /// Parts of the path and values of the query may be anything that a provider sent us: both are escaped.
    pub(super) fn request(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<RequestBuilder, CallError> {
        let unreadable = || CallError::Unknown("the endpoint's address can't be read: correct `base_url`".into());
        let mut url = Url::parse(&self.base).map_err(|_| unreadable())?;
        url.path_segments_mut().map_err(|()| unreadable())?.pop_if_empty().extend(path);
        if !query.is_empty() {
            url.query_pairs_mut().extend_pairs(query);
        }
        Ok(self.http.request(method, url))
    }

    /// Sends with the key. One that the endpoint does not know may have been changed since it was read: then the new one is
    /// tried, once. A request that was refused for its key was not carried out.
    pub(super) async fn send(&self, request: RequestBuilder) -> Result<Response, CallError> {
        let Some(key) = self.key.get().await.map_err(unkeyed)? else { return sent(request).await };
        let again = request.try_clone().filter(|_| self.key.may_change());
        let answer = sent(with_key(request, &key)).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        match (self.key.instead_of(&key).await, again) {
            (None, _) => Ok(answer),
            (Some(new), Some(request)) => sent(with_key(request, &new)).await,
            // A file, which was read to its end.
            (Some(_), None) => Err(CallError::Failed("the key was changed on the way".into())),
        }
    }

    /// Sends, and reads the JSON of a success.
    pub(super) async fn call<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<Answered<T>, CallError> {
        let response = self.send(request).await?;
        let observed = observed(response.headers());
        let body = self.body(self.accepted(response).await?).await?;
        // Without serde's words: they quote what they could not read.
        let garbled = |e: serde_json::Error| {
            CallError::Garbled(format!("JSON that breaks off or holds what it should not, in column {}", e.column()))
        };
        Ok(Answered { value: serde_json::from_slice(&body).map_err(garbled)?, observed })
    }

    /// A success, its body yet to come; what else it was otherwise.
    pub(super) async fn accepted(&self, response: Response) -> Result<Response, CallError> {
        let (status, headers) = (response.status(), response.headers().clone());
        if status.is_success() {
            return Ok(response);
        }
        // An error is told by its status, whatever stands in the body.
        let body = self.body(response).await.unwrap_or_default();
        let error = serde_json::from_slice::<ErrorAnswer>(&body).map_or_else(|_| ErrorBody::default(), |a| a.error);
        Err(refused(status, &headers, &error))
    }

    async fn body(&self, response: Response) -> Result<Vec<u8>, CallError> {
        let too_large = || CallError::Garbled(format!("its answer is larger than {} bytes", self.max_answer_bytes));
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

/// Marked, so that it is in no log of the connection.
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
    let body = serde_json::to_vec(body).map_err(|_| CallError::Refused("it can't be written as JSON".into()))?;
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
        // "Slow down", with a time: a refusal for the rate by another name.
        503 if headers.contains_key(reqwest::header::RETRY_AFTER) => {
            CallError::Throttled { after: retry_after(headers), observed: observed(headers) }
        }
        401 | 403 => CallError::Forbidden(what),
        404 | 410 => CallError::Missing(what),
        405 | 415 => CallError::Unknown(what),
        // A gateway that gave up waiting: behind it the work may have been done.
        502 | 504 => CallError::Lost(what),
        408 | 409 | 425 | 500..=599 => CallError::Failed(what),
        300..=399 => CallError::Unknown(format!("{status}: the address has moved")),
        _ => CallError::Refused(what),
    }
}

/// Without the address, which may hold a secret.
pub(super) fn failed(error: &reqwest::Error) -> CallError {
    let not_sent = error.is_connect() || error.is_builder();
    let what = if error.is_connect() {
        "no connection"
    } else if error.is_builder() {
        "the request can't be made"
    } else if error.is_timeout() {
        "no answer in time"
    } else {
        "the connection broke off"
    };
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    // The innermost cause of an error of ours is the system's: it quotes no request.
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

/// Seconds, or milliseconds where they are told; a date is not worth reading a clock for.
fn retry_after(headers: &HeaderMap) -> Option<Duration> {
    let milliseconds = number(headers, "retry-after-ms").map(|ms| ms / 1_000.0);
    let seconds = milliseconds.or_else(|| number(headers, "retry-after"))?;
    Some(Duration::from_secs_f64(seconds.min(86_400.0)))
}

#[cfg(test)]
mod tests {
    use super::*;

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
