//! Reads any JSON object as one item. The caller specifies which fields hold the id and the text. Each field is given
//! as a name or as a dotted path such as `product.title`. If the object has a field whose name is `product.title`,
//! this field takes precedence over the path.

use serde_json::Value;

use super::error::RecordError;
use super::fields::Object;
use super::{Item, ItemKind};

const MAX_ID_BYTES: usize = 512;

/// Reads one record. All fields except the text become metadata, unchanged. The id also stays in the metadata, so
/// that filters can refer to the id by its field name. A whole number counts as the string of its digits, however many.
pub(super) fn item(mut object: Object, id: &str, text: &str) -> Result<Item, RecordError> {
    let missing = |field| move || RecordError::field(field, "is missing");
    let key = match find(&object, id).ok_or_else(missing(id))? {
        Value::String(key) => key.clone(),
        Value::Number(number) if !number.as_str().contains(['.', 'e', 'E']) => number.to_string(),
        _ => return Err(RecordError::field(id, "must be a string or a whole number")),
    };
    if !(1..=MAX_ID_BYTES).contains(&key.len()) || key.contains(char::is_control) {
        let problem = format!("must have 1 to {MAX_ID_BYTES} bytes and no control characters");
        return Err(RecordError::field(id, problem));
    }
    let Value::String(content) = take(&mut object, text).ok_or_else(missing(text))? else {
        return Err(RecordError::field(text, "must be a string"));
    };
    let noise = content.trim().is_empty();
    Ok(Item { key, kind: ItemKind::Record, input: content.clone(), text: content, metadata: object, noise })
}

/// Splits a path into the names of the enclosing objects and the name of the field. Returns `None` if the object has
/// no such field.
pub(super) fn way(object: &Object, path: &str) -> Option<Vec<String>> {
    if object.contains_key(path) {
        return Some(vec![path.to_owned()]);
    }
    let (head, rest) = path.split_once('.')?;
    let below = way(object.get(head)?.as_object()?, rest)?;
    Some([vec![head.to_owned()], below].concat())
}

fn find<'a>(object: &'a Object, path: &str) -> Option<&'a Value> {
    object.get(path).or_else(|| {
        let (head, rest) = path.split_once('.')?;
        find(object.get(head)?.as_object()?, rest)
    })
}

fn take(object: &mut Object, path: &str) -> Option<Value> {
    object.remove(path).or_else(|| {
        let (head, rest) = path.split_once('.')?;
        take(object.get_mut(head)?.as_object_mut()?, rest)
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn of(value: Value, id: &str, text: &str) -> Result<Item, String> {
        item(value.as_object().unwrap().clone(), id, text).map_err(|e| e.to_string())
    }

    #[test]
    fn an_object_is_an_item_and_its_other_fields_are_metadata() {
        let record =
            json!({"sku": "A-1/ü", "title": " Tea ", "tags": ["a", 1, null], "maker": {"name": "B"}, "price": 1.5});
        let item = of(record, "sku", "title").unwrap();
        assert_eq!((item.key.as_str(), item.input.as_str(), item.text.as_str()), ("A-1/ü", " Tea ", " Tea "));
        assert_eq!((item.kind, item.noise), (ItemKind::Record, false));
        let metadata = json!({"sku": "A-1/ü", "tags": ["a", 1, null], "maker": {"name": "B"}, "price": 1.5});
        assert_eq!(Value::Object(item.metadata), metadata);
    }

    #[test]
    fn fields_may_be_paths_and_ids_whole_numbers() {
        let record = json!({"a.b": "exact", "a": {"b": "nested", "c": {"d": "text", "e": 1}}, "n": -7, "big": u64::MAX,
                "huge": serde_json::from_str::<Value>("-340282366920938463463374607431768211456").unwrap()});
        let table = [
            ("a.b", "exact"),
            ("a.c.e", "1"),
            ("n", "-7"),
            ("big", "18446744073709551615"),
            ("huge", "-340282366920938463463374607431768211456"),
            ("a.c.d", "text"),
        ];
        for (id, key) in table {
            let item = of(record.clone(), id, "a.c.d").unwrap();
            assert_eq!((item.key.as_str(), item.input.as_str()), (key, "text"));
            assert_eq!(
                item.metadata["a"],
                json!({"b": "nested", "c": {"e": 1}}),
                "the text is left out where it stood"
            );
        }
        assert_eq!(of(record, "n", "a.b").unwrap().input, "exact");
    }

    #[test]
    fn a_blank_text_is_noise() {
        for (text, noise) in [("", true), (" \t\u{a0}\n", true), ("!", false)] {
            assert_eq!(of(json!({"id": 1, "text": text}), "id", "text").unwrap().noise, noise, "{text:?}");
        }
    }

    #[test]
    fn bad_records_are_refused_by_the_field() {
        let table = [
            (json!({"text": "SECRET"}), "`id` is missing"),
            (json!({"id": null, "text": "SECRET"}), "`id` must be a string or a whole number"),
            (json!({"id": 1.5, "text": "SECRET"}), "`id` must be a string or a whole number"),
            (json!({"id": 1e30, "text": "SECRET"}), "`id` must be a string or a whole number"),
            (json!({"id": ["SECRET"], "text": "SECRET"}), "`id` must be a string or a whole number"),
            (json!({"id": "", "text": "SECRET"}), "`id` must have 1 to 512 bytes"),
            (json!({"id": "SECRET\u{7f}", "text": "SECRET"}), "`id` must have 1 to 512 bytes"),
            (json!({"id": "ü".repeat(257), "text": "SECRET"}), "`id` must have 1 to 512 bytes"),
            (json!({"id": "SECRET"}), "`text` is missing"),
            (json!({"id": "SECRET", "text": null}), "`text` must be a string"),
            (json!({"id": "SECRET", "text": 7}), "`text` must be a string"),
        ];
        for (record, expected) in table {
            let error = of(record, "id", "text").unwrap_err();
            assert!(error.starts_with(expected) && !error.contains("SECRET"), "{error}");
        }
        assert!(of(json!({"id": "ü".repeat(256), "text": ""}), "id", "text").is_ok());
    }
}
