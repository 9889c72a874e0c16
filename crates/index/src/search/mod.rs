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
pub mod explain;
pub mod facet;
pub mod filter;
pub mod filter_syntax;
pub mod flat;
pub mod fusion;
pub mod postings;
pub mod query;
pub mod scalar;
pub mod stems;
pub mod tokens;
pub mod topk;

use std::collections::{HashMap, HashSet};

use docweir_core::documents::{DocumentId, Version};
use docweir_core::model::{ModelIdentity, PageBox, Span};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

use self::bits::Bits;
use self::bm25::{Scores, Source, Totals};
use self::explain::{Explanation, HybridParts};
use self::filter::Filter;
use self::fusion::{Fusion, Pair};
use self::query::Query;
use self::topk::{Candidate, TopK};
use super::error::VectorError;
use super::segment::Segment;
use super::view::View;
use super::visible::Visible;

/// Default share of the vector score in a hybrid search.
pub const DEFAULT_WEIGHT: f32 = 0.45;

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
    /// Maximum number of results of one document; `None` means no limit.
    pub per_document: Option<usize>,
    /// If true, each result explains its score, which takes as long as a search for each word of the query.
    pub explain: bool,
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
        Self {
            text: text.into(),
            vector,
            k,
            mode,
            filter: None,
            candidates: None,
            per_document: None,
            explain: false,
            threads: 1,
            exact: false,
        }
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
    /// Parts of the score. Absent unless the request asks for an explanation.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub explanation: Option<Explanation>,
}

/// Holds a ranked row with its raw scores.
struct Ranked<'a> {
    candidate: Candidate<'a>,
    vector: Option<f32>,
    bm25: Option<f32>,
    /// In a hybrid search that is to be explained: the scaled scores of the row, and the combined scores of its
    /// neighbours.
    hybrid: Option<(HybridParts, [Option<f32>; 2])>,
}

/// Holds what every step of a search needs.
struct Search<'a> {
    request: &'a SearchRequest,
    query: Query,
    /// Each segment with the visible rows that the filter allows.
    allowed: Vec<(&'a Segment, Bits)>,
    sources: Vec<Source<'a>>,
    /// Query's vector, scaled to length 1. Empty in a full-text search.
    vector: Vec<f32>,
    /// Scores by words. `None` in a vector search.
    scores: Option<Scores>,
}

impl View {
    /// Returns the best `k` visible rows that pass the filter, best first. Rows of equal score are ordered by chunk
    /// id. Full-text search finds only rows that contain a word of the query. Full-text and hybrid search find only
    /// rows that contain the query's phrases.
    pub fn search(&self, request: &SearchRequest) -> Result<Vec<Hit>, VectorError> {
        self.check(request)?;
        let search = self.prepare(request)?;
        let limits_rows =
            request.per_document.is_some() || !(search.query.phrases.is_empty() || search.scores.is_none());
        if !limits_rows {
            return Ok(self.hits(&search, self.ranked(&search, request.k)));
        }
        // Some of the best rows are left out, so more of them are ranked until enough remain.
        let most: usize = search.allowed.iter().map(|(_, rows)| rows.count()).sum();
        let mut has_phrases = HashMap::new();
        let mut depth = request.k.saturating_mul(4);
        loop {
            let ranked = self.ranked(&search, depth);
            let mut of_document: HashMap<(usize, Option<usize>), usize> = HashMap::new();
            let mut left: Vec<Ranked<'_>> = Vec::with_capacity(request.k);
            for row in ranked {
                let Candidate { segment: at, row: number, .. } = row.candidate;
                let Some((segment, _)) = search.allowed.get(at).filter(|_| left.len() < request.k) else { break };
                let has = search.scores.is_none()
                    || *has_phrases
                        .entry((at, number))
                        .or_insert_with(|| search.query.has_phrases(&segment.indexed_text(number)));
                let count = of_document.entry((at, segment.documents().of_row(number))).or_default();
                if has && request.per_document.is_none_or(|most| *count < most) {
                    *count += 1;
                    left.push(row);
                }
            }
            if left.len() >= request.k || depth >= most {
                return Ok(self.hits(&search, left));
            }
            depth = depth.saturating_mul(4);
        }
    }

    /// Evaluates the filter and scores all rows by words.
    fn prepare<'a>(&'a self, request: &'a SearchRequest) -> Result<Search<'a>, VectorError> {
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
        let query = Query::parse(&request.text, self.stem_rules());
        let vector = match request.mode {
            Mode::FullText => Vec::new(),
            Mode::Vector | Mode::Hybrid { .. } => self.query_vector(request)?,
        };
        let mut search = Search { request, query, allowed, sources: Vec::new(), vector, scores: None };
        if request.mode != Mode::Vector {
            // Without words, no full-text index is needed.
            if !search.query.terms.is_empty() {
                let source = |s: &'a Visible| Source {
                    postings: s.segment.postings(self.options.stemming),
                    documents: s.segment.documents(),
                    visible: &s.rows,
                };
                search.sources = self.segments.iter().map(source).collect();
            }
            // Filters do not change the weight of a word.
            let totals = if search.sources.is_empty() { &Totals::default() } else { self.totals(&search.sources) };
            search.scores = Some(Scores::of(&search.sources, totals, &search.query.terms));
        }
        Ok(search)
    }

    /// Returns the best `k` rows.
    fn ranked<'a>(&'a self, search: &Search<'a>, k: usize) -> Vec<Ranked<'a>> {
        let request = search.request;
        // The rows beyond those that were asked for only serve to combine both scores.
        let certain = request.k;
        let near = |k| flat::search(&search.allowed, &search.vector, k, certain, request.threads, request.exact);
        match request.mode {
            Mode::Vector => near(k)
                .into_iter()
                .map(|c| Ranked { candidate: c, vector: Some(c.score), bm25: None, hybrid: None })
                .collect(),
            Mode::FullText => {
                let rank = |c: Candidate<'a>| {
                    let bm25 = Some(search.word_score(c.segment, c.row));
                    Ranked { candidate: c, vector: None, bm25, hybrid: None }
                };
                search.worded(k, Some(self.options.hybrid_context)).into_iter().map(rank).collect()
            }
            Mode::Hybrid { weight } => {
                let depth = request.candidates.unwrap_or(self.options.hybrid_candidates).max(k);
                let mut seen = HashSet::new();
                let worded = search.worded(depth, None);
                let candidates: Vec<Candidate<'a>> =
                    near(depth).into_iter().chain(worded).filter(|c| seen.insert((c.segment, c.row))).collect();
                self.hybrid(search, candidates, weight, k)
            }
        }
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

    fn hybrid<'a>(
        &'a self,
        search: &Search<'a>,
        candidates: Vec<Candidate<'a>>,
        weight: f32,
        k: usize,
    ) -> Vec<Ranked<'a>> {
        let pair = |segment: usize, row: usize| Pair {
            vector: self.segments.get(segment).map_or(0.0, |s| flat::dot(s.segment.vector(row), &search.vector)),
            bm25: search.word_score(segment, row),
        };
        let pairs: Vec<Pair> = candidates.iter().map(|c| pair(c.segment, c.row)).collect();
        let fusion = Fusion::of(&pairs, weight, self.options.hybrid_normalisation);
        let context = self.options.hybrid_context;
        let rank = |(c, own): (Candidate<'a>, Pair)| {
            // Rows that the filter excludes still count as context.
            let beside = match context > 0.0 {
                true => self.neighbours(&c).map(|row| row.map(|row| pair(c.segment, row))),
                false => [None, None],
            };
            let parts = || {
                let Pair { vector, bm25: words } = fusion.scaled(own);
                (HybridParts { vector, words, weight }, beside.map(|pair| pair.map(|pair| fusion.score(pair))))
            };
            Ranked {
                candidate: Candidate { score: fusion.in_context(own, beside, context), ..c },
                vector: Some(own.vector),
                bm25: Some(own.bm25),
                hybrid: search.request.explain.then(parts),
            }
        };
        let mut ranked: Vec<_> = candidates.into_iter().zip(pairs).map(rank).collect();
        ranked.sort_by(|a, b| a.candidate.rank(&b.candidate));
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

    fn hits(&self, search: &Search<'_>, ranked: Vec<Ranked<'_>>) -> Vec<Hit> {
        let explained = if search.request.explain { self.explained(search, &ranked) } else { Vec::new() };
        let mut explained = explained.into_iter();
        let hit = |row: &Ranked<'_>| {
            let explanation = explained.next();
            Some(Hit { explanation, ..self.hit(search, row)? })
        };
        ranked.iter().filter_map(hit).collect()
    }

    fn hit(&self, search: &Search<'_>, ranked: &Ranked<'_>) -> Option<Hit> {
        let candidate = &ranked.candidate;
        let segment = &self.segments.get(candidate.segment)?.segment;
        let documents = segment.documents();
        let document = documents.of_row(candidate.row)?;
        let row = segment.row(candidate.row)?;
        let rules = row.language.as_deref().and_then(|language| stems::rules(language, self.options.stemming));
        Some(Hit {
            score: candidate.score,
            vector_score: ranked.vector,
            bm25_score: ranked.bm25,
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
            matches: search.query.matches(&row.text, rules.as_ref()),
            language: row.language,
            text: row.text,
            metadata: row.metadata.to_map(),
            explanation: None,
        })
    }
}

impl<'a> Search<'a> {
    /// Returns the best `k` rows by words. `context` is the share of the neighbouring rows' scores; `None` means that
    /// only the own words of a row count.
    fn worded(&self, k: usize, context: Option<f32>) -> Vec<Candidate<'a>> {
        let mut best = TopK::new(k);
        let Some(scores) = &self.scores else { return Vec::new() };
        for (at, ((segment, allowed), source)) in self.allowed.iter().zip(&self.sources).enumerate() {
            let segment: &'a Segment = segment;
            let offer = |row: usize, score: f32| {
                if allowed.contains(row) {
                    best.offer(score, at, row, || segment.chunk_id(row));
                }
            };
            match context {
                Some(context) => scores.each_in_context(source, at, context, offer),
                None => scores.each(at, offer),
            }
        }
        best.into_sorted()
    }

    /// Returns the score of a row's own words.
    fn word_score(&self, segment: usize, row: usize) -> f32 {
        self.scores.as_ref().map_or(0.0, |scores| scores.own(segment, row))
    }
}

#[cfg(test)]
#[path = "search_tests.rs"]
mod tests;
