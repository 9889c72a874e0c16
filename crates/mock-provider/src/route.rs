//! Handles a request: selects a fault, checks the key and the limits, calls the endpoint, and applies the fault.

use std::sync::Arc;
use std::time::Duration;

use http_body_util::{BodyExt, Limited};
use hyper::body::Incoming;
use hyper::header::{AUTHORIZATION, CONTENT_TYPE, HeaderMap, RANGE};
use hyper::{Method, Request, Response, Uri};

use crate::dialect;
use crate::embeddings::{self, Flaw};
use crate::faults::{Act, On, Rule};
use crate::ledger::Event;
use crate::options::Options;
use crate::problem::Problem;
use crate::reply::{Content, Outgoing, Reply};
use crate::world::World;
use crate::{batches, chat, comprehend, control, files};

/// Maximum size of a body that is not a file, in bytes. Requests within the token limits are far smaller.
const MAX_BODY: usize = 64 << 20;

/// Signals that a fault requires the connection to end without a reply.
#[derive(Debug, thiserror::Error)]
#[error("cut on purpose")]
pub struct Cut;

pub async fn serve(world: Arc<World>, request: Request<Incoming>) -> Result<Response<Outgoing>, Cut> {
    if request.uri().path().starts_with("/_mock/") {
        return Ok(aside(&world, request).await.unwrap_or_else(Reply::from).send(false));
    }
    if comprehend::is_meant(&request) {
        return comprehend::serve(&world, request).await;
    }
    let options = &world.options;
    if let Some(reply) = redirected(options, request.uri()) {
        return Ok(after(request.into_body(), reply).await.send(false));
    }
    let on = endpoint(options, request.method(), request.uri().path()).map(|endpoint| endpoint.on());
    let fault = on.and_then(|on| world.faults().draw(on));
    if let Some(rule) = &fault {
        // If the journal fails, the charges lack this fault. There is no better reaction here.
        let _ = world.record(vec![Event::Fault { name: rule.name() }]);
    }
    let act = fault.as_ref().map(|rule| rule.act);
    if act == Some(Act::CutBefore) {
        return Err(Cut);
    }
    let answered = answer(&world, request, fault.as_ref()).await;
    let mut reply = answered.unwrap_or_else(|problem| dialect::refusal(&options.dialects, problem));
    if let Err(problem) = world.record(vec![Event::Answered { status: reply.status }]) {
        reply = problem.into();
    }
    let number = world.now().as_nanos();
    reply.headers.push(("x-request-id", world.id("req_", &number.to_string())));
    match act {
        Some(Act::CutAfter | Act::Hide) => Err(Cut),
        Some(Act::Garbage) => {
            reply.status = 200;
            reply.content = Content::Bytes("<html><body>upstream says hello\u{0}".into());
            Ok(reply.send(false))
        }
        Some(Act::DamagedGzip) => {
            reply.content = Content::Bytes(DAMAGED_GZIP.into());
            Ok(reply.send(false))
        }
        act => Ok(dialect::compressed(&options.dialects, reply).send(act == Some(Act::CutMiddle))),
    }
}

/// Begins as compressed data do, and cannot be decompressed.
const DAMAGED_GZIP: &[u8] = b"\x1f\x8b\x08\0\0\0\0\0\0\x03damaged";

async fn aside(world: &World, request: Request<Incoming>) -> Result<Reply, Problem> {
    let (parts, body) = request.into_parts();
    let body = collect(body).await?;
    control::answer(world, &parts.method, parts.uri.path(), parts.uri.query(), &body)
}

async fn answer(world: &Arc<World>, request: Request<Incoming>, fault: Option<&Rule>) -> Result<Reply, Problem> {
    let (parts, body) = request.into_parts();
    let query = parts.uri.query();
    let key = match key(world, &parts.headers) {
        Ok(key) => key,
        Err(problem) => return Err(after(body, problem).await),
    };
    match fault.map(|rule| (rule.act, rule)) {
        Some((Act::Slow, rule)) => tokio::time::sleep(seconds(rule.seconds)).await,
        Some((Act::Status, rule)) => return Err(after(body, status(rule)).await),
        Some((Act::InsufficientQuota, _)) => return Err(after(body, Problem::quota()).await),
        _ => {}
    }
    let _place = match world.place() {
        Ok(place) => place,
        Err(problem) => return Err(after(body, problem).await),
    };
    let flaw: Flaw = fault.map(|rule| rule.act);
    match endpoint(&world.options, &parts.method, parts.uri.path()) {
        Some(Endpoint::Embeddings) => {
            let (world, body) = (world.clone(), collect(body).await?);
            blocking(move || embeddings::live(&world, &key, &body, flaw)).await
        }
        Some(Endpoint::Chat) => {
            let (world, body) = (world.clone(), collect(body).await?);
            blocking(move || chat::live(&world, &key, &body)).await
        }
        Some(Endpoint::Models) => Ok(models(world)),
        Some(Endpoint::Upload) => {
            let content_type = parts.headers.get(CONTENT_TYPE).and_then(|value| value.to_str().ok());
            files::upload(world, content_type, body).await
        }
        Some(Endpoint::Files) => files::list(world, query),
        Some(Endpoint::File(id)) => files::get(world, id),
        Some(Endpoint::DeleteFile(id)) => files::delete(world, id),
        Some(Endpoint::Content(id)) => {
            files::content(world, id, parts.headers.get(RANGE).and_then(|value| value.to_str().ok()))
        }
        Some(Endpoint::CreateBatch) => {
            let hide = fault.filter(|rule| rule.act == Act::Hide);
            batches::create(world, &key, &collect(body).await?, hide)
        }
        Some(Endpoint::Batches) => batches::list(world, query),
        Some(Endpoint::Batch(id)) => batches::get(world, id),
        Some(Endpoint::CancelBatch(id)) => batches::cancel(world, id),
        None => {
            let text = format!("Invalid URL ({} {})", parts.method, parts.uri.path());
            Err(after(body, Problem::new(404, text)).await)
        }
    }
}

enum Endpoint<'a> {
    Embeddings,
    Chat,
    Models,
    Upload,
    Files,
    File(&'a str),
    DeleteFile(&'a str),
    Content(&'a str),
    CreateBatch,
    Batches,
    Batch(&'a str),
    CancelBatch(&'a str),
}

impl Endpoint<'_> {
    fn on(&self) -> On {
        match self {
            Endpoint::Embeddings => On::Embeddings,
            Endpoint::Chat => On::Chat,
            Endpoint::Models => On::Models,
            Endpoint::Upload => On::Files,
            Endpoint::File(_) => On::FileGet,
            Endpoint::DeleteFile(_) => On::FileDelete,
            Endpoint::Content(_) => On::Content,
            Endpoint::CreateBatch => On::Batches,
            Endpoint::Batch(_) => On::BatchGet,
            Endpoint::CancelBatch(_) => On::Cancel,
            Endpoint::Files | Endpoint::Batches => On::List,
        }
    }
}

/// Returns the redirection that answers a request, if the options redirect it.
fn redirected(options: &Options, uri: &Uri) -> Option<Reply> {
    let rest = uri.path_and_query()?.as_str().strip_prefix(options.root.as_str())?;
    let mut reply = Reply::bytes(Vec::new());
    reply.status = 307;
    reply.headers.push(("location", format!("{}{rest}", options.redirect.as_ref()?)));
    Some(reply)
}

fn endpoint<'a>(options: &Options, method: &Method, path: &'a str) -> Option<Endpoint<'a>> {
    let path = path.strip_prefix("/moved").filter(|_| options.redirect.is_some()).unwrap_or(path);
    let mut words = path.strip_prefix(options.root.as_str())?.strip_prefix('/')?.split('/');
    let words = [words.next(), words.next(), words.next(), words.next()];
    Some(match (method.as_str(), words) {
        ("POST", [Some("embeddings"), None, ..]) => Endpoint::Embeddings,
        ("POST", [Some("chat"), Some("completions"), None, _]) => Endpoint::Chat,
        ("GET", [Some("models"), None, ..]) => Endpoint::Models,
        ("POST", [Some("files"), None, ..]) => Endpoint::Upload,
        ("GET", [Some("files"), None, ..]) => Endpoint::Files,
        ("GET", [Some("files"), Some(id), None, _]) => Endpoint::File(id),
        ("DELETE", [Some("files"), Some(id), None, _]) => Endpoint::DeleteFile(id),
        ("GET", [Some("files"), Some(id), Some("content"), None]) => Endpoint::Content(id),
        ("POST", [Some("batches"), None, ..]) => Endpoint::CreateBatch,
        ("GET", [Some("batches"), None, ..]) => Endpoint::Batches,
        ("GET", [Some("batches"), Some(id), None, _]) => Endpoint::Batch(id),
        ("POST", [Some("batches"), Some(id), Some("cancel"), None]) => Endpoint::CancelBatch(id),
        _ => return None,
    })
}

fn key(world: &World, headers: &HeaderMap) -> Result<String, Problem> {
    let given = headers.get(AUTHORIZATION).and_then(|value| value.to_str().ok());
    let Some(key) = given.and_then(|value| value.strip_prefix("Bearer ")) else {
        return Err(Problem::new(
            401,
            "You didn't provide an API key. You need to provide your API key in an Authorization header using Bearer \
             auth (i.e. Authorization: Bearer YOUR_KEY).",
        ));
    };
    if !world.options.keys.iter().any(|known| known == key) {
        let shown: String = key.chars().take(4).collect();
        let text = format!(
            "Incorrect API key provided: {shown}***. You can find your API key at \
             https://platform.openai.com/account/api-keys."
        );
        return Err(Problem::new(401, text).code("invalid_api_key"));
    }
    Ok(key.into())
}

fn status(rule: &Rule) -> Problem {
    let code = rule.code.unwrap_or(500);
    let wait = rule.retry_after.map(|wait| seconds(Some(wait)));
    let problem = match code {
        429 => Problem::new(429, "Rate limit reached. Please try again later.")
            .kind("requests")
            .code("rate_limit_exceeded"),
        503 => Problem::new(503, "The engine is currently overloaded, please try again later."),
        _ => Problem::new(code, "The server had an error while processing your request. Sorry about that!"),
    };
    problem.retry_after(wait)
}

fn seconds(seconds: Option<f64>) -> Duration {
    Duration::try_from_secs_f64(seconds.unwrap_or_default()).unwrap_or_default()
}

fn models(world: &World) -> Reply {
    let of = |model: &crate::options::Model| serde_json::json!({"id": model.name, "object": "model", "created": 1_705_948_997, "owned_by": "mock"});
    let data: Vec<_> = world.options.models.iter().map(of).collect();
    Reply::json(&serde_json::json!({"object": "list", "data": data}))
}

async fn collect(body: Incoming) -> Result<bytes::Bytes, Problem> {
    match Limited::new(body, MAX_BODY).collect().await {
        Ok(body) => Ok(body.to_bytes()),
        Err(error) => Err(Problem::new(413, format!("cannot read the body: {error}"))),
    }
}

/// Reads the rest of the body before a refusal. Otherwise, a client that is still sending would see a broken
/// connection instead of the reply.
async fn after<T>(mut body: Incoming, reply: T) -> T {
    while let Some(Ok(_)) = body.frame().await {}
    reply
}

/// Runs the work on another thread, because a single thread serves all connections.
async fn blocking(work: impl FnOnce() -> Result<Reply, Problem> + Send + 'static) -> Result<Reply, Problem> {
    match tokio::task::spawn_blocking(work).await {
        Ok(result) => result,
        Err(error) => Err(Problem::internal("finish the work", error)),
    }
}
