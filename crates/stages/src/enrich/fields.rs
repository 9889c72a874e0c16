//! Redacts the metadata of a document.
//!
//! Metadata such as the front matter of a file is stored with each row, so redaction covers it too. Each text is
//! searched on its own. In addition, everything that was redacted in the text of the document is redacted in the
//! metadata. A provider that finds names in sentences may not see the metadata, but the same fields are part of the
//! text.

use std::collections::BTreeMap;

use docweir_core::model::Chunk;
use serde_json::{Map, Value};

use super::matches::Match;
use super::redact;

/// Minimum length, in bytes, of redacted text that is looked for in the metadata.
const MIN_BYTES: usize = 3;

/// Returns the texts that redaction removes from chunks, and their kinds. `personal` holds the matches of each chunk
/// that are redacted.
pub fn removed<'c>(
    chunks: &'c [Chunk],
    personal: impl Iterator<Item = Vec<&'c Match>>,
) -> BTreeMap<String, &'static str> {
    let text = |chunk: &Chunk, m: &Match| chunk.content.get(m.range.clone()).unwrap_or_default().trim().to_owned();
    let of_chunk = |(chunk, found): (&'c Chunk, Vec<&'c Match>)| {
        found.into_iter().map(|m| (text(chunk, m), m.kind)).collect::<Vec<_>>()
    };
    let all = chunks.iter().zip(personal).flat_map(of_chunk);
    all.filter(|(text, _)| text.len() >= MIN_BYTES).collect()
}

/// Redacts all texts and numbers of the metadata, and returns the number of placeholders. `find` returns the sorted and
/// disjoint matches of a text that are redacted, given further matches.
pub fn redact_all(
    fields: &mut Map<String, Value>,
    removed: &BTreeMap<String, &'static str>,
    find: &dyn Fn(&str, Vec<Match>) -> Vec<Match>,
) -> u64 {
    fields.values_mut().map(|value| redact_value(value, removed, find)).sum()
}

fn redact_value(
    value: &mut Value,
    removed: &BTreeMap<String, &'static str>,
    find: &dyn Fn(&str, Vec<Match>) -> Vec<Match>,
) -> u64 {
    let text = match value {
        Value::Array(items) => return items.iter_mut().map(|item| redact_value(item, removed, find)).sum(),
        Value::Object(fields) => return redact_all(fields, removed, find),
        Value::String(text) => text.clone(),
        Value::Number(number) => number.to_string(),
        Value::Null | Value::Bool(_) => return 0,
    };
    let known = removed.iter().flat_map(|(part, kind)| {
        text.match_indices(part.as_str()).map(|(at, part)| Match::new(kind, at..at + part.len(), 1.0))
    });
    let (text, placed) = redact::replace(&text, &find(&text, known.collect()));
    if !placed.is_empty() {
        *value = Value::from(text);
    }
    placed.len() as u64
}
