//! Limits the values of front matter, and decides which of them are numbers.
//!
//! A value keeps its spelling. A plain word is a number only if the number would be written in the same way:
//! `2024` is a number, but `02134`, `1.10` and `1e3` stay text, because a postcode or a version would change otherwise.
//! An integer that a 64-bit floating-point number can't hold exactly stays text too.

use serde_json::{Map, Number, Value};

/// Maximum size of front matter in bytes, as written, and of all its values together. Aliases of YAML may repeat a
/// value any number of times.
pub(super) const MAX_BYTES: usize = 64 * 1024;
/// Maximum number of values, lists and tables.
const MAX_VALUES: usize = 1000;
/// Maximum depth of nested lists and tables.
pub(super) const MAX_DEPTH: usize = 8;
/// Largest integer up to which a floating-point number holds every integer exactly.
const MAX_INTEGER: i64 = (1 << 53) - 1;

/// Counts what may still be added to the fields of a document.
#[derive(Debug)]
pub(super) struct Budget {
    values: usize,
    bytes: usize,
    left_out: usize,
}

impl Default for Budget {
    fn default() -> Self {
        Self { values: MAX_VALUES, bytes: MAX_BYTES, left_out: 0 }
    }
}

impl Budget {
    /// Takes one value of so many bytes, and returns whether it is within the limits.
    pub(super) fn take(&mut self, bytes: usize) -> bool {
        let fits = self.values > 0 && self.bytes >= bytes;
        if fits {
            self.values -= 1;
            self.bytes -= bytes;
        } else {
            self.leave_out();
        }
        fits
    }

    /// Counts a value that is left out.
    pub(super) fn leave_out(&mut self) {
        self.left_out += 1;
    }

    /// Returns the parts of a value that are within the limits.
    pub(super) fn within(&mut self, value: Value, depth: usize) -> Option<Value> {
        match value {
            Value::Null => None,
            Value::Array(_) | Value::Object(_) if depth >= MAX_DEPTH || !self.take(0) => {
                if depth >= MAX_DEPTH {
                    self.leave_out();
                }
                None
            }
            Value::Array(items) => {
                Some(Value::Array(items.into_iter().filter_map(|item| self.within(item, depth + 1)).collect()))
            }
            Value::Object(fields) => {
                let field = |(name, value): (String, Value)| {
                    let fits = name.len() <= self.bytes;
                    let value = self.within(value, depth + 1).filter(|_| fits)?;
                    self.bytes = self.bytes.saturating_sub(name.len());
                    Some((name, value))
                };
                Some(Value::Object(fields.into_iter().filter_map(field).collect::<Map<_, _>>()))
            }
            Value::String(text) => self.take(text.len()).then_some(Value::String(text)),
            Value::Number(number) => {
                let spelled = number.to_string();
                self.take(spelled.len()).then(|| plain(&spelled))
            }
            value => self.take(0).then_some(value),
        }
    }

    /// Returns a note if values were left out.
    pub(super) fn note(&self) -> Option<String> {
        let note = format!(
            "front matter values left out: {}, beyond {MAX_VALUES} values, {MAX_DEPTH} levels or {MAX_BYTES} bytes, or not \
             text",
            self.left_out
        );
        (self.left_out > 0).then_some(note)
    }
}

/// Returns the value of a plain word: a number if it is spelled as JSON would write it, a text otherwise.
pub(super) fn plain(word: &str) -> Value {
    let exact = |number: Number| (number.to_string() == word).then_some(Value::Number(number));
    let number = match word.parse::<i64>() {
        Ok(integer) if integer.unsigned_abs() <= MAX_INTEGER.unsigned_abs() => exact(integer.into()),
        Ok(_) => None,
        Err(_) if word.contains('.') => word.parse::<f64>().ok().and_then(Number::from_f64).and_then(exact),
        Err(_) => None,
    };
    number.unwrap_or_else(|| Value::String(word.to_owned()))
}

/// Returns a value as one line of text: a list as its items with commas, a table as the value of its field `name`.
/// Returns `None` if the value has no text.
pub(super) fn text_of(value: &Value) -> Option<String> {
    let text = match value {
        Value::String(text) => one_line(text),
        Value::Number(number) => number.to_string(),
        Value::Bool(flag) => flag.to_string(),
        Value::Array(items) => items.iter().filter_map(text_of).collect::<Vec<_>>().join(", "),
        Value::Object(fields) => fields.get("name").filter(|name| name.is_string()).and_then(text_of)?,
        Value::Null => return None,
    };
    (!text.is_empty()).then_some(text)
}

/// Joins the words of a text with single blanks.
pub(super) fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn a_word_is_a_number_only_in_its_usual_spelling() {
        for number in ["0", "7", "-12", "2024", "9007199254740991", "1.5", "-0.25"] {
            assert!(plain(number).is_number(), "{number}");
            assert_eq!(plain(number).to_string(), number);
        }
        for text in
            ["02134", "+1", "1.10", "1.0e3", "1e3", "0x1f", "1_000", "9007199254740993", "-0", ".5", "NaN", ".inf"]
        {
            assert_eq!(plain(text), json!(text));
        }
    }

    #[test]
    fn values_have_one_line_of_text() {
        for (value, expected) in [
            (json!("a\n  b"), Some("a b")),
            (json!(["a", 2, true, null, {"name": "n", "mail": "m"}]), Some("a, 2, true, n")),
            (json!([]), None),
            (json!(null), None),
            (json!({"x": 1}), None),
        ] {
            assert_eq!(text_of(&value).as_deref(), expected, "{value}");
        }
    }

    #[test]
    fn the_budget_ends() {
        let mut budget = Budget::default();
        let many: Vec<Value> = (0..2 * MAX_VALUES).map(|n| json!(n)).collect();
        let Some(Value::Array(kept)) = budget.within(Value::Array(many), 0) else { panic!("no list") };
        assert_eq!(kept.len(), MAX_VALUES - 1);
        assert!(budget.note().unwrap().contains(&format!("left out: {}", MAX_VALUES + 1)));
        let deep = (0..20).fold(json!(1), |inner, _| json!({ "a": inner }));
        let mut budget = Budget::default();
        budget.within(deep, 0).unwrap();
        assert!(budget.note().is_some());
        assert_eq!(Budget::default().note(), None);
    }
}
