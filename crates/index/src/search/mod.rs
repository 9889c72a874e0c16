//! Searches a view by vector, by words, or by both.
//!
//! ```text
//! visible rows ─▶ filter ─▶ ┬─ scan of the codes ─▶ exact cosine of the nearest ─┐
//!                           └─ BM25 ─────────────────────────────────────────────┴─▶ both candidates ─▶ fusion, with
//!                                                                                neighbouring chunks ─▶ top k
//! ```
//! A search runs on the calling thread, and on further threads if the request allows them.

pub mod bits;
pub mod bm25;
pub mod codes;
pub mod facet;
pub mod filter;
pub mod filter_syntax;
pub mod flat;
pub mod fusion;
pub mod postings;
pub mod scalar;
pub mod tokens;
pub mod topk;

use std::collections::HashSet;

use docweir_core::documents::{DocumentId, Version};
use docweir_core::model::{ModelIdentity, PageBox, Span};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use self::bits::Bits;
use self::filter::Filter;
use self::fusion::{Fusion, Pair};
use self::topk::{Candidate, TopK};
use super::error::VectorError;
use super::segment::Segment;
use super::view::View;

/// Default share of the vector score in a hybrid search.
pub const DEFAULT_WEIGHT: f32 = 0.5;

/// Selects how rows are ranked.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// Ranks by cosine similarity to the request's vector.
    Vector,
    /// Ranks by BM25 of the request's text.
    FullText,
    /// Ranks by a combination of both scores. `weight` is the share of the vector score, from 0 to 1.
    Hybrid { weight: f32 },
}

impl Default for Mode {
    fn default() -> Self {
        Mode::Hybrid { weight: DEFAULT_WEIGHT }
    }
}

#[derive(Clone, Debug, PartialEq)]
pub struct SearchRequest {
    /// Query as the user typed it. Required for full-text and hybrid search. Search results of every mode also mark
    /// the words of this query.
    pub text: String,
    /// Embedding of the query by the collection's model. Required for vector and hybrid search.
    pub vector: Option<Vec<f32>>,
    /// Maximum number of results.
    pub k: usize,
    pub mode: Mode,
    pub filter: Option<Filter>,
    /// Number of candidates that a hybrid search takes from each of its two parts, the vector search and the
    /// full-text search. At least `k` are taken from each part. `None` means the configured number.
    pub candidates: Option<usize>,
    /// Number of threads that a scan may use; 1 means only the calling thread.
    pub threads: usize,
    /// If true, the search compares the query with every vector. If false, the vector codes first select the vectors
    /// to compare.
    pub exact: bool,
}

impl SearchRequest {
    /// Creates a hybrid request if there is a vector, and a full-text request otherwise.
    pub fn new(text: impl Into<String>, vector: Option<Vec<f32>>, k: usize) -> Self {
        let mode = if vector.is_some() { Mode::default() } else { Mode::FullText };
        Self { text: text.into(), vector, k, mode, filter: None, candidates: None, threads: 1, exact: false }
    }
}

/// Describes a chunk that was found.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Hit {
    /// Score by which the hits are ordered. Vector search gives the cosine similarity, full-text search the BM25
    /// score, and hybrid search a combined score from 0 to 1.
    pub score: f32,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub vector_score: Option<f32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub bm25_score: Option<f32>,
    pub document: DocumentId,
    pub version: Version,
    pub source: String,
    /// Document that contains this document; `None` if there is none.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub parent: Option<DocumentId>,
    pub chunk_id: String,
    pub ordinal: u32,
    pub kind: String,
    /// First and last page of the chunk, counted from 1.
    pub pages: (u32, u32),
    pub span: Span,
    pub boxes: Vec<PageBox>,
    pub heading_path: Vec<String>,
    pub language: Option<String>,
    pub text: String,
    /// Positions in `text` of the words of the query, as half-open ranges of code points. The ranges are in order.
    pub matches: Vec<(u32, u32)>,
    pub metadata: Map<String, Value>,
}

impl View {
    /// Returns the best `k` visible rows that pass the filter, best first. Rows of equal score are ordered by chunk
    /// id. Full-text search finds only rows that contain a word of the query.
    pub fn search(&self, request: &SearchRequest) -> Result<Vec<Hit>, VectorError> {
        self.check(request)?;
        let stemming = self.options.stemming;
        let terms = tokens::query_terms(&request.text, stemming);
        let name = request.filter.as_ref().and_then(|filter| serde_json::to_string(filter).ok());
        let allowed: Vec<(&Segment, Bits)> = self
            .segments
            .iter()
            .map(|s| {
                let mut rows = s.rows.clone();
                if let (Some(filter), Some(name)) = (&request.filter, &name) {
                    let left = s.segment.filtered(name, filter);
                    rows.and_words(|word| left.words().get(word).copied().unwrap_or_default());
                }
                (&*s.segment, rows)
            })
            .collect();
        let words = |k| {
            let scores = self.bm25(&terms);
            let best = best_by_words(&allowed, &scores, k);
            (scores, best)
        };
        let ranked: Vec<(Candidate<'_>, Option<f32>, Option<f32>)> = match request.mode {
            Mode::Vector => {
                let query = self.query_vector(request)?;
                let best = flat::search(&allowed, &query, request.k, request.threads, request.exact);
                best.into_iter().map(|c| (c, Some(c.score), None)).collect()
            }
            Mode::FullText => words(request.k).1.into_iter().map(|c| (c, None, Some(c.score))).collect(),
            Mode::Hybrid { weight } => {
                let query = self.query_vector(request)?;
                let depth = request.candidates.unwrap_or(self.options.hybrid_candidates).max(request.k);
                let near = flat::search(&allowed, &query, depth, request.threads, request.exact);
                let (scores, worded) = words(depth);
                self.hybrid(near, worded, &query, &scores, weight, request.k)
            }
        };
        Ok(ranked.into_iter().filter_map(|(c, vector, bm25)| self.hit(c, vector, bm25, &terms)).collect())
    }

    /// Returns an error if `model` differs from the model of the view's vectors.
    pub fn check_model(&self, model: &ModelIdentity) -> Result<(), VectorError> {
        crate::may_mix(&self.manifest.collection, &self.manifest, model)
    }

    fn check(&self, request: &SearchRequest) -> Result<(), VectorError> {
        let query = |reason: String| Err(VectorError::Query(reason));
        if !(1..=self.options.max_results).contains(&request.k) {
            return query(format!("{} results were requested; request 1 to {}", request.k, self.options.max_results));
        }
        let limit = self.options.max_query_characters;
        if request.text.chars().nth(limit).is_some() {
            return query(format!("query is longer than {limit} characters; shorten it"));
        }
        if let Mode::Hybrid { weight } = request.mode
            && !(0.0..=1.0).contains(&weight)
        {
            return query(format!("weight of the vector score must be between 0 and 1, not {weight}"));
        }
        Ok(())
    }

    /// Returns the query's vector scaled to length 1.
    fn query_vector(&self, request: &SearchRequest) -> Result<Vec<f32>, VectorError> {
        let Some(vector) = &request.vector else {
            return Err(VectorError::Query(
                "search needs the query's vector; embed the query, or search by words".into(),
            ));
        };
        if let Some(model) = self.manifest.model()
            && model.dimension as usize != vector.len()
        {
            let reason = format!(
                "query's vector has {} dimensions, but the collection's model `{}` has {}; use this model for the query",
                vector.len(),
                model.id,
                model.dimension
            );
            return Err(VectorError::Query(reason));
        }
        let length = vector.iter().map(|x| x * x).sum::<f32>().sqrt();
        if !length.is_finite() || length <= f32::EPSILON {
            return Err(VectorError::Query(format!("query's vector has length {length}; embed the query again")));
        }
        Ok(vector.iter().map(|x| x / length).collect())
    }

    /// Returns the BM25 scores of all visible rows, as one list per segment.
    fn bm25(&self, terms: &[(String, u32)]) -> Vec<Vec<f32>> {
        if terms.is_empty() {
            return vec![Vec::new(); self.segments.len()];
        }
        let segments: Vec<_> =
            self.segments.iter().map(|s| (s.segment.postings(self.options.stemming), &s.rows)).collect();
        // Filters do not change the weight of a word.
        bm25::scores(&segments, self.total_length(&segments), terms)
    }

    fn hybrid<'a>(
        &'a self,
        near: Vec<Candidate<'a>>,
        worded: Vec<Candidate<'a>>,
        query: &[f32],
        bm25: &[Vec<f32>],
        weight: f32,
        k: usize,
    ) -> Vec<(Candidate<'a>, Option<f32>, Option<f32>)> {
        let mut seen = HashSet::with_capacity(near.len() + worded.len());
        let candidates: Vec<Candidate<'a>> =
            near.into_iter().chain(worded).filter(|c| seen.insert((c.segment, c.row))).collect();
        let pair = |segment: usize, row: usize| Pair {
            vector: self.segments.get(segment).map_or(0.0, |s| flat::dot(s.segment.vector(row), query)),
            bm25: bm25.get(segment).and_then(|s| s.get(row)).copied().unwrap_or_default(),
        };
        let pairs: Vec<Pair> = candidates.iter().map(|c| pair(c.segment, c.row)).collect();
        let fusion = Fusion::of(&pairs, weight, self.options.hybrid_normalisation);
        let context = self.options.hybrid_context;
        let score = |c: &Candidate<'_>, own: Pair| match context > 0.0 {
            // Rows that the filter excludes still count as context.
            true => {
                let beside = self.neighbours(c).map(|row| row.map(|row| pair(c.segment, row)));
                fusion.in_context(own, beside, context)
            }
            false => fusion.score(own),
        };
        let mut ranked: Vec<_> = candidates
            .into_iter()
            .zip(pairs)
            .map(|(c, own)| (Candidate { score: score(&c, own), ..c }, Some(own.vector), Some(own.bm25)))
            .collect();
        ranked.sort_by(|a, b| a.0.rank(&b.0));
        ranked.truncate(k);
        ranked
    }

    /// Returns the row before and the row after a candidate. Both belong to the candidate's document; `None` for a
    /// row that does not exist.
    fn neighbours(&self, candidate: &Candidate<'_>) -> [Option<usize>; 2] {
        let Some(documents) = self.segments.get(candidate.segment).map(|s| s.segment.documents()) else {
            return [None, None];
        };
        let rows = documents.of_row(candidate.row).map_or(0..0, |document| documents.rows(document));
        [candidate.row.checked_sub(1), Some(candidate.row + 1)].map(|row| row.filter(|row| rows.contains(row)))
    }

    fn hit(
        &self,
        candidate: Candidate<'_>,
        vector_score: Option<f32>,
        bm25_score: Option<f32>,
        terms: &[(String, u32)],
    ) -> Option<Hit> {
        let segment = &self.segments.get(candidate.segment)?.segment;
        let documents = segment.documents();
        let document = documents.of_row(candidate.row)?;
        let row = segment.row(candidate.row)?;
        Some(Hit {
            score: candidate.score,
            vector_score,
            bm25_score,
            document: DocumentId::parse(documents.id(document))?,
            version: documents.version(document),
            source: documents.sources.get(document).to_owned(),
            parent: documents.parent(document),
            chunk_id: row.chunk_id,
            ordinal: row.ordinal,
            kind: row.kind,
            pages: row.pages,
            span: row.span,
            boxes: row.boxes,
            heading_path: row.heading_path,
            language: row.language,
            matches: tokens::matches(&row.text, terms, self.options.stemming),
            text: row.text,
            metadata: row.metadata.to_map(),
        })
    }
}

fn best_by_words<'a>(allowed: &[(&'a Segment, Bits)], scores: &[Vec<f32>], k: usize) -> Vec<Candidate<'a>> {
    let mut best = TopK::new(k);
    for (i, ((segment, allowed), scores)) in allowed.iter().zip(scores).enumerate() {
        let segment: &'a Segment = segment;
        for (row, &score) in scores.iter().enumerate() {
            if score > 0.0 && allowed.contains(row) {
                best.offer(score, i, row, || segment.chunk_id(row));
            }
        }
    }
    best.into_sorted()
}

#[cfg(test)]
#[path = "search_tests.rs"]
mod tests;
