//! Serves the part of `POST /v1/chat/completions` that is needed to describe pictures.
//!
//! The answer states the size of each picture, so that a test can check that the right picture arrived.

use base64::Engine;
use serde_json::{Value, json};

use crate::embeddings::{count_tokens, parse};
use crate::ledger::Event;
use crate::problem::Problem;
use crate::reply::Reply;
use crate::world::World;

/// Number of tokens that OpenAI charges for a picture of low detail.
const TOKENS_PER_PICTURE: u64 = 85;

pub fn live(world: &World, key: &str, body: &[u8]) -> Result<Reply, Problem> {
    world.refuse_when_spent()?;
    let body = parse(body)?;
    let Some(name) = body.get("model").and_then(Value::as_str) else {
        return Err(Problem::new(400, "you must provide a model parameter"));
    };
    let model = world.model(name).ok_or_else(|| Problem::unknown_model(name))?;
    if model.dimensions.is_some() {
        let text = "This is not a chat model and thus not supported in the v1/chat/completions endpoint.";
        return Err(Problem::new(404, text).param("model"));
    }
    world.rates().request(key, name, world.now())?;
    let asked = read(&body)?;
    let answer = answer(&asked);
    let prompt = asked.texts.iter().map(|text| count_tokens(text)).sum::<u64>()
        + asked.pictures.len() as u64 * TOKENS_PER_PICTURE;
    let completion = count_tokens(&answer);
    let headers = world.rates().tokens(key, name, prompt + completion, world.now())?;

    let mut charge = world.charge(key, model, &asked.texts, prompt + completion, None);
    charge.inputs = 1;
    charge.nanodollars = model.cost(prompt, completion, false);
    let number = world.ledger().next_number();
    world.record(vec![Event::Charge(charge)])?;
    let mut reply = Reply::json(&json!({
        "id": world.id("chatcmpl-", &number.to_string()),
        "object": "chat.completion",
        "created": crate::clock::unix_millis() / 1000,
        "model": name,
        "choices": [{
            "index": 0,
            "message": {"role": "assistant", "content": answer, "refusal": null},
            "logprobs": null,
            "finish_reason": "stop",
        }],
        "usage": {"prompt_tokens": prompt, "completion_tokens": completion, "total_tokens": prompt + completion},
    }));
    reply.headers.extend(headers);
    Ok(reply)
}

#[derive(Debug, Default, PartialEq)]
struct Asked {
    texts: Vec<String>,
    /// Size in bytes of each picture in the request. `None` stands for a picture whose address was sent instead of its
    /// bytes.
    pictures: Vec<Option<usize>>,
}

fn read(body: &Value) -> Result<Asked, Problem> {
    let invalid = |what: &str| Problem::new(400, format!("Invalid 'messages': {what}.")).param("messages");
    let messages = body.get("messages").and_then(Value::as_array).filter(|messages| !messages.is_empty());
    let mut asked = Asked::default();
    for message in messages.ok_or_else(|| invalid("expected at least one message"))? {
        match &message["content"] {
            Value::String(text) => asked.texts.push(text.clone()),
            Value::Array(parts) => {
                for part in parts {
                    match part["type"].as_str() {
                        Some("text") => asked.texts.push(part["text"].as_str().unwrap_or_default().to_string()),
                        Some("image_url") => asked.pictures.push(picture(&part["image_url"]["url"])?),
                        _ => return Err(invalid("expected parts of type text or image_url")),
                    }
                }
            }
            _ => return Err(invalid("expected content that is a string or an array")),
        }
    }
    Ok(asked)
}

fn picture(url: &Value) -> Result<Option<usize>, Problem> {
    let invalid = || Problem::new(400, "Invalid image data or address.").param("messages").code("invalid_image_url");
    let url = url.as_str().ok_or_else(invalid)?;
    let Some(data) = url.strip_prefix("data:") else {
        return if url.starts_with("http") { Ok(None) } else { Err(invalid()) };
    };
    let (_, encoded) = data.split_once(";base64,").ok_or_else(invalid)?;
    let bytes = base64::engine::general_purpose::STANDARD.decode(encoded).map_err(|_| invalid())?;
    Ok(Some(bytes.len()))
}

fn answer(asked: &Asked) -> String {
    let of = |picture: &Option<usize>| match picture {
        Some(bytes) => format!("A picture of {bytes} bytes."),
        None => "A picture at another address.".to_string(),
    };
    match asked.pictures.is_empty() {
        true => format!("A text of {} words.", asked.texts.iter().flat_map(|text| text.split_whitespace()).count()),
        false => asked.pictures.iter().map(of).collect::<Vec<_>>().join(" "),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pictures_are_counted_byte_by_byte() {
        let of = |url: &str| {
            let part = json!({"type": "image_url", "image_url": {"url": url}});
            let text = json!({"type": "text", "text": "what is this"});
            read(&json!({"messages": [{"role": "user", "content": [text, part]}]})).map(|asked| answer(&asked))
        };
        assert_eq!(of("data:image/png;base64,AAECAw==").unwrap(), "A picture of 4 bytes.");
        assert_eq!(of("https://example.org/a.png").unwrap(), "A picture at another address.");
        assert_eq!(of("data:image/png;base64,A").unwrap_err().code, Some("invalid_image_url"));
        assert_eq!(of("a.png").unwrap_err().status, 400);
        let words = read(&json!({"messages": [{"role": "user", "content": "three plain words"}]})).unwrap();
        assert_eq!(answer(&words), "A text of 3 words.");
        assert!(read(&json!({"messages": []})).is_err());
    }
}
