//! Parses query strings, and splits lists into pages.

use serde_json::{Value, json};

use crate::problem::Problem;

/// Returns the value of a query parameter. Values are not decoded, because only ids and numbers are used.
pub fn value<'a>(query: Option<&'a str>, name: &str) -> Option<&'a str> {
    query?.split('&').filter_map(|pair| pair.split_once('=')).find(|(key, _)| *key == name).map(|(_, value)| value)
}

/// Returns one page: at most `limit` items after the item `after`.
pub fn page(items: Vec<(&str, Value)>, query: Option<&str>, usual: usize, most: usize) -> Result<Value, Problem> {
    let limit = match value(query, "limit") {
        None => usual,
        Some(text) => text.parse().ok().filter(|n| (1..=most).contains(n)).ok_or_else(|| {
            Problem::new(400, format!("Invalid 'limit': expected a whole number from 1 to {most}, got '{text}'."))
                .param("limit")
        })?,
    };
    let skip = match value(query, "after") {
        None => 0,
        Some(after) => match items.iter().position(|(id, _)| *id == after) {
            Some(at) => at + 1,
            None => return Err(Problem::new(400, format!("No such cursor: {after}")).param("after")),
        },
    };
    let has_more = items.len() > skip + limit;
    let shown: Vec<_> = items.into_iter().skip(skip).take(limit).collect();
    let (first, last) = (shown.first().map(|(id, _)| *id), shown.last().map(|(id, _)| *id));
    let (first, last) = (json!(first), json!(last));
    let data: Vec<_> = shown.into_iter().map(|(_, value)| value).collect();
    Ok(json!({"object": "list", "data": data, "first_id": first, "last_id": last, "has_more": has_more}))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_follow_each_other_to_the_end() {
        let items = || ["a", "b", "c"].map(|id| (id, json!(id))).to_vec();
        let of = |query| page(items(), Some(query), 20, 100);
        let first = of("limit=2").unwrap();
        assert_eq!((&first["data"], &first["has_more"]), (&json!(["a", "b"]), &json!(true)));
        assert_eq!((&first["first_id"], &first["last_id"]), (&json!("a"), &json!("b")));
        let second = of("after=b&limit=2").unwrap();
        assert_eq!((&second["data"], &second["has_more"]), (&json!(["c"]), &json!(false)));
        assert_eq!(of("after=c").unwrap()["first_id"], Value::Null);
        assert_eq!(of("limit=0").unwrap_err().param, Some("limit"));
        assert_eq!(of("after=z").unwrap_err().status, 400);
    }
}
