//! The protocol's JSON.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use serde::{Deserialize, Serialize};

#[derive(Serialize)]
pub struct EmbeddingsRequest<'r> {
    pub model: &'r str,
    pub input: &'r [&'r str],
    pub encoding_format: &'static str,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub dimensions: Option<u32>,
}

#[derive(Deserialize)]
pub struct EmbeddingsAnswer {
    pub data: Vec<Embedding>,
    /// Some servers leave it out.
    #[serde(default)]
    pub usage: Usage,
}

#[derive(Deserialize)]
pub struct Embedding {
    pub index: usize,
    pub embedding: Numbers,
}

/// Base64 of little-endian floats as it was asked for, or a list from servers that know no better.
#[derive(Deserialize)]
#[serde(untagged)]
pub enum Numbers {
    Base64(String),
    List(Vec<f32>),
}

#[derive(Clone, Copy, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Usage {
    pub prompt_tokens: u64,
}

#[derive(Deserialize)]
pub struct ErrorAnswer {
    pub error: ErrorBody,
}

#[derive(Default, Deserialize)]
#[serde(default)]
pub struct ErrorBody {
    pub r#type: Option<String>,
    pub code: Option<serde_json::Value>,
}

impl ErrorBody {
    /// A word, or a number as some servers send it.
    pub fn code(&self) -> String {
        match &self.code {
            Some(serde_json::Value::String(code)) => code.clone(),
            Some(serde_json::Value::Null) | None => self.r#type.clone().unwrap_or_default(),
            Some(other) => other.to_string(),
        }
    }
}

impl Numbers {
    /// `None` where it is no list of floats.
    pub fn into_floats(self) -> Option<Vec<f32>> {
        match self {
            Numbers::List(numbers) => Some(numbers),
            Numbers::Base64(text) => {
                let bytes = STANDARD.decode(text).ok()?;
                let (floats, rest) = bytes.as_chunks::<4>();
                rest.is_empty().then(|| floats.iter().map(|b| f32::from_le_bytes(*b)).collect())
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_forms_of_vectors_are_read() {
        let read = |text: &str| serde_json::from_str::<Numbers>(text).unwrap().into_floats();
        assert_eq!(read("[1, -0.5]"), Some(vec![1.0, -0.5]));
        assert_eq!(read("\"AACAPwAAAL8=\""), Some(vec![1.0, -0.5]));
        assert_eq!((read("\"AACA\""), read("\"?\"")), (None, None));
    }

    #[test]
    fn codes_may_be_words_or_numbers() {
        let code = |text: &str| serde_json::from_str::<ErrorAnswer>(text).unwrap().error.code();
        assert_eq!(code(r#"{"error":{"code":"insufficient_quota","type":"x"}}"#), "insufficient_quota");
        assert_eq!(code(r#"{"error":{"code":null,"type":"invalid_request_error"}}"#), "invalid_request_error");
        assert_eq!(code(r#"{"error":{"code":429}}"#), "429");
    }
}
