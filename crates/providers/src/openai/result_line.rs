//! Parses one line of the output file or the error file of a batch.
//!
//! Nearly all lines are rows with one vector, and are parsed directly into the fields that are kept. Any other line
//! is parsed a second time as generic JSON, which is slower but accepts any structure.

use std::fmt;

use serde::Deserialize;
use serde::de::IgnoredAny;
use serde_json::Value;

use super::error_body::ErrorBody;
use super::wire::{Floats, number, text};

/// Minimum length of a vector. A shorter vector has no usable direction.
const SHORTEST: f64 = 1e-6;

/// Code of an item that was refused because the server does not support base64.
pub const NO_BASE64: &str = "no_base64";

/// Describes the result of one item, as stated in a line of a result file.
#[derive(Clone, Debug, PartialEq)]
pub enum ItemResult {
    /// The item has a vector, scaled to unit length.
    Row { custom_id: String, vector: Vec<f32>, tokens: u64 },
    /// The item has an unusable vector, but was charged.
    Unusable { custom_id: String, why: Flaw, tokens: u64 },
    /// The provider refused the item. `code` is the error code of the provider, or the status if there is no error
    /// code. `retryable` is true if the cause may lie outside the item, so that a retry may succeed.
    Refused { custom_id: String, code: String, retryable: bool },
    /// The line is unusable, for example because it names no item. `line` is the line number, counted from 1.
    Bad { line: u64, why: &'static str },
}

/// Explains why a vector is unusable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flaw {
    /// The vector has this number of dimensions, which is wrong.
    Dimension(usize),
    NotFinite,
    /// The vector is too short to have a direction.
    NoDirection,
}

impl fmt::Display for Flaw {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Flaw::Dimension(given) => write!(f, "its number of dimensions is {given}"),
            Flaw::NotFinite => f.write_str("a number in the vector is not finite"),
            Flaw::NoDirection => f.write_str("the length of the vector is zero"),
        }
    }
}

/// Holds the content of a line before its vector is checked.
#[derive(Debug, PartialEq)]
enum LineContent {
    Vector { custom_id: String, vector: Vec<f32>, tokens: u64 },
    Refusal { custom_id: String, code: String, retryable: bool },
    Nothing(&'static str),
}

/// Parses a line. `number` is the line number, which is part of the result if the line is unusable.
pub(super) fn outcome(line: &[u8], number: u64, dimension: usize) -> ItemResult {
    match quick(line).unwrap_or_else(|| thorough(line)) {
        LineContent::Vector { custom_id, vector, tokens } => match unit(vector, dimension) {
            Ok(vector) => ItemResult::Row { custom_id, vector, tokens },
            Err(why) => ItemResult::Unusable { custom_id, why, tokens },
        },
        LineContent::Refusal { custom_id, code, retryable } => ItemResult::Refused { custom_id, code, retryable },
        LineContent::Nothing(why) => ItemResult::Bad { line: number, why },
    }
}

#[derive(Deserialize)]
struct ResultLine {
    custom_id: String,
    response: Response,
    error: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Response {
    status_code: u16,
    body: Body,
}

#[derive(Deserialize)]
struct Body {
    data: (Datum,),
    usage: Option<Usage>,
    error: Option<IgnoredAny>,
}

#[derive(Deserialize)]
struct Datum {
    embedding: Floats,
}

#[derive(Deserialize)]
struct Usage {
    total_tokens: Option<u64>,
    prompt_tokens: Option<u64>,
}

/// Parses a line in OpenAI's usual form with one vector. Returns `None` for any other line.
fn quick(line: &[u8]) -> Option<LineContent> {
    let ResultLine { custom_id, response: Response { status_code: 200, body }, error: None } =
        serde_json::from_slice(line).ok()?
    else {
        return None;
    };
    let (Datum { embedding: Floats(vector) },) = body.data;
    let tokens = body.usage.and_then(|usage| usage.total_tokens.or(usage.prompt_tokens)).unwrap_or_default();
    (!custom_id.is_empty() && body.error.is_none()).then_some(LineContent::Vector { custom_id, vector, tokens })
}

fn thorough(line: &[u8]) -> LineContent {
    let value: Value = match serde_json::from_slice(line) {
        Ok(value) => value,
        Err(error) if error.is_eof() => return LineContent::Nothing("the line is incomplete"),
        Err(_) => return LineContent::Nothing("the line is not JSON"),
    };
    let Some(custom_id) = text(&value, "custom_id") else { return LineContent::Nothing("the line has no custom_id") };
    let at = |path| value.pointer(path).unwrap_or(&Value::Null);
    let status = number(at("/response"), "status_code");
    let error = ["/error", "/response/body/error"].into_iter().map(at).find(|error| !error.is_null());
    if error.is_some() || status.is_some_and(|status| !(200..300).contains(&status)) {
        let told = error.map(ErrorBody::of).unwrap_or_default();
        if told.text.contains("encoding_format") || told.text.contains("base64") {
            return LineContent::Refusal { custom_id, code: NO_BASE64.into(), retryable: true };
        }
        let code = told.code;
        let retryable = match status {
            Some(status) => matches!(status, 408 | 409 | 425 | 429 | 500..=599),
            // The item was not tried: the batch expired, was cancelled or failed.
            None => !code.starts_with("invalid"),
        };
        let code = if code.is_empty() { status.map_or("unknown".into(), |status| status.to_string()) } else { code };
        return LineContent::Refusal { custom_id, code, retryable };
    }
    let Some([datum]) = at("/response/body/data").as_array().map(Vec::as_slice) else {
        return LineContent::Nothing("the line does not have exactly one embedding");
    };
    let Some(Floats(vector)) = datum.get("embedding").and_then(|floats| Floats::deserialize(floats).ok()) else {
        return LineContent::Nothing("the embedding is not a list of floats");
    };
    let usage = at("/response/body/usage");
    let tokens = number(usage, "total_tokens").or_else(|| number(usage, "prompt_tokens")).unwrap_or_default();
    LineContent::Vector { custom_id, vector, tokens }
}

fn unit(mut vector: Vec<f32>, dimension: usize) -> Result<Vec<f32>, Flaw> {
    if vector.len() != dimension {
        return Err(Flaw::Dimension(vector.len()));
    }
    // In doubles, a sum of squares of floats cannot overflow. It is finite if all of them are.
    let length = vector.iter().map(|x| f64::from(*x).powi(2)).sum::<f64>().sqrt();
    if !length.is_finite() {
        return Err(Flaw::NotFinite);
    }
    if length < SHORTEST {
        return Err(Flaw::NoDirection);
    }
    vector.iter_mut().for_each(|x| *x = (f64::from(*x) / length) as f32);
    vector.shrink_to_fit();
    Ok(vector)
}

#[cfg(test)]
#[path = "result_line_tests.rs"]
mod tests;
