//! Defines the values that conditions compare, and when two values are equal.
//!
//! | value of the condition | finds a text | finds a number | finds a boolean |
//! | --- | --- | --- | --- |
//! | a text, such as `"2134"`, `02134` or `blue` | that is the same | never | never |
//! | a number in plain spelling, such as `2134` or `1.1` | of the same spelling | of the same value | never |
//! | a number in another spelling, such as `1.10` or `1E5` | of the same spelling | of the same spelling | never |
//! | `true` or `false` | of the same spelling | never | that is the same |
//!
//! The spelling of a number counts because `1.10` and `1E5` are more often versions and article numbers than amounts.
//! Ranges are the way to ask for a value whatever its spelling: they compare only values.

use std::borrow::Cow;
use std::cmp::Ordering;
use std::fmt;

use docweir_core::number::Number;
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use super::filter_syntax::quoted;

/// Holds a value that a condition compares, or a value of a row's metadata.
#[derive(Clone, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "Value", into = "Value")]
pub enum Scalar {
    Bool(bool),
    Number(Number),
    Text(String),
}

impl Scalar {
    /// Converts a value that was written without quotes. `true` and `false` become booleans, numbers as in JSON become
    /// numbers, and anything else becomes a text.
    pub fn written(text: &str) -> Self {
        match text {
            "true" => Scalar::Bool(true),
            "false" => Scalar::Bool(false),
            _ => Number::parse(text).map_or_else(|| Scalar::Text(text.to_owned()), Scalar::Number),
        }
    }

    /// Converts the bound of a range that was written without quotes. In contrast to [`Scalar::written`], `.5` and `5.`
    /// are numbers.
    pub(super) fn written_bound(text: &str) -> Self {
        let (sign, digits) = text.strip_prefix('-').map_or(("", text), |digits| ("-", digits));
        let full = match (digits.strip_prefix('.'), digits.strip_suffix('.')) {
            (Some(fraction), None) => format!("{sign}0.{fraction}"),
            (None, Some(whole)) => format!("{sign}{whole}"),
            _ => text.to_owned(),
        };
        Number::parse(&full).map_or_else(|| Scalar::written(text), Scalar::Number)
    }

    /// Returns whether a condition with the value `asked` finds this stored value.
    pub(super) fn is_found_by(&self, asked: &Scalar) -> bool {
        match (self, asked) {
            (Scalar::Bool(a), Scalar::Bool(b)) => a == b,
            (Scalar::Text(a), _) => *a == asked.spelling(),
            (Scalar::Number(a), Scalar::Number(b)) => a.is_spelled_like(b) || (a.compare(b).is_eq() && b.plain() == *b),
            _ => false,
        }
    }

    /// Returns the text of the value: for a number, its digits as they were written.
    pub fn spelling(&self) -> Cow<'_, str> {
        match self {
            Scalar::Bool(b) => Cow::Borrowed(if *b { "true" } else { "false" }),
            Scalar::Number(n) => n.spelling(),
            Scalar::Text(t) => Cow::Borrowed(t),
        }
    }

    /// Compares a number with a number, or a text with a text. Returns `None` for all other values.
    pub(super) fn compare(&self, other: &Scalar) -> Option<Ordering> {
        match (self, other) {
            (Scalar::Number(a), Scalar::Number(b)) => Some(a.compare(b)),
            (Scalar::Text(a), Scalar::Text(b)) => Some(a.cmp(b)),
            _ => None,
        }
    }

    /// Returns the memory that the value occupies, in bytes.
    pub(super) fn memory_bytes(&self) -> usize {
        let text = match self {
            Scalar::Bool(_) => 0,
            Scalar::Number(n) => match n.spelling() {
                Cow::Borrowed(text) => text.len(),
                Cow::Owned(_) => 0,
            },
            Scalar::Text(text) => text.len(),
        };
        size_of::<Self>() + text
    }
}

/// Prints the value in the spelling that finds it in a filter. Texts are quoted.
impl fmt::Display for Scalar {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Scalar::Text(text) => quoted(f, text),
            other => f.write_str(&other.spelling()),
        }
    }
}

/// Takes a number of JSON as its value, because programs do not choose how a number is spelled: `3.0` becomes `3`.
impl TryFrom<Value> for Scalar {
    type Error = &'static str;

    fn try_from(value: Value) -> Result<Self, Self::Error> {
        match Scalar::stored(&value) {
            Some(Scalar::Number(number)) => Ok(Scalar::Number(number.plain())),
            Some(other) => Ok(other),
            None => Err("the value of a filter must be a text, a number or a boolean"),
        }
    }
}

impl From<Scalar> for Value {
    fn from(scalar: Scalar) -> Self {
        match scalar {
            Scalar::Bool(b) => Value::Bool(b),
            Scalar::Text(text) => Value::String(text),
            Scalar::Number(number) => serde_json::from_str(&number.spelling()).map_or(Value::Null, Value::Number),
        }
    }
}

impl From<&str> for Scalar {
    fn from(text: &str) -> Self {
        Scalar::Text(text.to_owned())
    }
}

/// Converts a number by its value. Infinity and NaN become texts, because no stored number equals them.
impl From<f64> for Scalar {
    fn from(number: f64) -> Self {
        Number::of_f64(number).map_or_else(|| Scalar::Text(number.to_string()), Scalar::Number)
    }
}

impl From<i64> for Scalar {
    fn from(number: i64) -> Self {
        Scalar::Number(number.into())
    }
}

impl From<bool> for Scalar {
    fn from(value: bool) -> Self {
        Scalar::Bool(value)
    }
}

impl Scalar {
    /// Returns a value of metadata as a scalar. Returns `None` for lists, objects and null.
    fn stored(value: &Value) -> Option<Self> {
        match value {
            Value::String(text) => Some(Scalar::Text(text.clone())),
            Value::Bool(b) => Some(Scalar::Bool(*b)),
            // A number with an absurd exponent is compared as a text.
            Value::Number(n) => Some(Scalar::written(n.as_str())),
            Value::Null | Value::Array(_) | Value::Object(_) => None,
        }
    }
}

/// Returns the values at a metadata path. A list contributes the values of all its items.
pub fn scalars_at(metadata: &Map<String, Value>, path: &str) -> Vec<Scalar> {
    fn collect(value: &Value, rest: Option<&str>, out: &mut Vec<Scalar>) {
        match (value, rest) {
            (Value::Array(items), _) => items.iter().for_each(|item| collect(item, rest, out)),
            (Value::Object(map), Some(path)) => walk(map, path, out),
            (value, None) => out.extend(Scalar::stored(value)),
            _ => {}
        }
    }
    fn walk(map: &Map<String, Value>, path: &str, out: &mut Vec<Scalar>) {
        // A name may contain dots, so look up the whole path first, and then ever shorter names.
        if let Some(value) = map.get(path) {
            return collect(value, None, out);
        }
        let dots = path.rmatch_indices('.').filter_map(|(at, _)| Some((path.get(..at)?, path.get(at + 1..)?)));
        for (name, rest) in dots {
            if let Some(value) = map.get(name) {
                return collect(value, Some(rest), out);
            }
        }
    }
    let mut out = Vec::new();
    if !metadata.is_empty() {
        walk(metadata, path, &mut out);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    use crate::search::filter_syntax::{Expr, Operator};

    /// Returns the value at `v` of a record that is written as JSON text.
    fn stored(json: &str) -> Scalar {
        let map: Map<String, Value> = serde_json::from_str(&format!("{{\"v\":{json}}}")).unwrap();
        let mut values = scalars_at(&map, "v");
        assert_eq!(values.len(), 1, "{json}");
        values.remove(0)
    }

    /// Returns the operand of a filter on `v` as the parser reads it.
    fn asked(text: &str) -> Scalar {
        let filter: crate::search::filter::Filter = format!("v={text}").parse().unwrap();
        match filter {
            crate::search::filter::Filter::Eq { value, .. } => value,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn equality_keeps_type_and_spelling() {
        // The values that a filter finds among all of these.
        let all = [
            "\"007\"",
            "7",
            "\"7\"",
            "7.0",
            "\"7.0\"",
            "\"1.10\"",
            "\"1.1\"",
            "1.1",
            "1.10",
            "\"1E5\"",
            "1E5",
            "100000",
            "\"100000\"",
            "9007199254740992",
            "9007199254740993",
            "\"9007199254740993\"",
            "true",
            "\"true\"",
            "1",
            "\"1\"",
            "-0",
            "0",
            "\"+4930\"",
            "4930",
            "100000000000000000000000000001",
            "100000000000000000000000000002",
            "\"\"",
            "\"inf\"",
        ];
        for (text, found) in [
            ("007", &["\"007\""][..]),
            ("7", &["7", "\"7\"", "7.0"]),
            ("7.0", &["7.0", "\"7.0\""]),
            ("\"7\"", &["\"7\""]),
            ("'7'", &["\"7\""]),
            ("1.10", &["\"1.10\"", "1.10"]),
            ("1.1", &["\"1.1\"", "1.1", "1.10"]),
            ("1E5", &["\"1E5\"", "1E5"]),
            ("1e+5", &["1E5"]),
            ("100000", &["1E5", "100000", "\"100000\""]),
            ("9007199254740993", &["9007199254740993", "\"9007199254740993\""]),
            ("9007199254740992", &["9007199254740992"]),
            ("100000000000000000000000000001", &["100000000000000000000000000001"]),
            ("true", &["true", "\"true\""]),
            ("\"true\"", &["\"true\""]),
            ("True", &[]),
            ("0", &["-0", "0"]),
            ("+4930", &["\"+4930\""]),
            ("4930", &["4930"]),
            ("", &["\"\""]),
            ("inf", &["\"inf\""]),
        ] {
            let by: Vec<&str> = all.into_iter().filter(|json| stored(json).is_found_by(&asked(text))).collect();
            assert_eq!(by, found, "{text}");
        }
    }

    #[test]
    fn ranges_compare_numbers_with_numbers_and_texts_with_texts() {
        for (json, bound, order) in [
            ("9007199254740993", "9007199254740992", Some(Ordering::Greater)),
            ("1.10", "1.1", Some(Ordering::Equal)),
            ("0.5", ".5", Some(Ordering::Equal)),
            ("-2", "-2.", Some(Ordering::Equal)),
            ("\"2024-03-01\"", "2024-02-28", Some(Ordering::Greater)),
            ("\"2024\"", "2024", None),
            ("2024", "x", None),
            ("true", "true", None),
            ("\"02134\"", "02133", Some(Ordering::Greater)),
        ] {
            assert_eq!(stored(json).compare(&Scalar::written_bound(bound)), order, "{json} and {bound}");
        }
    }

    #[test]
    fn paths_reach_into_objects_and_lists() {
        let Value::Object(map) = json!({
            "a": {"b": [{"c": 1}, {"c": "two"}, {"d": 3}]}, "x.y": {"z": true}, "n": null, "l": ["p", 2], "x": {"q": 1}
        }) else {
            unreachable!()
        };
        let text = |t: &str| Scalar::Text(t.into());
        for (path, expected) in [
            ("a.b.c", vec![1.into(), text("two")]),
            ("x.y.z", vec![Scalar::Bool(true)]),
            ("x.q", vec![1.into()]),
            ("l", vec![text("p"), 2.into()]),
            ("n", vec![]),
            ("a", vec![]),
            ("a.z", vec![]),
        ] {
            assert_eq!(scalars_at(&map, path), expected, "{path}");
        }
    }

    fn json_texts() -> impl Strategy<Value = String> {
        prop_oneof![
            any::<i64>().prop_map(|n| n.to_string()),
            any::<u64>().prop_map(|n| n.to_string()),
            "-?[1-9][0-9]{0,40}(\\.[0-9]{1,20})?([eE][+-]?[0-9]{1,3})?",
            any::<f64>().prop_filter("JSON has no NaN", |x| x.is_finite()).prop_map(|x| format!("{x:?}")),
            any::<bool>().prop_map(|b| b.to_string()),
            any::<String>().prop_map(|text| Value::String(text).to_string()),
            "[0-9+.eE-]{1,12}".prop_map(|text| Value::String(text).to_string()),
        ]
    }

    proptest! {
        #[test]
        fn every_value_is_found_by_its_own_spelling(json in json_texts()) {
            let value = stored(&json);
            let filter = format!("metadata.v={value}");
            let Expr::Compare(one) = Expr::parse(&filter).unwrap() else { panic!("{filter}") };
            prop_assert_eq!(one.operator, Operator::Equal);
            let crate::search::filter::Filter::Eq { value: asked, .. } = one.filter() else { panic!("{filter}") };
            prop_assert!(value.is_found_by(&asked), "{}", filter);
            // What JSON text says of a number, a filter says as well.
            if !json.starts_with('"') && !json.starts_with(['t', 'f']) {
                let word: crate::search::filter::Filter = format!("v={json}").parse().unwrap();
                let crate::search::filter::Filter::Eq { value: asked, .. } = word else { panic!("{json}") };
                prop_assert!(value.is_found_by(&asked), "{}", json);
            }
        }

        #[test]
        fn a_number_is_found_by_no_neighbour(n in any::<u128>()) {
            let (value, next) = (stored(&n.to_string()), n.wrapping_add(1).to_string());
            prop_assert!(!value.is_found_by(&Scalar::written(&next)));
        }
    }
}
