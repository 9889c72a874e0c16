//! Defines the JSON of OpenAI's protocol.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::de::{Error, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::Value;

/// Maximum length of a provider's error code in our messages.
const CODE_CHARACTERS: usize = 60;

/// Holds a request for embeddings. `I` is one text or a list of texts.
#[derive(Serialize)]
pub struct EmbeddingsRequest<'r, I> {
    pub model: &'r str,
    pub input: I,
    pub encoding_format: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dimensions: Option<u32>,
}

#[derive(Deserialize)]
pub struct ModelsAnswer {
    pub data: Vec<Model>,
}

#[derive(Deserialize)]
pub struct Model {
    pub id: String,
}

/// Holds a vector. Requests ask for base64 of little-endian floats. Servers without support for base64 send a list of
/// numbers instead. A number in a list is read as a double and then rounded to a float. In rare cases, once in many
/// millions, the result is a direct neighbour of the nearest float. A missing number is read as NaN, and a missing vector
/// as an empty one.
#[derive(Debug, PartialEq)]
pub struct Floats(pub Vec<f32>);

impl<'de> Deserialize<'de> for Floats {
    fn deserialize<D: Deserializer<'de>>(from: D) -> Result<Self, D::Error> {
        from.deserialize_any(FloatsVisitor)
    }
}

struct FloatsVisitor;

impl<'de> Visitor<'de> for FloatsVisitor {
    type Value = Floats;

    fn expecting(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("a list of floats, or the base64 of floats")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Floats, E> {
        floats_of_base64(text).map(Floats).ok_or_else(|| E::custom("not the base64 of floats"))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Floats, A::Error> {
        // This capacity fits most vectors without reallocation.
        let mut floats = Vec::with_capacity(1_536);
        while let Some(float) = list.next_element::<Option<f32>>()? {
            floats.push(float.unwrap_or(f32::NAN));
        }
        Ok(Floats(floats))
    }

    fn visit_unit<E: Error>(self) -> Result<Floats, E> {
        Ok(Floats(Vec::new()))
    }
}

pub fn floats_of_base64(text: &str) -> Option<Vec<f32>> {
    let bytes = STANDARD.decode(text).ok()?;
    let (floats, rest) = bytes.as_chunks::<4>();
    rest.is_empty().then(|| floats.iter().map(|b| f32::from_le_bytes(*b)).collect())
}

/// Makes a provider's error code safe for our messages. Removes unsafe characters from the code, and limits the length
/// of the code.
pub fn word(text: &str) -> String {
    let fits = |c: &char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-' | '.');
    text.chars().filter(fits).take(CODE_CHARACTERS).collect()
}

/// Returns the text of a field. Returns `None` if the field is missing, empty, null or of another type.
pub fn text(value: &Value, field: &str) -> Option<String> {
    value.get(field)?.as_str().filter(|text| !text.is_empty()).map(str::to_owned)
}

/// Returns the number in a field. Returns `None` if the field is missing, null or of another type. Floats are
/// accepted, because some servers write whole numbers as floats. A fraction is dropped.
pub fn number(value: &Value, field: &str) -> Option<u64> {
    let value = value.get(field)?;
    let float = || value.as_f64().filter(|n| (0.0..1e15).contains(n)).map(|n| n as u64);
    value.as_u64().or_else(float)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_vectors_are_read() {
        let read = |text: &str| serde_json::from_str::<Floats>(text).ok().map(|floats| floats.0);
        for text in ["[1, -0.5]", r#""AACAPwAAAL8=""#, r#""AACAPwAA\u0041L8=""#] {
            assert_eq!(read(text), Some(vec![1.0, -0.5]), "{text}");
        }
        for text in [r#""AACA""#, r#""?""#, "[\"1\"]", "[[1]]", "7", "{}", "[NaN]"] {
            assert_eq!(read(text), None, "{text}");
        }
        assert!(read("[null]").unwrap()[0].is_nan());
        assert_eq!(read("null"), Some(Vec::new()));
    }

    #[test]
    fn codes_are_made_safe() {
        assert_eq!(word("bad <b>\n"), "badb");
    }

    #[test]
    fn fields_of_another_type_are_not_there() {
        let value = serde_json::json!({"a": "x", "b": "", "c": null, "d": 7, "e": 7.9, "f": -1, "g": [1]});
        let texts: Vec<_> = ["a", "b", "c", "d", "z"].iter().map(|field| text(&value, field)).collect();
        assert_eq!(texts, [Some("x".into()), None, None, None, None]);
        let numbers: Vec<_> = ["d", "e", "f", "g", "a", "z"].iter().map(|field| number(&value, field)).collect();
        assert_eq!(numbers, [Some(7), Some(7), None, None, None, None]);
    }
}
