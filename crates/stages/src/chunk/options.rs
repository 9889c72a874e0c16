//! The settings of chunking: four sizes in characters and the length of a heading.

use serde::{Deserialize, Serialize};

/// Sizes count Unicode code points of a chunk's content. The embedder's window is a further limit that no setting
/// lifts: the smaller of the two wins.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ChunkOptions {
    /// Characters that a chunk should have, unless the embedder does best with fewer tokens. Default 1500.
    pub target_chars: usize,
    /// Characters below which a chunk is short and rather merges with its neighbour. Scaled down with the target where
    /// what the embedder does best is what limits. Default 800.
    pub min_chars: usize,
    /// Characters that no chunk exceeds. Default 3000.
    pub max_chars: usize,
    /// Characters up to which a table is kept whole, if the window allows; a longer one is split at rows.
    /// Default 2000.
    pub table_max_chars: usize,
    /// Characters of one heading that are kept in the heading paths; the rest is cut at a word. Default 200.
    pub heading_max_chars: usize,
}

impl Default for ChunkOptions {
    fn default() -> Self {
        Self { target_chars: 1500, min_chars: 800, max_chars: 3000, table_max_chars: 2000, heading_max_chars: 200 }
    }
}

impl ChunkOptions {
    /// Field and what is wrong with it, for every value out of range.
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
