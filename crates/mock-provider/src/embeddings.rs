//! Answers requests for embeddings. A request is either sent live to `POST /v1/embeddings`, or is a row of a batch.

use base64::Engine;
use serde_json::{Value, json};

use crate::dialect::{self, Dialect, UNEMBEDDABLE};
use crate::faults::Act;
use crate::ledger::Event;
use crate::options::Model;
use crate::problem::Problem;
use crate::reply::Reply;
use crate::world::World;

/// Holds a parsed request that is within all limits.
pub struct Asked<'a> {
    pub model: &'a Model,
    pub inputs: Vec<String>,
    /// Number of tokens of all inputs together.
    pub tokens: u64,
    dimensions: usize,
    base64: bool,
}

/// Fault that changes an otherwise correct reply before it is sent; `None` leaves the reply unchanged.
pub type Flaw = Option<Act>;

pub fn count_tokens(text: &str) -> u64 {
    bpe_openai::cl100k_base().count(text) as u64
}

/// Answers a live request. Checks the limits, then computes the vectors, and finally records the charge.
pub fn live(world: &World, key: &str, body: &[u8], flaw: Flaw) -> Result<Reply, Problem> {
    world.refuse_when_spent()?;
    let body = parse(body)?;
    let model = model(world, &body)?;
    world.rates().request(key, &model.name, world.now())?;
    let asked = read(world, &body)?;
    let fails = |dialect| world.options.dialects.contains(&dialect);
    if asked.inputs.iter().any(|input| input.contains(UNEMBEDDABLE)) {
        if fails(Dialect::CrashOnText) {
            return Err(Problem::new(500, "The worker has died."));
        }
        if fails(Dialect::VagueOnText) {
            return Ok(Reply::bytes(br#"{"error": "something went wrong"}"#.to_vec()));
        }
    }
    let headers = world.rates().tokens(key, &model.name, asked.tokens, world.now())?;
    let mut out = Vec::new();
    write(world, &asked, flaw, &mut out).map_err(|error| Problem::internal("write a reply", error))?;
    world.record(vec![Event::Charge(world.charge(key, model, &asked.inputs, asked.tokens, None))])?;
    let mut reply = Reply::bytes(out);
    reply.headers.push(("openai-model", model.name.clone()));
    reply.headers.extend(headers);
    Ok(reply)
}

pub fn parse(body: &[u8]) -> Result<Value, Problem> {
    serde_json::from_slice(body).map_err(|_| {
        Problem::new(
            400,
            "We could not parse the JSON body of your request. (HINT: This likely means you aren't using your HTTP \
             library correctly. The OpenAI API expects a JSON payload, but what was sent was not valid JSON.)",
        )
    })
}

/// Returns the embedding model that the request names.
pub fn model<'a>(world: &'a World, body: &Value) -> Result<&'a Model, Problem> {
    let Some(name) = body.get("model").and_then(Value::as_str) else {
        return Err(Problem::new(400, "you must provide a model parameter"));
    };
    let model = world.model(name).ok_or_else(|| Problem::unknown_model(name))?;
    match model.dimensions {
        Some(_) => Ok(model),
        None => Err(Problem::new(403, format!("You are not allowed to generate embeddings from this model: {name}"))),
    }
}

/// Reads the body of a request and checks it against the limits.
pub fn read<'a>(world: &'a World, body: &Value) -> Result<Asked<'a>, Problem> {
    let model = model(world, body)?;
    let limits = &world.options.limits;
    let inputs = inputs(body.get("input"))?;
    if inputs.len() > limits.inputs_per_request {
        let text = format!(
            "Invalid 'input': array too long. Expected an array with maximum length {}, but got an array with length {} \
             instead.",
            limits.inputs_per_request,
            inputs.len()
        );
        return Err(Problem::new(400, text).param("input").code("array_above_max_length"));
    }
    let (dimensions, base64) = form(world, model, body)?;
    let mut tokens = 0;
    for (at, input) in inputs.iter().enumerate() {
        let count = count_tokens(input);
        if count > limits.tokens_per_input {
            let text = format!("Invalid 'input[{at}]': maximum input length is {} tokens.", limits.tokens_per_input);
            return Err(Problem::new(400, text));
        }
        tokens += count;
    }
    if tokens > limits.tokens_per_request {
        let text = format!("Requested {tokens} tokens, max {} tokens per request", limits.tokens_per_request);
        return Err(Problem::new(400, text).kind("max_tokens_per_request").code("max_tokens_per_request"));
    }
    Ok(Asked { model, inputs, tokens, dimensions, base64 })
}

/// Returns the number of inputs of a request, valid or not.
pub fn input_count(body: &Value) -> u64 {
    match body.get("input") {
        Some(Value::Array(items)) => items.len() as u64,
        _ => 1,
    }
}

fn inputs(input: Option<&Value>) -> Result<Vec<String>, Problem> {
    // OpenAI gives no more details for an input of the wrong shape, including an empty string.
    let invalid = || {
        Problem::new(
            400,
            "'$.input' is invalid. Please check the API reference: https://platform.openai.com/docs/api-reference.",
        )
    };
    let inputs: Vec<String> = match input {
        None => {
            return Err(Problem::new(400, "Missing required parameter: 'input'.")
                .param("input")
                .code("missing_required_parameter"));
        }
        Some(Value::String(text)) => vec![text.clone()],
        // Arrays of tokens are legal, but the mock provider cannot convert tokens back to a text.
        Some(Value::Array(items)) => {
            items.iter().map(|item| item.as_str().map(str::to_string)).collect::<Option<_>>().ok_or_else(invalid)?
        }
        Some(_) => return Err(invalid()),
    };
    if inputs.is_empty() || inputs.iter().any(String::is_empty) {
        return Err(invalid());
    }
    Ok(inputs)
}

/// Returns the requested number of dimensions, and whether the request asks for vectors in base64.
fn form(world: &World, model: &Model, body: &Value) -> Result<(usize, bool), Problem> {
    let native = model.dimensions.unwrap_or_default();
    let dimensions = match body.get("dimensions") {
        None | Some(Value::Null) => native,
        Some(value) => match value.as_u64().and_then(|n| usize::try_from(n).ok()) {
            Some(n) if (1..=native).contains(&n) => n,
            _ => {
                let text = format!("Invalid value for 'dimensions' = {value}. Must be from 1 to {native}.");
                return Err(Problem::new(400, text).param("dimensions"));
            }
        },
    };
    let base64 = match body.get("encoding_format").map(|value| (value, value.as_str())) {
        None | Some((Value::Null, _) | (_, Some("float"))) => false,
        Some((_, Some("base64"))) if !world.options.dialects.contains(&Dialect::NoBase64) => true,
        Some((value, _)) => {
            let text = format!("Invalid value: {value}. Supported values are: 'float'.");
            return Err(Problem::new(400, text).param("encoding_format").code("invalid_value"));
        }
    };
    Ok((dimensions, base64))
}

/// Writes the body of a reply.
pub fn write(world: &World, asked: &Asked, flaw: Flaw, out: &mut Vec<u8>) -> serde_json::Result<()> {
    let dialects = &world.options.dialects;
    let dimensions = match flaw {
        Some(Act::WrongDimension) => asked.dimensions - 1,
        _ => asked.dimensions,
    };
    let mut order: Vec<usize> = (0..asked.inputs.len()).collect();
    match flaw {
        Some(Act::ShuffledData) => order.reverse(),
        Some(Act::MissingVector) => order.truncate(order.len() - 1),
        _ => {}
    }
    out.extend_from_slice(br#"{"object":"list","data":["#);
    for (place, &index) in order.iter().enumerate() {
        let mut vector = world.vectors.vector(&asked.inputs[index], dimensions);
        if flaw == Some(Act::Nan) && place == 0 {
            vector[0] = f32::NAN;
        }
        let start = if place == 0 { "" } else { "," };
        let shown = dialect::index(dialects, index);
        out.extend_from_slice(format!(r#"{start}{{"object":"embedding",{shown}"embedding":"#).as_bytes());
        let marked = asked.inputs[index].contains(UNEMBEDDABLE);
        if marked && dialects.contains(&Dialect::ZeroVector) {
            vector.fill(0.0);
        }
        if marked && dialects.contains(&Dialect::NullVector) {
            out.extend_from_slice(b"null");
        } else if asked.base64 && !world.options.floats {
            let bytes: Vec<u8> = vector.iter().flat_map(|v| v.to_le_bytes()).collect();
            let text = base64::engine::general_purpose::STANDARD.encode(bytes);
            serde_json::to_writer(&mut *out, &text)?;
        } else {
            write_floats(&vector, out)?;
        }
        out.push(b'}');
    }
    let usage = dialect::usage(dialects, asked.tokens);
    out.extend_from_slice(format!(r#"],"model":{}{usage}}}"#, json!(asked.model.name)).as_bytes());
    Ok(())
}

fn write_floats(vector: &[f32], out: &mut Vec<u8>) -> serde_json::Result<()> {
    if vector.iter().all(|v| v.is_finite()) {
        return serde_json::to_writer(out, vector);
    }
    // JSON has no NaN; servers written in Python send this word.
    let words: Vec<_> = vector.iter().map(|v| if v.is_finite() { v.to_string() } else { "NaN".into() }).collect();
    out.extend_from_slice(format!("[{}]", words.join(",")).as_bytes());
    Ok(())
}
