//! Explains how the score of a result came about.

use serde::{Deserialize, Serialize};

use super::bm25::{DOCUMENT_SHARE, Scores};
use super::topk::Candidate;
use super::{Mode, Ranked, Search};
use crate::view::View;

/// Holds the parts of a result's score.
///
/// - Full-text search: `score = (words + context · neighbours) / (1 + 2 · context) + document`.
/// - Hybrid search: a row's combined score is `weight · vector + (1 - weight) · words`, both scaled to the range 0 to
///   1, and `score = (combined + context · neighbours) / (1 + 2 · context)`.
/// - In both, half of the row's own score replaces the score of a missing neighbour.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// Terms of the query that the row has, with the BM25 score of each.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub terms: Vec<TermScore>,
    /// Sum of the scores of the terms.
    pub words: f32,
    /// Part of the document's score that a full-text search adds to the score of each of its rows.
    pub document: f32,
    /// Scores of the row before and of the row after this row, in the scale of the row's own score. `None` for a row
    /// that does not exist.
    pub neighbours: [Option<f32>; 2],
    /// Share of each neighbour.
    pub context: f32,
    /// Scaled scores of a hybrid search.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub hybrid: Option<HybridParts>,
}

/// Holds the score of one term.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct TermScore {
    pub term: String,
    pub score: f32,
}

/// Holds the two parts of a combined score, scaled to the range 0 to 1.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct HybridParts {
    pub vector: f32,
    pub words: f32,
    /// Share of the vector's part.
    pub weight: f32,
}

impl View {
    /// Explains the scores of the results, in their order. Each word is scored once for all results.
    pub(super) fn explained(&self, search: &Search<'_>, ranked: &[Ranked<'_>]) -> Vec<Explanation> {
        let mut explained: Vec<Explanation> = ranked.iter().map(|row| self.sums(search, row)).collect();
        if !search.sources.is_empty() {
            let totals = self.totals(&search.sources);
            for term in &search.query.terms {
                let scores = Scores::of(&search.sources, totals, std::slice::from_ref(term));
                for (explanation, row) in explained.iter_mut().zip(ranked) {
                    let score = scores.own(row.candidate.segment, row.candidate.row);
                    if score > 0.0 {
                        explanation.terms.push(TermScore { term: term.term.clone(), score });
                    }
                }
            }
        }
        explained
    }

    /// Returns an explanation without the scores of the terms.
    fn sums(&self, search: &Search<'_>, ranked: &Ranked<'_>) -> Explanation {
        let Candidate { segment: at, row, .. } = ranked.candidate;
        let mut explanation = Explanation { context: self.options.hybrid_context, ..Explanation::default() };
        if let (Some(scores), Some(source)) = (&search.scores, search.sources.get(at)) {
            explanation.words = scores.own(at, row);
            let document = source.documents.of_row(row).filter(|_| search.request.mode == Mode::FullText);
            explanation.document = document.map_or(0.0, |document| DOCUMENT_SHARE * scores.document(at, document));
            explanation.neighbours = self.neighbours(&ranked.candidate).map(|row| row.map(|row| scores.own(at, row)));
        }
        if let Some((parts, neighbours)) = ranked.hybrid {
            explanation.hybrid = Some(parts);
            explanation.neighbours = neighbours;
        }
        explanation
    }
}
