//! Defines the metadata of a row, which is kept as JSON text.

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// Holds the metadata of a row: a JSON object, in the form of its text.
///
/// Enrichment may report hundreds of thousands of findings for one large document. Each of them occupies about a
/// kilobyte as a parsed value, but less than a hundred bytes as text.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(from = "Map<String, Value>", into = "Map<String, Value>")]
pub struct RowMetadata(Box<str>);

impl RowMetadata {
    /// Reads a JSON object. An empty text is an empty object. Returns `None` if the text is something else.
    pub fn from_text(text: &str) -> Option<Self> {
        match text {
            "" | "{}" => Some(Self::default()),
            _ => serde_json::from_str::<Map<String, Value>>(text).ok().map(Self::from),
        }
    }

    /// Returns the JSON text, with the keys in order.
    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Returns the parsed object.
    pub fn to_map(&self) -> Map<String, Value> {
        serde_json::from_str(&self.0).unwrap_or_default()
    }

    /// Adds one value, or replaces the value of the same name.
    pub fn insert(&mut self, name: impl Into<String>, value: impl Into<Value>) {
        let mut map = self.to_map();
        map.insert(name.into(), value.into());
        *self = map.into();
    }
}

impl Default for RowMetadata {
    fn default() -> Self {
        Self("{}".into())
    }
}

impl From<Map<String, Value>> for RowMetadata {
    fn from(map: Map<String, Value>) -> Self {
        Self(Value::Object(map).to_string().into())
    }
}

impl From<RowMetadata> for Map<String, Value> {
    fn from(metadata: RowMetadata) -> Self {
        metadata.to_map()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn an_object_comes_back_and_other_json_is_no_metadata() {
        let mut metadata = RowMetadata::default();
        assert_eq!((metadata.as_str(), metadata.to_map().len()), ("{}", 0));
        metadata.insert("b", "two");
        metadata.insert("a", json!({"n": [1, 2.5, null]}));
        assert_eq!(metadata.as_str(), r#"{"a":{"n":[1,2.5,null]},"b":"two"}"#);
        assert_eq!(Value::Object(metadata.to_map()), json!({"a": {"n": [1, 2.5, null]}, "b": "two"}));
        let text = serde_json::to_string(&metadata).unwrap();
        assert_eq!(text, metadata.as_str(), "serialised as an object, not as a string");
        assert_eq!(serde_json::from_str::<RowMetadata>(&text).unwrap(), metadata);
        assert_eq!(RowMetadata::from_text(&text), Some(metadata));
        for other in ["[1]", "1", "null", "{", "\"a\""] {
            assert_eq!(RowMetadata::from_text(other), None, "{other}");
        }
    }
}
