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

/// Returns the texts that redaction removes from chunks, and their kinds. `personal` holds the matches of each chunk.
pub fn removed(
    chunks: &[Chunk],
    personal: &[Vec<Match>],
    redacts: impl Fn(&Match) -> bool,
) -> BTreeMap<String, &'static str> {
    let mut removed = BTreeMap::new();
    for (chunk, matches) in chunks.iter().zip(personal) {
        for m in matches.iter().filter(|m| redacts(m)) {
            let text = chunk.content.get(m.range.clone()).unwrap_or_default().trim();
            if text.len() >= MIN_BYTES {
                removed.insert(text.to_owned(), m.kind);
            }
        }
    }
    removed
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

/// Returns whether no letter or digit touches a part of a text. The name `Ann` is not part of `Annual`.
fn stands_alone(text: &str, start: usize, end: usize) -> bool {
    let before = text.get(..start).and_then(|t| t.chars().next_back());
    let after = text.get(end..).and_then(|t| t.chars().next());
    ![before, after].into_iter().flatten().any(char::is_alphanumeric)
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
        let whole = text.match_indices(part.as_str()).filter(|(at, part)| stands_alone(&text, *at, at + part.len()));
        whole.map(|(at, part)| Match::new(kind, at..at + part.len(), 1.0))
    });
    let (text, placed) = redact::replace(&text, &find(&text, known.collect()));
    if !placed.is_empty() {
        *value = Value::from(text);
    }
    placed.len() as u64
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn what_was_removed_from_the_text_leaves_the_metadata_as_whole_words() {
        let removed = BTreeMap::from([("Ann".to_owned(), "NAME"), ("4711".to_owned(), "ID")]);
        let mut fields =
            json!({"by": "Ann, Annual, Joann", "n": [4711, 47110], "ok": true}).as_object().cloned().unwrap();
        let sorted = |_: &str, mut known: Vec<Match>| {
            known.sort_by_key(|m| m.range.start);
            known
        };
        assert_eq!(redact_all(&mut fields, &removed, &sorted), 2);
        let expected = json!({"by": "[REDACTED_NAME], Annual, Joann", "n": ["[REDACTED_ID]", 47110], "ok": true});
        assert_eq!(Value::Object(fields), expected);
    }
}
