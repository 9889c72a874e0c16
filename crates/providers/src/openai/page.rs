//! Reads one page of a list that the provider returns.

use serde_json::Value;

use super::call_error::CallError;
use super::wire::text;

#[derive(Clone, Debug, PartialEq)]
pub struct Page<T> {
    pub items: Vec<T>,
    /// Cursor with which the next page is requested; `None` on the last page.
    pub next: Option<String>,
}

/// Reads a page. If one item cannot be read, the whole page is refused, because a batch that is overlooked might be
/// submitted again.
pub(super) fn page<T>(
    answer: &Value,
    after: Option<&str>,
    limit: u32,
    read: impl Fn(&Value) -> Option<T>,
) -> Result<Page<T>, CallError> {
    let garbled = |what: &str| CallError::Garbled(what.to_owned());
    let data = answer.get("data").and_then(Value::as_array).ok_or_else(|| garbled("a list without data"))?;
    let items: Option<Vec<T>> = data.iter().map(read).collect();
    let items = items.ok_or_else(|| garbled("a list with an item that has no id"))?;
    // Some servers do not report whether there are more items. A full page may be the last one.
    let more = answer.get("has_more").and_then(Value::as_bool).unwrap_or(items.len() >= limit as usize);
    let last = text(answer, "last_id").or_else(|| text(data.last()?, "id"));
    // Other servers ignore `after` and would return the same page forever.
    let next = last.filter(|last| more && !items.is_empty() && Some(last.as_str()) != after);
    Ok(Page { items, next })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_next_page_is_asked_for_while_there_is_one() {
        let next = |list: &str, after| {
            let read = |value: &Value| text(value, "id");
            page(&serde_json::from_str(list).unwrap(), after, 2, read).map(|page| page.next.unwrap_or_default())
        };
        let ab = r#""data":[{"id":"a"},{"id":"b"}]"#;
        let table = [
            (format!(r#"{{{ab},"has_more":true,"last_id":"b"}}"#), None, "b"),
            (format!(r#"{{{ab},"has_more":true}}"#), None, "b"),
            (format!(r#"{{{ab},"has_more":false,"last_id":"b"}}"#), None, ""),
            (format!(r#"{{{ab}}}"#), None, "b"),
            (format!(r#"{{{ab},"has_more":true}}"#), Some("b"), ""),
            (r#"{"data":[{"id":"a"}]}"#.into(), None, ""),
            (r#"{"data":[],"has_more":true,"last_id":"b"}"#.into(), None, ""),
        ];
        for (list, after, expected) in table {
            assert_eq!(next(&list, after).as_deref(), Ok(expected), "{list}");
        }
        for list in ["{}", "[]", r#"{"data":{}}"#, r#"{"data":[{"id":"a"},{"id":7}]}"#] {
            assert!(matches!(next(list, None), Err(CallError::Garbled(_))), "{list}");
        }
    }
}
