//! Defines the limits and defaults of the vector store.

use docweir_target::Capabilities;
use serde::{Deserialize, Serialize};

/// Selects the stemming of the full-text index. A change does not require documents to be ingested again. A file may
/// contain an index with another stemming. The first full-text search then builds a new index in memory from the
/// texts in the file.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Stemming {
    /// Only the exact forms of words are indexed.
    None,
    /// Beside the exact forms, the stems of words are indexed by the rules of the language of their text, so that
    /// `leases` finds `lease`. Texts in a language without rules have no stems.
    #[default]
    #[serde(alias = "english")]
    Language,
}

/// Selects how the two scores of a hybrid search are scaled before they are added.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Normalisation {
    /// Scales each score so that the lowest score of the candidates becomes 0 and the highest becomes 1.
    #[default]
    MinMax,
    /// Scales each score so that the lowest possible score (BM25 0, cosine -1) becomes 0 and the highest score of the
    /// candidates becomes 1.
    TheoreticalMin,
}

/// Configures the vector store: `[vectors]` of config.toml.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, schemars::JsonSchema)]
#[serde(default, deny_unknown_fields)]
pub struct VectorOptions {
    /// Maximum number of rows (chunks) in one commit.
    pub max_commit_rows: u64,
    /// Maximum number of documents in one commit, including deletions.
    pub max_commit_documents: u64,
    /// Maximum size of the rows of one commit, in bytes of memory.
    pub max_commit_bytes: u64,
    /// Number of attempts to replace the manifest before a commit fails. More attempts tolerate more concurrent
    /// writers.
    #[serde(skip)]
    pub commit_attempts: u32,
    /// Upper limit of the wait before the second attempt, in milliseconds. This limit doubles with each further
    /// attempt. The actual wait is random, between zero and the limit.
    #[serde(skip)]
    pub backoff_initial_milliseconds: u64,
    /// Maximum wait between two attempts, in milliseconds. The upper limit of the wait stops doubling at this value.
    #[serde(skip)]
    pub backoff_max_milliseconds: u64,
    /// Number of attempts to read the manifest and all files that it lists. After the last attempt, the reader fails.
    #[serde(skip)]
    pub read_attempts: u32,
    /// Memory limit of opened vector files and their full-text indexes, in bytes. If a collection needs more memory,
    /// searches fail with an error that names this key.
    pub max_memory_bytes: u64,
    /// If true, the CRC-32 of each vector file is checked when the file is opened, except for snapshots larger than
    /// `verify_bytes`.
    pub verify_checksums: bool,
    /// Maximum size, in bytes, of a snapshot whose checksums are verified on opening. Larger snapshots open quickly,
    /// but only merges and `docweir store verify` verify their checksums.
    pub verify_bytes: u64,
    /// Maximum number of results of one search.
    pub max_results: usize,
    /// Maximum length of a query, in characters. Longer queries are refused.
    pub max_query_characters: usize,
    /// Number of candidates that a hybrid search takes from each of its two parts, the vector search and the
    /// full-text search. A higher number also finds chunks that rank high in only one of the two parts, but makes the
    /// search slower.
    pub hybrid_candidates: usize,
    /// Scaling of the two scores in a hybrid search: `"min_max"` or `"theoretical_min"`.
    pub hybrid_normalisation: Normalisation,
    /// Share of the neighbouring chunks' scores in a hybrid search, from 0 to 1. The score of each neighbour is
    /// multiplied by this share and added to the chunk's own score. A higher value favours chunks whose neighbours
    /// match too.
    pub hybrid_context: f32,
    /// Stemming of the full-text index: `"language"` or `"none"`. With `"language"`, a query also finds other forms of
    /// its words by the rules of the text's language, after the exact forms.
    pub stemming: Stemming,
    /// Maximum number of versions whose times the manifest records. If there are more, times are removed so that the
    /// intervals grow with age.
    #[serde(skip)]
    pub history_entries: usize,
}

impl Default for VectorOptions {
    fn default() -> Self {
        Self {
            max_commit_rows: 100_000,
            max_commit_documents: 10_000,
            max_commit_bytes: 256 << 20,
            commit_attempts: 24,
            backoff_initial_milliseconds: 20,
            backoff_max_milliseconds: 2_000,
            read_attempts: 8,
            max_memory_bytes: 4 << 30,
            verify_checksums: true,
            verify_bytes: 64 << 20,
            max_results: 1_000,
            max_query_characters: 10_000,
            hybrid_candidates: 200,
            hybrid_normalisation: Normalisation::MinMax,
            hybrid_context: 0.2,
            stemming: Stemming::Language,
            history_entries: 256,
        }
    }
}

impl VectorOptions {
    /// Returns the limits of one commit.
    pub fn capabilities(&self) -> Capabilities {
        Capabilities {
            max_documents: self.max_commit_documents,
            max_rows: self.max_commit_rows,
            max_bytes: self.max_commit_bytes,
            atomic: true,
        }
    }

    /// Returns the invalid fields, each with a description of the problem.
    pub fn problems(&self) -> Vec<(&'static str, String)> {
        let mut problems = Vec::new();
        let mut range = |field, value: u64, low: u64, high: u64| {
            if !(low..=high).contains(&value) {
                problems.push((field, format!("must be between {low} and {high}, not {value}")));
            }
        };
        range("max_commit_rows", self.max_commit_rows, 1, 1_000_000);
        range("max_commit_documents", self.max_commit_documents, 1, 100_000);
        // Offsets of a text column have 31 bits.
        range("max_commit_bytes", self.max_commit_bytes, 1 << 16, 1 << 30);
        range("max_memory_bytes", self.max_memory_bytes, 1 << 20, 1 << 44);
        range("max_results", self.max_results as u64, 1, 100_000);
        range("max_query_characters", self.max_query_characters as u64, 1, 1_000_000);
        range("hybrid_candidates", self.hybrid_candidates as u64, 1, 100_000);
        if !(0.0..=1.0).contains(&self.hybrid_context) {
            problems.push(("hybrid_context", format!("must be between 0 and 1, not {}", self.hybrid_context)));
        }
        problems
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn defaults_are_in_range_and_what_is_not_is_named() {
        let default = VectorOptions::default();
        assert_eq!(default.problems(), []);
        let wrong = VectorOptions { max_commit_rows: 0, max_results: 0, ..default };
        let fields: Vec<_> = wrong.problems().into_iter().map(|(field, _)| field).collect();
        assert_eq!(fields, ["max_commit_rows", "max_results"]);
        let typed: VectorOptions =
            toml::from_str("stemming = \"none\"\nhybrid_normalisation = \"theoretical_min\"").unwrap();
        assert_eq!((typed.stemming, typed.max_results), (Stemming::None, 1_000));
        assert!(toml::from_str::<VectorOptions>("stemmer = 1").unwrap_err().to_string().contains("stemmer"));
    }
}
