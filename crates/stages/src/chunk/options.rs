//! Defines the settings of chunking: four sizes in characters and the length of a heading.

use serde::{Deserialize, Serialize};

/// Configures the sizes of chunks, counted in Unicode code points of the content. Each chunk must also fit the
/// embedder's window, whatever the settings are.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct ChunkOptions {
    /// Target size of a chunk, in characters. Smaller chunks give more precise matches with less context, and need more
    /// vectors. Chunks are smaller than this target if the embedding model works best with shorter texts. After a
    /// change, every document is chunked and embedded again.
    pub target_chars: usize,
    /// Preferred minimum size of a chunk, in characters. A smaller chunk is merged with its neighbour where possible.
    /// If the embedding model works best with texts shorter than `target_chars`, this minimum is reduced in proportion.
    pub min_chars: usize,
    /// Maximum size of a chunk, in characters. A longer passage is split, between sentences where possible.
    pub max_chars: usize,
    /// Maximum size of a table that is kept in one chunk, in characters. A table that is larger than this value, or
    /// that exceeds the embedder's window, is split between rows.
    pub table_max_chars: usize,
    /// Maximum length of one heading in the heading paths, in characters. A longer heading is cut at a word.
    pub heading_max_chars: usize,
}

impl Default for ChunkOptions {
    fn default() -> Self {
        Self { target_chars: 1500, min_chars: 800, max_chars: 3000, table_max_chars: 2000, heading_max_chars: 200 }
    }
}

impl ChunkOptions {
    /// Returns every field whose value is out of range, with a description of the problem.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut found = Vec::new();
        let mut range = |field, value: usize, low: usize, high: usize| {
            if !(low..=high).contains(&value) {
                found.push((field, format!("is {value}, must be between {low} and {high}")));
            }
        };
        range("max_chars", self.max_chars, 100, 1_000_000);
        range("target_chars", self.target_chars, 50, self.max_chars.max(50));
        range("min_chars", self.min_chars, 0, self.target_chars);
        range("table_max_chars", self.table_max_chars, 0, self.max_chars);
        range("heading_max_chars", self.heading_max_chars, 10, 2000);
        found
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_value_out_of_range_is_named() {
        assert!(ChunkOptions::default().problems().is_empty());
        let base = ChunkOptions::default();
        let cases = [
            (
                ChunkOptions { max_chars: 10, target_chars: 50, min_chars: 0, table_max_chars: 0, ..base.clone() },
                "max_chars",
            ),
            (ChunkOptions { target_chars: 3001, ..base.clone() }, "target_chars"),
            (ChunkOptions { min_chars: 1501, ..base.clone() }, "min_chars"),
            (ChunkOptions { table_max_chars: 3001, ..base.clone() }, "table_max_chars"),
            (ChunkOptions { heading_max_chars: 1, ..base }, "heading_max_chars"),
        ];
        for (options, field) in cases {
            let fields: Vec<_> = options.problems().into_iter().map(|(f, _)| f).collect();
            assert_eq!(fields, [field]);
        }
    }

    #[test]
    fn unknown_keys_are_refused() {
        assert!(serde_json::from_str::<ChunkOptions>(r#"{"target": 1}"#).is_err());
        assert_eq!(serde_json::from_str::<ChunkOptions>("{}").unwrap(), ChunkOptions::default());
    }
}
