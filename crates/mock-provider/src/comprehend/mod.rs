//! Simulates the synchronous text operations of Amazon Comprehend, with the service's limits, partial failures and
//! prices. The wire protocol is JSON 1.1, with the name of the operation in the header `X-Amz-Target`.
//!
//! The results follow from simple rules (`find.rs`), so that a test can predict them. As in the real service, offsets
//! count Unicode code points. A text that is answered is charged for at least three units; a text that fails is not
//! charged.

mod find;
mod rates;

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http_body_util::{BodyExt, Limited};
use hyper::Request;
use hyper::Response;
use hyper::body::Incoming;
use hyper::header::AUTHORIZATION;
use serde_json::{Value, json};

pub use rates::CallRates;

use crate::charges::{Analysis, text_hash};
use crate::faults::{Act, On, Rule};
use crate::ledger::Event;
use crate::options::nano;
use crate::reply::{Content, Outgoing, Reply};
use crate::route::Cut;
use crate::vectors::{Mix, hash};
use crate::world::World;

/// Prefix of every operation name in the header `X-Amz-Target`.
const SERVICE: &str = "Comprehend_20171127.";
/// Maximum size of a request body, in bytes. A request that respects the limits of Comprehend is always smaller.
const MAX_BODY: usize = 4 << 20;
/// Languages that are supported for entities, key phrases and sentiment.
const LANGUAGES: [&str; 12] = ["ar", "de", "en", "es", "fr", "hi", "it", "ja", "ko", "pt", "zh", "zh-TW"];
/// Languages that are supported for the detection of personal data.
const PERSONAL_LANGUAGES: [&str; 2] = ["en", "es"];

/// Configures the limits and the price of the simulated Comprehend. The defaults are those of the real service.
#[derive(Clone, Debug, PartialEq)]
pub struct ComprehendLimits {
    pub texts_per_request: usize,
    pub bytes_per_text: usize,
    /// Maximum size of a text for the detection of personal data, in bytes.
    pub bytes_of_personal_text: usize,
    /// Maximum number of requests per second for each operation; `None` means no limit.
    pub requests_per_second: Option<f64>,
    /// US dollars per unit of a hundred characters.
    pub usd_per_unit: f64,
}

impl Default for ComprehendLimits {
    fn default() -> Self {
        Self {
            texts_per_request: 25,
            bytes_per_text: 5_000,
            bytes_of_personal_text: 100_000,
            requests_per_second: None,
            usd_per_unit: 0.0001,
        }
    }
}

/// Names the requested operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Operation {
    Language,
    Entities,
    KeyPhrases,
    Sentiment,
    PersonalData,
}

impl Operation {
    fn of(name: &str) -> Option<Self> {
        Some(match name {
            "BatchDetectDominantLanguage" => Operation::Language,
            "BatchDetectEntities" => Operation::Entities,
            "BatchDetectKeyPhrases" => Operation::KeyPhrases,
            "BatchDetectSentiment" => Operation::Sentiment,
            "DetectPiiEntities" => Operation::PersonalData,
            _ => return None,
        })
    }

    fn on(self) -> On {
        match self {
            Operation::Language => On::DetectLanguage,
            Operation::Entities => On::DetectEntities,
            Operation::KeyPhrases => On::DetectKeyPhrases,
            Operation::Sentiment => On::DetectSentiment,
            Operation::PersonalData => On::DetectPersonalData,
        }
    }

    fn name(self) -> &'static str {
        match self {
            Operation::Language => "language",
            Operation::Entities => "entities",
            Operation::KeyPhrases => "key_phrases",
            Operation::Sentiment => "sentiment",
            Operation::PersonalData => "personal_data",
        }
    }
}

/// Holds a refusal with the error type that the real service would report.
struct Refusal {
    status: u16,
    kind: &'static str,
    message: String,
}

fn refusal(status: u16, kind: &'static str, message: impl Into<String>) -> Refusal {
    Refusal { status, kind, message: message.into() }
}

impl From<Refusal> for Reply {
    fn from(refusal: Refusal) -> Self {
        let mut reply = amazon(&json!({"__type": refusal.kind, "message": refusal.message}));
        reply.status = refusal.status;
        reply.headers.push(("x-amzn-errortype", refusal.kind.to_owned()));
        reply
    }
}

fn amazon(body: &Value) -> Reply {
    let content = Content::Bytes(body.to_string().into_bytes().into());
    Reply { status: 200, headers: vec![("content-type", "application/x-amz-json-1.1".to_owned())], content }
}

/// Returns whether a request is meant for Comprehend.
pub fn is_meant<B>(request: &Request<B>) -> bool {
    target(request).is_some()
}

fn target<B>(request: &Request<B>) -> Option<&str> {
    request.headers().get("x-amz-target")?.to_str().ok()?.strip_prefix(SERVICE)
}

pub async fn serve(world: &Arc<World>, request: Request<Incoming>) -> Result<Response<Outgoing>, Cut> {
    let operation = target(&request).and_then(Operation::of);
    let fault = operation.and_then(|o| world.faults().draw(o.on()));
    if let Some(rule) = &fault {
        // If the journal fails, the fault is not recorded; the reply is sent anyway, as for the other API.
        let _ = world.record(vec![Event::Fault { name: rule.name() }]);
    }
    let act = fault.as_ref().map(|rule| rule.act);
    if act == Some(Act::CutBefore) {
        return Err(Cut);
    }
    let mut reply = match answer(world, operation, request, fault.as_ref()).await {
        Ok(reply) => reply,
        Err(refusal) => {
            let _ = world.record(vec![Event::Unanalysed { kind: refusal.kind.to_owned() }]);
            refusal.into()
        }
    };
    let number = world.now().as_nanos();
    reply.headers.push(("x-amzn-requestid", world.id("", &number.to_string())));
    match act {
        Some(Act::CutAfter) => Err(Cut),
        Some(Act::Garbage) => {
            reply.content = Content::Bytes("<html><body>upstream says hello\u{0}".into());
            Ok(reply.send(false))
        }
        act => Ok(reply.send(act == Some(Act::CutMiddle))),
    }
}

async fn answer(
    world: &Arc<World>,
    operation: Option<Operation>,
    request: Request<Incoming>,
    fault: Option<&Rule>,
) -> Result<Reply, Refusal> {
    let signed = request.headers().get(AUTHORIZATION).and_then(|v| v.to_str().ok());
    let signed = signed.is_some_and(|v| v.starts_with("AWS4-HMAC-SHA256 ") && v.contains("/comprehend/aws4_request"));
    // Read the whole body, even of a request that is refused. A client that is still sending would see a broken
    // connection.
    let body = match Limited::new(request.into_body(), MAX_BODY).collect().await {
        Ok(body) => body.to_bytes(),
        Err(_) => return Err(refusal(413, "RequestEntityTooLargeException", "")),
    };
    if !signed {
        return Err(refusal(403, "MissingAuthenticationTokenException", "Missing Authentication Token"));
    }
    let Some(operation) = operation else {
        return Err(refusal(400, "UnknownOperationException", ""));
    };
    match fault.map(|rule| (rule.act, rule)) {
        Some((Act::Slow, rule)) => {
            tokio::time::sleep(Duration::try_from_secs_f64(rule.seconds.unwrap_or_default()).unwrap_or_default()).await;
        }
        Some((Act::Throttle, _)) => return Err(refusal(400, "ThrottlingException", "Rate exceeded")),
        Some((Act::Status, rule)) => {
            let code = rule.code.unwrap_or(500);
            let kind = match code {
                503 => "ServiceUnavailable",
                400 => "InvalidRequestException",
                403 => "AccessDeniedException",
                _ => "InternalServerException",
            };
            return Err(refusal(code, kind, ""));
        }
        _ => {}
    }
    if !world.call_rates().takes(operation.name(), world.now()) {
        return Err(refusal(400, "ThrottlingException", "Rate exceeded"));
    }
    analyse(world, operation, &body, fault)
}

/// Checks the request, computes the answer, and records the charge before the reply is sent.
fn analyse(world: &World, operation: Operation, body: &Bytes, fault: Option<&Rule>) -> Result<Reply, Refusal> {
    let invalid = |text: &str| refusal(400, "SerializationException", text);
    let body: Value = serde_json::from_slice(body).map_err(|_| invalid("no JSON"))?;
    let language = language(operation, &body)?;
    let limits = &world.options.comprehend;
    if operation == Operation::PersonalData {
        let text = body.get("Text").and_then(Value::as_str).ok_or_else(|| invalid("no Text"))?;
        check(text)?;
        if text.len() > limits.bytes_of_personal_text {
            let (most, bytes) = (limits.bytes_of_personal_text, text.len());
            return Err(refusal(400, "TextSizeLimitExceededException", too_long(most, bytes)));
        }
        charge(world, operation, language, &[text])?;
        return Ok(amazon(&json!({"Entities": find::personal_data(text)})));
    }
    let list = body.get("TextList").and_then(Value::as_array).ok_or_else(|| invalid("no TextList"))?;
    let texts: Vec<&str> = list.iter().map(Value::as_str).collect::<Option<_>>().ok_or_else(|| invalid("TextList"))?;
    if texts.is_empty() {
        return Err(refusal(400, "ValidationException", "TextList must have at least 1 item"));
    }
    if texts.len() > limits.texts_per_request {
        return Err(refusal(400, "BatchSizeLimitExceededException", "too many documents"));
    }
    texts.iter().try_for_each(|text| check(text))?;
    let failing = |index: usize, text: &str| {
        let rule = fault.filter(|rule| rule.act == Act::ItemErrors)?;
        let drawn = Mix(world.options.seed ^ hash(text.as_bytes())).next() as f64 / u64::MAX as f64;
        let hit = rule.share.map_or(index == 0, |share| drawn < share);
        hit.then(|| rule.item.clone().unwrap_or_else(|| "INTERNAL_SERVER_ERROR".to_owned()))
    };
    let (mut results, mut errors, mut answered) = (Vec::new(), Vec::new(), Vec::new());
    for (index, text) in texts.iter().enumerate() {
        if text.len() > limits.bytes_per_text {
            let message = too_long(limits.bytes_per_text, text.len());
            errors.push(json!({"Index": index, "ErrorCode": "TEXT_SIZE_LIMIT_EXCEEDED", "ErrorMessage": message}));
        } else if let Some(code) = failing(index, text) {
            errors.push(json!({"Index": index, "ErrorCode": code, "ErrorMessage": "on purpose"}));
        } else {
            answered.push(*text);
            results.push(found(operation, index, text));
        }
    }
    if !answered.is_empty() {
        charge(world, operation, language, &answered)?;
    }
    Ok(amazon(&json!({"ResultList": results, "ErrorList": errors})))
}

fn found(operation: Operation, index: usize, text: &str) -> Value {
    match operation {
        Operation::Language => json!({"Index": index, "Languages": find::languages(text)}),
        Operation::Entities => json!({"Index": index, "Entities": find::entities(text)}),
        Operation::KeyPhrases => json!({"Index": index, "KeyPhrases": find::key_phrases(text)}),
        Operation::Sentiment | Operation::PersonalData => {
            let (label, score) = find::sentiment(text);
            json!({"Index": index, "Sentiment": label, "SentimentScore": score})
        }
    }
}

fn language(operation: Operation, body: &Value) -> Result<&str, Refusal> {
    if operation == Operation::Language {
        return Ok("");
    }
    let code = body.get("LanguageCode").and_then(Value::as_str).unwrap_or_default();
    if !LANGUAGES.contains(&code) {
        return Err(refusal(400, "ValidationException", "LanguageCode must satisfy enum value set"));
    }
    if operation == Operation::PersonalData && !PERSONAL_LANGUAGES.contains(&code) {
        return Err(refusal(400, "UnsupportedLanguageException", "the language is not supported"));
    }
    Ok(code)
}

/// Refuses blank texts. Like the message of the real service, the error quotes the text, so that tests can detect
/// callers that log the text.
fn check(text: &str) -> Result<(), Refusal> {
    match text.trim().is_empty() {
        true => Err(refusal(400, "ValidationException", format!("value '{text}' must have length at least 1"))),
        false => Ok(()),
    }
}

fn too_long(most: usize, bytes: usize) -> String {
    format!(
        "Input text size exceeds limit. Max length of request text allowed is {most} bytes while in this request the \
         text size is {bytes} bytes"
    )
}

/// Returns the number of units of a text: one unit per hundred characters, but at least three units.
fn units(text: &str) -> u64 {
    (text.chars().count() as u64).div_ceil(100).max(3)
}

fn charge(world: &World, operation: Operation, language: &str, texts: &[&str]) -> Result<(), Refusal> {
    let units: u64 = texts.iter().map(|text| units(text)).sum();
    let named = |text: &&str| format!("{}/{language}/{}", operation.name(), text_hash(text));
    let analysis = Analysis {
        operation: operation.name().to_owned(),
        count: texts.len() as u64,
        units,
        nanodollars: nano(units as f64 * world.options.comprehend.usd_per_unit),
        texts: if world.options.charges_by_text { texts.iter().map(named).collect() } else { Vec::new() },
    };
    world.record(vec![Event::Analysed(analysis)]).map_err(|e| refusal(500, "InternalServerException", e.message))
}
