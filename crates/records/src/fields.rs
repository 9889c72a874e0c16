//! Reads single fields of a JSON object. Errors name the field and never repeat its value.

use serde_json::{Map, Value};

use super::error::RecordError;

pub(super) type Object = Map<String, Value>;

/// Returns the value of an optional field, converted by `take`. Returns `None` if the field is missing or null. If
/// `take` returns `None`, the field is invalid, and the error says "must be", followed by `wanted`.
pub(super) fn optional<'a, T>(
    object: &'a Object,
    field: &str,
    wanted: &str,
    take: impl Fn(&'a Value) -> Option<T>,
) -> Result<Option<T>, RecordError> {
    match object.get(field) {
        None | Some(Value::Null) => Ok(None),
        Some(value) => take(value).map(Some).ok_or_else(|| RecordError::field(field, format!("must be {wanted}"))),
    }
}

pub(super) fn required<'a, T>(
    object: &'a Object,
    field: &str,
    wanted: &str,
    take: impl Fn(&'a Value) -> Option<T>,
) -> Result<T, RecordError> {
    optional(object, field, wanted, take)?.ok_or_else(|| RecordError::field(field, "is missing"))
}

/// Reads a list of objects and converts each object with `one`. A missing list counts as empty.
pub(super) fn list<'a, T>(
    object: &'a Object,
    field: &str,
    one: impl Fn(&'a Object) -> Result<T, RecordError>,
) -> Result<Vec<T>, RecordError> {
    let values = optional(object, field, "a list", Value::as_array)?;
    let read = |(at, value): (usize, &'a Value)| {
        let object = value.as_object().ok_or_else(|| RecordError::field("", "must be an object"));
        object.and_then(&one).map_err(|e| e.within(&format!("{field}[{at}]")))
    };
    values.into_iter().flatten().enumerate().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_error_names_the_way_to_the_field() {
        let value = json!({"lines": [{"text": "a"}, {"text": 7}, "b"], "other": "c", "none": null});
        let object = value.as_object().unwrap();
        let texts = |o| required(o, "text", "a string", Value::as_str);
        let error = |r: Result<Vec<&str>, RecordError>| r.unwrap_err().to_string();
        let tail = ": correct the record or leave it out";
        assert_eq!(error(list(object, "lines", texts)), format!("`lines[1].text` must be a string{tail}"));
        assert_eq!(error(list(object, "other", texts)), format!("`other` must be a list{tail}"));
        assert_eq!(list(object, "none", texts).unwrap(), [""; 0]);
        let strings = |o: &Object| if o.contains_key("text") { Ok(()) } else { Err(RecordError::NotAnObject) };
        let e = list(object, "lines", strings).unwrap_err().to_string();
        assert_eq!(e, format!("`lines[2]` must be an object{tail}"));
        assert_eq!(
            required(object, "text", "", Value::as_str).unwrap_err().to_string(),
            format!("`text` is missing{tail}")
        );
    }
}
