//! Validates a batch's input file before any row is processed.
//!
//! This check, like OpenAI's, inspects only the outer fields and the model of each row. A row whose body exceeds a
//! limit is reported later, by a line in the error file.

use std::collections::HashSet;
use std::fs::File;
use std::io::{self, BufRead, BufReader};
use std::path::Path;

use serde_json::Value;

use super::record::BatchError;
use crate::dialect::Dialect;
use crate::embeddings::{count_tokens, input_count};
use crate::world::World;

/// Maximum number of errors that are reported for one file.
const MAX_ERRORS: usize = 100;

/// Summarises a valid input file.
#[derive(Debug, PartialEq)]
pub struct Checked {
    pub total: u64,
    pub tokens: u64,
    pub model: String,
}

/// Reads the input file once, line by line. Returns its summary or its errors.
pub fn check(world: &World, path: &Path) -> io::Result<Result<Checked, Vec<BatchError>>> {
    let mut found = Found { seen: HashSet::new(), model: None, inputs: 0, tokens: 0, errors: Vec::new() };
    let mut reader = BufReader::new(File::open(path)?);
    let (mut line, mut number) = (Vec::new(), 0);
    while reader.read_until(b'\n', &mut line)? > 0 {
        number += 1;
        if !line.trim_ascii().is_empty() {
            found.line(world, &line, number);
        }
        if found.errors.len() >= MAX_ERRORS {
            break;
        }
        line.clear();
    }
    Ok(found.judge(world))
}

struct Found {
    seen: HashSet<String>,
    model: Option<String>,
    inputs: u64,
    tokens: u64,
    errors: Vec<BatchError>,
}

impl Found {
    fn error(&mut self, code: &str, param: Option<&str>, line: Option<u64>, message: String) {
        self.errors.push(BatchError { code: code.into(), message, param: param.map(Into::into), line });
    }

    fn line(&mut self, world: &World, line: &[u8], number: u64) {
        let at = Some(number);
        let Ok(row @ Value::Object(_)) = serde_json::from_slice::<Value>(line) else {
            return self.error("invalid_json_line", None, at, "This line is not parseable as valid JSON.".into());
        };
        for name in ["custom_id", "method", "url", "body"] {
            if row.get(name).is_none_or(Value::is_null) {
                let text = format!("Missing required parameter: '{name}'.");
                return self.error("missing_required_parameter", Some(name), at, text);
            }
        }
        let Some(custom_id) = row["custom_id"].as_str().filter(|id| !id.is_empty()) else {
            let text = "Invalid 'custom_id': expected a string that is not empty.".into();
            return self.error("invalid_type", Some("custom_id"), at, text);
        };
        if row["method"] != "POST" {
            return self.error("invalid_method", Some("method"), at, "Invalid method: only POST is supported.".into());
        }
        if row["url"] != super::ENDPOINT {
            let text = "The URL provided for this request does not match the batch endpoint.".into();
            return self.error("invalid_url", Some("url"), at, text);
        }
        if !self.seen.insert(custom_id.to_string()) {
            let text = format!(
                "The custom_id '{custom_id}' for this request is a duplicate of another request. The custom_id parameter \
                 must be unique for each request in a batch."
            );
            return self.error("duplicate_custom_id", Some("custom_id"), at, text);
        }
        let body = &row["body"];
        let model = body["model"].as_str().unwrap_or_default();
        if world.model(model).and_then(|model| model.dimensions).is_none() {
            let text = format!("The provided model '{model}' is not supported by the Batch API.");
            return self.error("model_not_found", Some("body.model"), at, text);
        }
        if self.model.get_or_insert_with(|| model.to_string()) != model {
            let text = format!(
                "The provided model '{model}' does not match the rest of the batch. Each batch must contain requests for \
                 a single model."
            );
            return self.error("mismatched_model", Some("body.model"), at, text);
        }
        self.inputs += input_count(body);
        let texts: Vec<u64> = match &body["input"] {
            Value::String(text) => vec![count_tokens(text)],
            Value::Array(texts) => texts.iter().filter_map(Value::as_str).map(count_tokens).collect(),
            _ => Vec::new(),
        };
        self.tokens += texts.iter().sum::<u64>();
        let named = world.options.dialects.contains(&Dialect::NamedLines);
        if named && texts.iter().any(|tokens| *tokens > world.options.limits.tokens_per_input) {
            self.error("invalid_request", Some("body.input"), at, "The input has too many tokens.".into());
        }
    }

    fn judge(mut self, world: &World) -> Result<Checked, Vec<BatchError>> {
        let limits = &world.options.limits;
        let total = self.seen.len() as u64;
        if total > limits.requests_per_batch {
            let text = format!("The batch has {total} requests, the maximum is {}.", limits.requests_per_batch);
            self.error("too_many_tasks", None, None, text);
        }
        if self.inputs > limits.inputs_per_batch {
            let text =
                format!("The batch has {} embedding inputs, the maximum is {}.", self.inputs, limits.inputs_per_batch);
            self.error("too_many_tasks", None, None, text);
        }
        match self.model {
            Some(model) if self.errors.is_empty() => Ok(Checked { total, tokens: self.tokens, model }),
            _ if self.errors.is_empty() => Err(vec![BatchError {
                code: "empty_file".into(),
                message: "The input file is empty.".into(),
                param: None,
                line: None,
            }]),
            _ => Err(self.errors),
        }
    }
}
