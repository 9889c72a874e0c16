//! Extracts the value of a secret from the stored bytes.

use serde_json::Value;

use super::{SecretError, SecretName};

/// Holds the value of a secret. `Debug` output hides the value; only [`Sensitive::expose`] returns it.
#[derive(Clone, PartialEq, Eq)]
pub struct Sensitive(String);

impl Sensitive {
    pub fn new(value: String) -> Self {
        Self(value)
    }

    /// Returns the value. Use the value only in the header or call that needs it.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Sensitive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("********")
    }
}

/// Extracts the value of a secret from the bytes that the vault returned. Errors quote no part of the value.
pub fn meant(bytes: Vec<u8>, name: &SecretName, setting: &str) -> Result<Sensitive, SecretError> {
    let wrong = |what: &str| SecretError::lasting(format!("{name}, which `{setting}` names, {what}"));
    let text = String::from_utf8(bytes).map_err(|_| wrong("is not UTF-8: store it as text"))?;
    let value = match &name.field {
        None if text.trim_start().starts_with('{') => {
            return Err(wrong("is a JSON object: select a member with `field`"));
        }
        None => text,
        Some(field) => match serde_json::from_str::<Value>(&text) {
            Ok(Value::Object(mut members)) => match members.remove(field) {
                Some(Value::String(value)) => value,
                Some(_) => return Err(wrong("is not a string: store it as a JSON string")),
                None => return Err(wrong("is missing: add it to the secret's JSON object, or correct `field`")),
            },
            _ => return Err(wrong("is missing: the secret is not a JSON object; remove `field`, or store an object")),
        },
    };
    let value = value.trim();
    if value.is_empty() {
        return Err(wrong("is empty: store a value"));
    }
    // A header allows no other characters. A line break in the middle is an error of the person who stored the value.
    if !value.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(wrong("contains blanks or characters that are invalid in a key: check the stored value"));
    }
    Ok(Sensitive(value.to_owned()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_value_is_plain_or_a_member_of_json() {
        let name = |field: Option<&str>| SecretName { secret: "s".into(), field: field.map(str::to_owned) };
        let table = [
            ("sk-1", None, Ok("sk-1")),
            (" sk-1\n", None, Ok("sk-1")),
            (r#"{"key": "sk-2", "other": 5}"#, Some("key"), Ok("sk-2")),
            (r#"{"key": "sk-2"}"#, None, Err("select a member")),
            (
                r#"{"key": "sk-2"}"#,
                Some("kay"),
                Err("the field `kay` of the secret `s`, which `a.b` names, is missing"),
            ),
            (r#"{"key": 5}"#, Some("key"), Err("is not a string")),
            ("sk-1", Some("key"), Err("not a JSON object")),
            (r#"["sk-1"]"#, Some("key"), Err("not a JSON object")),
            ("", None, Err("is empty")),
            ("sk 1", None, Err("invalid in a key")),
            ("sk-\u{e9}", None, Err("invalid in a key")),
        ];
        for (text, field, expected) in table {
            let got = meant(text.as_bytes().to_vec(), &name(field), "a.b");
            match (&got, expected) {
                (Ok(value), Ok(expected)) => assert_eq!(value.expose(), expected),
                (Err(error), Err(part)) => {
                    assert!(error.text.contains(part), "{text} {field:?}: {error}");
                    assert!(!error.text.contains("sk-") && !error.passing, "{error}");
                }
                _ => panic!("{text} {field:?}: {got:?}"),
            }
        }
        assert!(meant(vec![0xff], &name(None), "a.b").unwrap_err().text.contains("not UTF-8"));
        assert_eq!(format!("{:?}", Sensitive::new("sk-1".into())), "********");
    }
}
