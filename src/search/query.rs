//! Defines the options of a search and checks them.

use docweir_index::{Filter, ManifestVersion, VectorOptions};
use serde::{Deserialize, Serialize};

pub use docweir_index::Mode;

use super::error::SearchError;
use crate::config::{SearchMode, SearchOptions};

/// Holds all options of a search. The text of the query is not an option. If an option is invalid, the error names
/// its field.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct QueryOptions {
    /// Collection to search; `None` means the collection of documents.
    pub collection: Option<String>,
    /// Version of the collection to search; `None` means the newest.
    pub as_of: Option<ManifestVersion>,
    /// Mode of the search, which determines how passages are ranked.
    pub mode: Mode,
    /// Maximum number of passages.
    pub limit: usize,
    /// Condition that every passage must match.
    pub filter: Option<Filter>,
    /// If true, the query is compared with every vector. If false, the search first scans short codes, which
    /// approximate the vectors, and selects the likely nearest vectors. Then the query is compared only with the
    /// selected vectors.
    pub exact: bool,
    /// Maximum number of passages of one document; `None` means no limit.
    pub per_document: Option<usize>,
    /// If true, each passage explains its score.
    pub explain: bool,
    /// Minimum score of a passage; the scale depends on the mode.
    pub min_score: Option<f32>,
}

impl Default for QueryOptions {
    fn default() -> Self {
        Self::from(&SearchOptions::default())
    }
}

/// Creates the options from the configuration section `search`.
impl From<&SearchOptions> for QueryOptions {
    fn from(options: &SearchOptions) -> Self {
        let mode = match options.mode {
            SearchMode::Hybrid => Mode::Hybrid { weight: options.weight as f32 },
            SearchMode::Vector => Mode::Vector,
            SearchMode::FullText => Mode::FullText,
        };
        Self {
            collection: None,
            as_of: None,
            mode,
            limit: options.top,
            filter: None,
            exact: false,
            per_document: None,
            explain: false,
            min_score: None,
        }
    }
}

impl QueryOptions {
    /// Returns whether the search needs a vector of the query.
    pub fn needs_vector(&self) -> bool {
        self.mode != Mode::FullText
    }

    /// Checks the options against the limits of the collection.
    ///
    /// # Errors
    /// Returns [`SearchError::BadQuery`] for the first field that is out of range.
    pub fn check(&self, limits: &VectorOptions) -> Result<(), SearchError> {
        let most = limits.max_results;
        if !(1..=most).contains(&self.limit) {
            let reason = format!("{} results requested: request 1 to {most}", self.limit);
            return Err(SearchError::bad("limit", reason));
        }
        if self.per_document == Some(0) {
            let reason = "0 results of each document requested: request at least 1".to_owned();
            return Err(SearchError::bad("per_document", reason));
        }
        if let Mode::Hybrid { weight } = self.mode
            && !(0.0..=1.0).contains(&weight)
        {
            let reason = format!("the weight of the vector score is {weight}: it must be between 0 and 1");
            return Err(SearchError::bad("mode", reason));
        }
        match self.min_score {
            Some(score) if !score.is_finite() => {
                Err(SearchError::bad("min_score", format!("the minimum score is {score}: it must be a finite number")))
            }
            _ => Ok(()),
        }
    }
}

/// Returns an error if the text of the query is empty.
pub(super) fn not_empty(text: &str) -> Result<(), SearchError> {
    match text.trim().is_empty() {
        true => Err(SearchError::bad("text", "the query is empty: pass the text to search for")),
        false => Ok(()),
    }
}

/// Returns an error if the text of the query is longer than the configured limit.
pub(super) fn not_too_long(text: &str, limits: &VectorOptions) -> Result<(), SearchError> {
    let limit = limits.max_query_characters;
    match text.chars().nth(limit) {
        Some(_) => Err(SearchError::bad("text", format!("the query is longer than {limit} characters: shorten it"))),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bad_value_is_named_with_its_field() {
        let limits = VectorOptions { max_results: 100, ..VectorOptions::default() };
        let default = QueryOptions::default();
        let weight = |weight| QueryOptions { mode: Mode::Hybrid { weight }, ..default.clone() };
        let limit = |limit| QueryOptions { limit, ..default.clone() };
        let score = |score| QueryOptions { min_score: Some(score), ..default.clone() };
        let each = |each| QueryOptions { per_document: Some(each), ..default.clone() };
        let table = [
            (default.clone(), None),
            (limit(1), None),
            (limit(100), None),
            (limit(0), Some(("limit", "0 results requested: request 1 to 100"))),
            (each(1), None),
            (each(0), Some(("per_document", "0 results of each document requested: request at least 1"))),
            (limit(101), Some(("limit", "101 results requested: request 1 to 100"))),
            (weight(0.0), None),
            (weight(1.0), None),
            (weight(1.5), Some(("mode", "the weight of the vector score is 1.5: it must be between 0 and 1"))),
            (weight(f32::NAN), Some(("mode", "the weight of the vector score is NaN: it must be between 0 and 1"))),
            (score(-1.0), None),
            (score(f32::INFINITY), Some(("min_score", "the minimum score is inf: it must be a finite number"))),
        ];
        for (options, expected) in table {
            let found = match options.check(&limits) {
                Ok(()) => None,
                Err(SearchError::BadQuery { field, reason }) => Some((field, reason)),
                Err(other) => panic!("{other:?}"),
            };
            assert_eq!(found, expected.map(|(field, reason)| (field, reason.to_owned())), "{options:?}");
        }
    }

    #[test]
    fn a_text_is_neither_empty_nor_endless() {
        let limits = VectorOptions { max_query_characters: 3, ..VectorOptions::default() };
        for (text, fits) in [("für", true), ("four", false)] {
            assert_eq!(not_too_long(text, &limits).is_ok(), fits, "{text}");
        }
        for (text, fits) in [("a", true), ("", false), (" \n\t", false)] {
            assert_eq!(not_empty(text).is_ok(), fits, "{text:?}");
        }
    }

    #[test]
    fn options_come_from_json_and_from_the_configuration() {
        let filter = r#"{"eq":{"field":"kind","value":"record"}}"#;
        let json = format!(r#"{{"collection":"products","limit":3,"mode":"full_text","filter":{filter}}}"#);
        let options: QueryOptions = serde_json::from_str(&json).unwrap();
        assert_eq!((options.limit, options.mode, options.needs_vector()), (3, Mode::FullText, false));
        assert_eq!(options.filter, Some(Filter::eq("kind", "record")));
        assert!(serde_json::from_str::<QueryOptions>(r#"{"top":3}"#).unwrap_err().to_string().contains("top"));
        let settings = SearchOptions { top: 7, mode: SearchMode::Hybrid, weight: 0.25 };
        let options = QueryOptions::from(&settings);
        assert_eq!((options.limit, options.mode, options.needs_vector()), (7, Mode::Hybrid { weight: 0.25 }, true));
    }
}
