//! One call each, and what its end means. Nothing is tried again here.

use std::time::Duration;

use futures_util::StreamExt;
use reqwest::header::{HeaderMap, HeaderName};
use reqwest::{Response, StatusCode};

use super::options::OpenAiOptions;
use super::wire::{EmbeddingsAnswer, EmbeddingsRequest, ErrorAnswer, ErrorBody};
use crate::providers::admission::Observed;

/// Of a provider's code in our messages. Its own messages are left out: they may repeat what it was sent.
const CODE_CHARACTERS: usize = 60;

/// What says that an account can't pay.
const UNPAID: [&str; 3] = ["insufficient_quota", "billing_not_active", "billing_hard_limit_reached"];

/// A connection to an endpoint. The key is in it and nowhere else.
pub struct Client {
    http: reqwest::Client,
    base: String,
    key: String,
    max_answer_bytes: u64,
}

/// What a call came to.
#[derive(Debug)]
pub struct Answered<T> {
    pub value: T,
    pub observed: Option<Observed>,
}

/// Why there is no answer. What a retry decision needs, and no more.
#[derive(Clone, Debug, PartialEq)]
pub enum CallError {
    /// Asked too fast.
    Throttled { after: Option<Duration>, observed: Option<Observed> },
    /// The account has no money left.
    QuotaSpent,
    /// The key is wrong or may not do this.
    Forbidden(String),
    /// No such model, no such path, no such method.
    Unknown(String),
    /// The request is at fault, for one of its texts or as a whole.
    Refused(String),
    /// No connection, no answer in time, a failure over there: it may go away.
    Failed(String),
    /// An answer that is not what the protocol says. It may have been charged.
    Garbled(String),
}

impl Client {
    /// `key` goes into the requests' headers only.
    pub fn new(options: &OpenAiOptions, key: String) -> Result<Self, reqwest::Error> {
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
        let garbled = |e: &dyn std::fmt::Display| CallError::Garbled(e.to_string());
        let body = serde_json::to_vec(&request).map_err(|e| garbled(&e))?;
        let send = self.post("embeddings").header(reqwest::header::CONTENT_TYPE, "application/json").body(body).send();
        let response = send.await.map_err(|e| failed(&e))?;
        let observed = observed(response.headers());
        let body = self.checked(response).await?;
        let answer: EmbeddingsAnswer = serde_json::from_slice(&body).map_err(|e| garbled(&e))?;
        let mut vectors: Vec<Option<Vec<f32>>> = vec![None; texts.len()];
        for item in answer.data {
            let numbers = item.embedding.into_floats().ok_or_else(|| garbled(&"a vector is no list of floats"))?;
            let place = vectors.get_mut(item.index).ok_or_else(|| garbled(&"a vector for a text that was not sent"))?;
            if place.replace(numbers).is_some() {
                return Err(garbled(&"two vectors for one text"));
            }
        }
        let vectors = vectors.into_iter().collect::<Option<Vec<_>>>();
        let vectors = vectors.ok_or_else(|| garbled(&"no vector for one of the texts"))?;
        Ok(Answered { value: (vectors, answer.usage.prompt_tokens), observed })
    }

    fn post(&self, path: &str) -> reqwest::RequestBuilder {
        let request = self.http.post(format!("{}/{path}", self.base));
        if self.key.is_empty() { request } else { request.bearer_auth(&self.key) }
    }

    /// The body of a success; what else it was otherwise.
    async fn checked(&self, response: Response) -> Result<Vec<u8>, CallError> {
        let (status, headers) = (response.status(), response.headers().clone());
        if status.is_success() {
            return self.body(response).await;
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

fn refused(status: StatusCode, headers: &HeaderMap, error: &ErrorBody) -> CallError {
    let word = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    let code: String = error.code().chars().filter(word).take(CODE_CHARACTERS).collect();
    let what = if code.is_empty() { status.to_string() } else { format!("{status}, {code}") };
    let unpaid = UNPAID.iter().any(|unpaid| code == *unpaid || error.r#type.as_deref() == Some(unpaid));
    match status.as_u16() {
        402 => CallError::QuotaSpent,
        429 if unpaid => CallError::QuotaSpent,
        429 => CallError::Throttled { after: retry_after(headers), observed: observed(headers) },
        // "Slow down", with a time: a refusal for the rate by another name.
        503 if headers.contains_key(reqwest::header::RETRY_AFTER) => {
            CallError::Throttled { after: retry_after(headers), observed: observed(headers) }
        }
        401 | 403 => CallError::Forbidden(what),
        404 | 405 | 410 | 415 => CallError::Unknown(what),
        408 | 409 | 425 | 500..=599 => CallError::Failed(what),
        300..=399 => CallError::Unknown(format!("{status}: the address has moved")),
        _ => CallError::Refused(what),
    }
}

/// Without the address, which may hold a secret.
fn failed(error: &reqwest::Error) -> CallError {
    let what = if error.is_timeout() {
        "no answer in time"
    } else if error.is_connect() {
        "no connection"
    } else {
        "the connection broke off"
    };
    let mut cause: &dyn std::error::Error = error;
    while let Some(next) = cause.source() {
        cause = next;
    }
    // The innermost cause of an error of ours is the system's: it quotes no request.
    CallError::Failed(format!("{what} ({cause})").replace(|c: char| c.is_control(), " "))
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
            (404, &none, "model_not_found", CallError::Unknown("404 Not Found, model_not_found".into())),
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
