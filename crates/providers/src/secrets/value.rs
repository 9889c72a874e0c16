//! What was read, and the part of it that is meant.

use serde_json::Value;

use super::{SecretError, SecretName};

/// A secret's value. Shows itself to nobody who does not ask for it by name.
#[derive(Clone, PartialEq, Eq)]
pub struct Sensitive(String);

impl Sensitive {
    pub fn new(value: String) -> Self {
        Self(value)
    }

    /// For the header or call that it belongs into, and nowhere else.
    pub fn expose(&self) -> &str {
        &self.0
    }
}

impl std::fmt::Debug for Sensitive {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("********")
    }
}

/// The value that the setting means, out of what the vault gave. Errors quote nothing of it.
pub fn meant(bytes: Vec<u8>, name: &SecretName, setting: &str) -> Result<Sensitive, SecretError> {
    let wrong = |what: &str| SecretError::lasting(format!("{name}, which `{setting}` names, {what}"));
    let text = String::from_utf8(bytes).map_err(|_| wrong("is not UTF-8: put it there as text"))?;
    let value = match &name.field {
        None if text.trim_start().starts_with('{') => {
            return Err(wrong("is a JSON object: name the member that is meant by `field`"));
        }
        None => text,
        Some(field) => match serde_json::from_str::<Value>(&text) {
            Ok(Value::Object(mut members)) => match members.remove(field) {
                Some(Value::String(value)) => value,
                Some(_) => return Err(wrong("is no text: put it there as a JSON string")),
                None => return Err(wrong("is not there: put it into the secret's JSON object, or correct `field`")),
            },
            _ => return Err(wrong("can't be had: the secret is no JSON object; leave `field` out, or make it one")),
        },
    };
    let value = value.trim();
    if value.is_empty() {
        return Err(wrong("is empty: put a value there"));
    }
    // Anything else can't go into a header; a line break in the middle is a slip in putting it there.
    if !value.bytes().all(|b| b.is_ascii_graphic()) {
        return Err(wrong("holds blanks or characters that no key has: look at what was put there"));
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
            (r#"{"key": "sk-2"}"#, None, Err("name the member")),
            (
                r#"{"key": "sk-2"}"#,
                Some("kay"),
                Err("the field `kay` of the secret `s`, which `a.b` names, is not there"),
            ),
            (r#"{"key": 5}"#, Some("key"), Err("is no text")),
            ("sk-1", Some("key"), Err("no JSON object")),
            (r#"["sk-1"]"#, Some("key"), Err("no JSON object")),
            ("", None, Err("is empty")),
            ("sk 1", None, Err("no key has")),
            ("sk-\u{e9}", None, Err("no key has")),
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
