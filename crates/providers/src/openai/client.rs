//! Sends single calls. The callers decide on retries.

use std::io::Read;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use docweir_admission::Observed;
use flate2::read::MultiGzDecoder;
use futures_util::StreamExt;
use reqwest::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, HeaderValue};
use reqwest::{Method, Request, RequestBuilder, Response, StatusCode};
use serde::Serialize;
use serde::de::DeserializeOwned;

use super::address::{Address, redirection};
use super::answer::{self, Vectors};
use super::call_error::{CallError, failed, observed, refused, unkeyed};
use super::error_body::ErrorBody;
use super::excerpt::excerpt;
use super::options::OpenAiOptions;
use super::tls;
use super::wire::{EmbeddingsRequest, ModelsAnswer};
use crate::secrets::{Key, Sensitive};

/// Form of vectors that every endpoint supports.
const LISTS: &str = "float";

/// First bytes of data that are compressed with gzip.
pub(super) const GZIP: [u8; 2] = [0x1f, 0x8b];

/// Sends calls to an endpoint. The API key is stored in this type and nowhere else.
pub struct Client {
    http: reqwest::Client,
    address: Address,
    key: Key,
    max_answer_bytes: u64,
    /// True after the endpoint has refused to send vectors in base64.
    lists: AtomicBool,
}

/// Holds a successful answer, and the rate limits that the answer reports.
#[derive(Debug)]
pub struct Answered<T> {
    pub value: T,
    pub observed: Option<Observed>,
}

/// Holds the complete body of a successful answer.
struct Body {
    status: StatusCode,
    headers: HeaderMap,
    bytes: Vec<u8>,
}

/// Explains why no client was created.
#[derive(Debug, thiserror::Error)]
pub enum ClientError {
    #[error(transparent)]
    Http(#[from] reqwest::Error),
    #[error(transparent)]
    Tls(#[from] rustls::Error),
}

impl Client {
    /// Creates a client. The API key is sent only in the headers of requests.
    pub fn new(options: &OpenAiOptions, key: Key) -> Result<Self, ClientError> {
        let address = Address::new(&options.base_url);
        let mut http = reqwest::Client::builder().tls_backend_preconfigured(tls::config()?);
        if address.is_plain_and_local() {
            // A proxy would receive the key and the texts of a server on this machine unencrypted.
            http = http.no_proxy();
        }
        let http = http
            .connect_timeout(Duration::from_secs_f64(options.connect_seconds))
            .timeout(Duration::from_secs_f64(options.request_seconds))
            .redirect(reqwest::redirect::Policy::custom(redirection))
            .referer(false)
            .build()?;
        let max_answer_bytes = options.max_answer_bytes;
        Ok(Self { http, address, key, max_answer_bytes, lists: AtomicBool::new(false) })
    }

    /// Returns a vector for each text, in the order of the texts, and the number of charged tokens. If the endpoint does
    /// not support base64, the request is sent once more, and all later requests ask for lists of numbers.
    pub async fn embeddings(
        &self,
        model: &str,
        dimensions: Option<u32>,
        texts: &[&str],
    ) -> Result<Answered<Vectors>, CallError> {
        let encoding_format = self.encoding();
        match self.embeddings_as(encoding_format, model, dimensions, texts).await {
            Err(CallError::Encoding(what)) if encoding_format != LISTS => {
                tracing::info!(what, "endpoint does not support base64; asking for lists of numbers");
                self.asks_for_lists();
                self.embeddings_as(LISTS, model, dimensions, texts).await
            }
            answer => answer,
        }
    }

    async fn embeddings_as(
        &self,
        encoding_format: &'static str,
        model: &str,
        dimensions: Option<u32>,
        texts: &[&str],
    ) -> Result<Answered<Vectors>, CallError> {
        let request = EmbeddingsRequest { model, input: texts, encoding_format, dimensions };
        let request = with_json(self.request(Method::POST, &["embeddings"], &[])?, &request)?;
        let body = self.answer(request, Some(texts)).await?;
        match answer::read(&body.bytes, texts.len()) {
            Ok(value) => Ok(Answered { value, observed: observed(&body.headers) }),
            Err(why) => Err(self.garbled(&body, &why, Some(texts)).await),
        }
    }

    /// Returns the form in which vectors are requested.
    pub fn encoding(&self) -> &'static str {
        if self.lists.load(Ordering::Relaxed) { LISTS } else { "base64" }
    }

    /// Requests vectors as lists of numbers from now on.
    pub fn asks_for_lists(&self) {
        self.lists.store(true, Ordering::Relaxed);
    }

    /// Returns whether the endpoint lists a model. This call is free of charge.
    pub async fn has_model(&self, model: &str) -> Result<bool, CallError> {
        let listed = self.read::<ModelsAnswer>(self.request(Method::GET, &["models"], &[])?, Some(&[])).await?;
        Ok(listed.value.data.iter().any(|m| m.id == model))
    }

    /// Builds a request. Path segments and query values may come from the provider, so both are escaped.
    pub(super) fn request(
        &self,
        method: Method,
        path: &[&str],
        query: &[(&str, &str)],
    ) -> Result<RequestBuilder, CallError> {
        Ok(self.http.request(method, self.address.url(path, query)?))
    }

    /// Sends a request with the API key. If the server does not know the address, and no call has succeeded yet, the
    /// request is sent once more to the alternative address.
    pub(super) async fn send(&self, request: RequestBuilder) -> Result<Response, CallError> {
        let request = request.build().map_err(|e| failed(&e))?;
        let instead = self.address.instead_of(request.url()).zip(request.try_clone());
        let answer = self.send_with_key(request).await?;
        if answer.status().is_success() {
            self.address.works(false);
        }
        let is_unknown = |answer: &Response| matches!(answer.status().as_u16(), 404 | 405);
        let Some((url, mut request)) = instead.filter(|_| is_unknown(&answer)) else { return Ok(answer) };
        *request.url_mut() = url;
        match self.send_with_key(request).await {
            Ok(other) if other.status().is_success() => {
                self.address.works(true);
                Ok(other)
            }
            // The server knows the path, so this is its answer to the request.
            Ok(other) if !is_unknown(&other) => Ok(other),
            // The request may have been executed at the second address.
            Err(error) if error.may_be_charged() => Err(error),
            _ => Ok(answer),
        }
    }

    /// Sends a request with the API key. If the endpoint refuses the key and a newer key is available, the request is
    /// sent once more with the newer key. This is safe, because a request with a refused key is not executed.
    async fn send_with_key(&self, request: Request) -> Result<Response, CallError> {
        let Some(key) = self.key.get().await.map_err(unkeyed)? else { return self.sent(request).await };
        if !self.address.keeps_secrets() {
            let text = "`base_url` begins with http://, which would send the key unencrypted: use https://, or an \
                        address of this machine";
            return Err(CallError::Unkeyed(text.into()));
        }
        let again = request.try_clone().filter(|_| self.key.may_change());
        let answer = self.sent(with_key(request, &key)?).await?;
        if answer.status() != StatusCode::UNAUTHORIZED {
            return Ok(answer);
        }
        match (self.key.instead_of(&key).await, again) {
            (None, _) => Ok(answer),
            (Some(new), Some(request)) => self.sent(with_key(request, &new)?).await,
            // The request holds a file that was read to its end, so it cannot be repeated.
            (Some(_), None) => Err(CallError::Failed("the API key changed during the upload".into())),
        }
    }

    async fn sent(&self, request: Request) -> Result<Response, CallError> {
        self.http.execute(request).await.map_err(|e| failed(&e))
    }

    /// Makes one call that can be repeated at the alternative address, if no call has succeeded yet. A streamed body
    /// can be sent only once, so the address must be known before an upload begins.
    pub(super) async fn learn_address(&self) {
        if !self.address.is_untried() {
            return;
        }
        let Ok(request) = self.request(Method::GET, &["files"], &[("limit", "1")]) else { return };
        if let Err(error) = self.send(request).await {
            // The upload that follows reports the same error.
            tracing::debug!(%error, "address of the endpoint not learned");
        }
    }

    /// Sends a request of the Files API or the Batch API, and parses the JSON of a successful answer. The errors do not
    /// quote the answer, because it may quote lines of an uploaded file.
    pub(super) async fn call<T: DeserializeOwned>(&self, request: RequestBuilder) -> Result<Answered<T>, CallError> {
        self.read(request, None).await
    }

    /// Sends a request with the texts `sent`, and parses the JSON of a successful answer. Errors quote the answer only
    /// if the sent texts are given.
    async fn read<T: DeserializeOwned>(
        &self,
        request: RequestBuilder,
        sent: Option<&[&str]>,
    ) -> Result<Answered<T>, CallError> {
        let body = self.answer(request, sent).await?;
        match serde_json::from_slice(&body.bytes) {
            Ok(value) => Ok(Answered { value, observed: observed(&body.headers) }),
            // serde's message is left out, because it quotes the input.
            Err(e) => {
                let why = format!("incomplete or unexpected JSON at column {}", e.column());
                Err(self.garbled(&body, &why, sent).await)
            }
        }
    }

    /// Sends a request with the texts `sent`, and returns the body of a successful answer.
    async fn answer(&self, request: RequestBuilder, sent: Option<&[&str]>) -> Result<Body, CallError> {
        let response = self.send(request).await?;
        let (status, headers) = (response.status(), response.headers().clone());
        if !status.is_success() {
            return Err(self.refusal(response, sent).await);
        }
        let body = Body { status, headers, bytes: self.body(response).await? };
        match ErrorBody::of_success(&body.bytes) {
            Some(error) => Err(refused(status, &body.headers, &error, &self.excerpt(&body.bytes, sent).await)),
            None => Ok(body),
        }
    }

    /// Returns a successful response without reading the body. For any other response, returns the error that the
    /// response reports, without a quotation of the body.
    pub(super) async fn accepted(&self, response: Response) -> Result<Response, CallError> {
        if response.status().is_success() { Ok(response) } else { Err(self.refusal(response, None).await) }
    }

    async fn refusal(&self, response: Response, sent: Option<&[&str]>) -> CallError {
        let (status, headers) = (response.status(), response.headers().clone());
        // The status identifies the error, whatever the body contains.
        let body = self.body(response).await.unwrap_or_default();
        let error = ErrorBody::read(&body).unwrap_or_default();
        refused(status, &headers, &error, &self.excerpt(&body, sent).await)
    }

    async fn garbled(&self, body: &Body, why: &str, sent: Option<&[&str]>) -> CallError {
        let (status, excerpt) = (body.status, self.excerpt(&body.bytes, sent).await);
        let colon = if excerpt.is_empty() { "" } else { ": " };
        CallError::Garbled(format!("{why}; the answer was {status}{colon}{excerpt}"))
    }

    /// Returns the beginning of a body without the texts `sent`. Returns an empty text if the sent texts are not given.
    async fn excerpt(&self, body: &[u8], sent: Option<&[&str]>) -> String {
        let Some(sent) = sent else { return String::new() };
        let key = self.key.get().await.ok().flatten();
        excerpt(body, key.as_ref().map(|key| key.expose()), sent)
    }

    /// Reads a body, and decompresses it if it is compressed.
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
        if !body.starts_with(&GZIP) {
            return Ok(body);
        }
        let mut whole = Vec::new();
        let read = MultiGzDecoder::new(body.as_slice()).take(self.max_answer_bytes + 1).read_to_end(&mut whole);
        match read {
            Ok(_) if whole.len() as u64 > self.max_answer_bytes => Err(too_large()),
            Ok(_) => Ok(whole),
            Err(_) => Err(CallError::Garbled("the compressed answer is damaged".into())),
        }
    }
}

/// Adds the API key to the headers. The header is marked as sensitive, so that the connection does not log it.
fn with_key(mut request: Request, key: &Sensitive) -> Result<Request, CallError> {
    let unusable = |_| CallError::Unkeyed("the API key contains characters that a header does not allow".into());
    let mut value = HeaderValue::try_from(format!("Bearer {}", key.expose())).map_err(unusable)?;
    value.set_sensitive(true);
    request.headers_mut().insert(AUTHORIZATION, value);
    Ok(request)
}

pub(super) fn with_json(request: RequestBuilder, body: &impl Serialize) -> Result<RequestBuilder, CallError> {
    let body = serde_json::to_vec(body).map_err(|_| CallError::Refused("cannot serialise the request".into()))?;
    Ok(request.header(CONTENT_TYPE, "application/json").body(body))
}
