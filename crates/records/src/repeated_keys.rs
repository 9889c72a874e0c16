//! Finds keys that occur more than once in one JSON object. The parser keeps the last value of such a key and drops the
//! others, which users should know.

use std::collections::HashSet;
use std::fmt;

use serde::de::{DeserializeSeed, Deserializer, MapAccess, SeqAccess, Visitor};
use serde_json::{Map, Value};

/// Maximum number of keys that are returned for one record.
const KEYS: usize = 3;
/// Maximum length of a returned key, in characters.
const KEY_CHARACTERS: usize = 64;

/// Returns the keys that an object of the record repeats. `record` is valid JSON, and `parsed` is its parsed form.
pub(super) fn repeated_keys(record: &str, parsed: &Map<String, Value>) -> Vec<String> {
    // Each member of an object has one colon, so the second reading is needed only if members were dropped.
    if colons(record) == members(parsed) {
        return Vec::new();
    }
    let mut found = Vec::new();
    let mut reader = serde_json::Deserializer::from_str(record);
    // The record was parsed before, so this cannot fail.
    let _ = Keys { found: &mut found, path: "" }.deserialize(&mut reader);
    found
}

/// Counts the colons outside of strings.
fn colons(record: &str) -> usize {
    let (mut count, mut in_string, mut escaped) = (0, false, false);
    for byte in record.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' => escaped = true,
            b'"' => in_string = !in_string,
            b':' if !in_string => count += 1,
            _ => {}
        }
    }
    count
}

fn members(object: &Map<String, Value>) -> usize {
    object.len() + object.values().map(members_within).sum::<usize>()
}

fn members_within(value: &Value) -> usize {
    match value {
        Value::Object(object) => members(object),
        Value::Array(items) => items.iter().map(members_within).sum(),
        _ => 0,
    }
}

/// Visits a value and collects the repeated keys of all objects within.
struct Keys<'a> {
    found: &'a mut Vec<String>,
    /// Path of the value, with a dot after each name.
    path: &'a str,
}

impl Keys<'_> {
    fn add(&mut self, key: &str) {
        let path: String = self.path.chars().chain(key.chars()).take(KEY_CHARACTERS).collect();
        if self.found.len() < KEYS && !self.found.contains(&path) {
            self.found.push(path);
        }
    }
}

impl<'de> DeserializeSeed<'de> for Keys<'_> {
    type Value = ();

    fn deserialize<D: Deserializer<'de>>(self, reader: D) -> Result<(), D::Error> {
        reader.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for Keys<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a JSON value")
    }

    fn visit_bool<E>(self, _: bool) -> Result<(), E> {
        Ok(())
    }

    fn visit_i64<E>(self, _: i64) -> Result<(), E> {
        Ok(())
    }

    fn visit_u64<E>(self, _: u64) -> Result<(), E> {
        Ok(())
    }

    fn visit_f64<E>(self, _: f64) -> Result<(), E> {
        Ok(())
    }

    fn visit_str<E>(self, _: &str) -> Result<(), E> {
        Ok(())
    }

    fn visit_unit<E>(self) -> Result<(), E> {
        Ok(())
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut items: A) -> Result<(), A::Error> {
        while items.next_element_seed(Keys { found: &mut *self.found, path: self.path })?.is_some() {}
        Ok(())
    }

    /// Also visits decimal numbers, which serde_json presents as maps with one key.
    fn visit_map<A: MapAccess<'de>>(mut self, mut members: A) -> Result<(), A::Error> {
        let mut seen = HashSet::new();
        while let Some(key) = members.next_key::<String>()? {
            let path: String = self.path.chars().chain(key.chars()).take(KEY_CHARACTERS).chain(['.']).collect();
            members.next_value_seed(Keys { found: &mut *self.found, path: &path })?;
            if seen.contains(&key) {
                self.add(&key);
            }
            seen.insert(key);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn keys(record: &str) -> Vec<String> {
        repeated_keys(record, serde_json::from_str::<Value>(record).unwrap().as_object().unwrap())
    }

    #[test]
    fn repeated_keys_are_named_by_their_paths() {
        for (record, expected) in [
            (r#"{"id":1,"text":"a:b","n":1.5,"o":{"id":2,"p":[{"id":3},{"id":4}]}}"#, &[][..]),
            (r#"{"id":1,"text":"x","text":"y"}"#, &["text"]),
            (r#"{"id":1,"id":1.5,"id":2,"a":{"b":{"c":1,"d":":","c":1}}}"#, &["id", "a.b.c"]),
            (r#"{"l":[{"k":1,"k":2},[{"k":1,"k":3,"m":1,"m":1}]]}"#, &["l.k", "l.m"]),
            (r#"{"a\u0062":1,"ab":2,"\"":1,"\\":3}"#, &["ab"]),
            (r#"{"a":1,"b":1,"c":1,"d":1,"a":1,"b":1,"c":1,"d":1}"#, &["a", "b", "c"]),
            (r#"{"":0,"":0}"#, &[""]),
        ] {
            assert_eq!(keys(record), expected, "{record}");
        }
        let long = "k".repeat(1_000);
        assert_eq!(keys(&format!("{{\"{long}\":1,\"{long}\":2}}")), ["k".repeat(64)]);
    }

    proptest! {
        /// Builds an object member by member, and compares with a search in the list of its keys.
        #[test]
        fn a_key_is_named_exactly_if_it_is_repeated(
            members in proptest::collection::vec(
                ("[a-c:\"\\\\]{0,2}", "[0-9]|1\\.5|\":\"|\\[\\{\"a\":1\\}\\]|null|true"),
                0..6,
            ),
        ) {
            let text: Vec<String> =
                members.iter().map(|(key, value)| format!("{}:{value}", Value::String(key.clone()))).collect();
            let record = format!("{{{}}}", text.join(","));
            let mut expected: Vec<&String> = Vec::new();
            for (at, (key, _)) in members.iter().enumerate() {
                if members.iter().take(at).any(|(earlier, _)| earlier == key) && !expected.contains(&key) {
                    expected.push(key);
                }
            }
            expected.truncate(KEYS);
            let found = keys(&record);
            prop_assert_eq!(found.iter().collect::<Vec<_>>(), expected, "{}", record);
        }
    }
}
