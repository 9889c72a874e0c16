//! Converts items to JSON and back. All types that serde can serialise can thus be stored as items.

use docweir_core::number::Number;
use serde_json::{Map, Value};

use super::{AttributeValue, Item};

/// Converts a JSON value to an attribute value. `null` becomes DynamoDB's null type. To store no value at all, omit
/// the attribute.
pub fn from_json(value: Value) -> AttributeValue {
    match value {
        Value::Null => AttributeValue::Null(true),
        Value::Bool(b) => AttributeValue::Bool(b),
        Value::Number(n) => AttributeValue::N(digits(&n)),
        Value::String(s) => AttributeValue::S(s),
        Value::Array(items) => AttributeValue::L(items.into_iter().map(from_json).collect()),
        Value::Object(map) => AttributeValue::M(object(map)),
    }
}

/// Converts a JSON object to an item, omitting members that are `null`.
pub fn object(map: Map<String, Value>) -> Item {
    map.into_iter().filter(|(_, value)| !value.is_null()).map(|(name, value)| (name, from_json(value))).collect()
}

/// Converts an attribute value to JSON. Sets of strings or numbers become arrays. Binary values and sets of binary
/// values become null, because JSON has no such type. Docweir does not need these values in JSON.
pub fn to_json(value: AttributeValue) -> Value {
    match value {
        AttributeValue::Bool(b) => Value::Bool(b),
        AttributeValue::N(n) => number(&n),
        AttributeValue::S(s) => Value::String(s),
        AttributeValue::L(items) => Value::Array(items.into_iter().map(to_json).collect()),
        AttributeValue::M(map) => Value::Object(json(map)),
        AttributeValue::Ss(items) => Value::Array(items.into_iter().map(Value::String).collect()),
        AttributeValue::Ns(items) => Value::Array(items.iter().map(|n| number(n)).collect()),
        _ => Value::Null,
    }
}

/// Converts an item to a JSON object.
pub fn json(item: Item) -> Map<String, Value> {
    item.into_iter().map(|(name, value)| (name, to_json(value))).collect()
}

/// Formats a number in the way DynamoDB returns it, so that a written value compares equal to the stored one.
fn digits(n: &serde_json::Number) -> String {
    Number::parse(n.as_str()).map_or_else(|| n.to_string(), |n| n.plain().to_string())
}

/// Parses a number to JSON without rounding. DynamoDB may return a whole number as `1E+2` or `3.0`; both become JSON
/// integers.
fn number(text: &str) -> Value {
    let plain = Number::parse(text).map(|n| n.plain().to_string());
    plain.and_then(|text| serde_json::from_str(&text).ok()).map_or(Value::Null, Value::Number)
}

/// Estimates the size that DynamoDB charges for an item, in bytes: names, values, and the overhead of lists and maps.
pub fn bytes(item: &Item) -> usize {
    item.iter().map(|(name, value)| name.len() + size(value)).sum()
}

fn size(value: &AttributeValue) -> usize {
    match value {
        AttributeValue::S(s) => s.len(),
        AttributeValue::N(n) => n.len().div_ceil(2) + 1,
        AttributeValue::B(b) => b.as_ref().len(),
        AttributeValue::L(items) => 3 + items.iter().map(|item| 1 + size(item)).sum::<usize>(),
        AttributeValue::M(map) => 3 + map.iter().map(|(name, value)| 1 + name.len() + size(value)).sum::<usize>(),
        _ => 1,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_is_serialised_comes_back() {
        let value = json!({
            "s": "ä", "n": 7, "big": u64::MAX, "neg": -3, "x": 0.000002, "whole": 10.0, "b": true,
            "list": [1, "two", {"three": 3.5}], "map": {"empty": {}},
        });
        let Value::Object(map) = value.clone() else { panic!() };
        let item = object(map);
        assert_eq!(item["whole"], AttributeValue::N("10".into()));
        assert!(bytes(&item) > 60, "{}", bytes(&item));
        let mut back = Value::Object(super::json(item));
        assert_eq!(back["whole"], 10);
        // JSON numbers are equal if their spellings are. DynamoDB keeps the value, but not the spelling.
        assert_eq!(back["x"].to_string(), "0.000002");
        back["whole"] = 10.0.into();
        back["x"] = 0.000_002.into();
        assert_eq!(back, value);
    }

    #[test]
    fn numbers_as_others_write_them() {
        for (text, expected) in [("3.0", json!(3)), ("1E+2", json!(100)), ("2.5", json!(2.5)), ("x", Value::Null)] {
            assert_eq!(to_json(AttributeValue::N(text.into())), expected, "{text}");
        }
        for digits in
            ["123456789012345678901234567890", "0.12345678901234567890123456789012345678", "-9007199254740993.5"]
        {
            let value: Value = serde_json::from_str(digits).unwrap();
            assert_eq!(from_json(value.clone()), AttributeValue::N(digits.into()));
            assert_eq!(to_json(AttributeValue::N(digits.into())), value);
        }
        let Value::Object(map) = json!({"gone": null}) else { panic!() };
        assert!(object(map).is_empty());
    }
}
