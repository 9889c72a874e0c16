//! Scores rows by BM25, using the postings of all files.
//!
//! Each query sums document frequencies and lengths over the *visible* rows of all files. The score of a row
//! therefore depends neither on the row's file nor on superseded rows in the same file.
//!
//! A row is a passage of a document, and plain BM25 over passages loses what the document says. Three additions were
//! measured on abstracts of one or two passages and on five long texts (decision 0024). A word that every passage of
//! few documents has is rarer than its passages suggest, so the passages of one document count less than those of
//! several (`spread`). A full-text search adds a share of the neighbouring passages' scores, as a hybrid search does,
//! and a share of the document's own score.

use super::bits::Bits;
use super::postings::{Entries, Postings};
use super::query::QueryTerm;
use crate::columns::Documents;

const K1: f32 = 1.2;
const B: f32 = 0.75;

/// Share of the score of a word's stem in the score of the word. The exact form has the rest.
const STEM_SHARE: f32 = 0.75;
/// Factor of the document's score that is added to the scores of its rows in a full-text search.
pub const DOCUMENT_SHARE: f32 = 0.5;

/// Provides what the scores of a file's rows depend on.
#[derive(Clone, Copy)]
pub struct Source<'s> {
    pub postings: &'s Postings,
    pub documents: &'s Documents,
    pub visible: &'s Bits,
}

/// Holds sums over all visible rows.
#[derive(Clone, Debug, Default)]
pub struct Totals {
    rows: usize,
    documents: usize,
    /// Number of terms in all rows.
    length: u64,
    /// Sum of `spread` over all documents.
    spread: f64,
    /// Number of terms in each document of each file.
    lengths: Vec<Vec<u32>>,
}

impl Totals {
    pub fn of(sources: &[Source<'_>]) -> Self {
        let mut totals = Self::default();
        for source in sources {
            let mut lengths = vec![0; source.documents.len()];
            for (document, length) in lengths.iter_mut().enumerate() {
                let mut rows = 0;
                for row in source.documents.rows(document).filter(|row| source.visible.contains(*row)) {
                    rows += 1;
                    *length += source.postings.length(row);
                }
                if rows > 0 {
                    totals.rows += rows;
                    totals.documents += 1;
                    totals.length += u64::from(*length);
                    totals.spread += spread(rows);
                }
            }
            totals.lengths.push(lengths);
        }
        totals
    }

    /// Returns the inverse document frequency of a term, which is never negative.
    fn idf(&self, frequency: f64) -> f32 {
        (1.0 + (self.spread - frequency + 0.5).max(0.5) / (frequency + 0.5)).ln() as f32
    }
}

/// Returns the weight in document frequencies of a document's passages that have a word. Counting documents alone would
/// make every word of a long text equally frequent.
fn spread(passages: usize) -> f64 {
    (passages as f64).sqrt()
}

/// Holds the scores of all rows and documents, as one list for each file. A list is empty if no term of the query
/// occurs in the file.
pub struct Scores {
    rows: Vec<Vec<f32>>,
    documents: Vec<Vec<f32>>,
}

impl Scores {
    /// Scores all visible rows.
    pub fn of(sources: &[Source<'_>], totals: &Totals, terms: &[QueryTerm]) -> Self {
        let mut scores = Self { rows: vec![Vec::new(); sources.len()], documents: vec![Vec::new(); sources.len()] };
        let mut found: Vec<Vec<(u32, u32)>> = vec![Vec::new(); sources.len()];
        for term in terms {
            for (entries, source) in found.iter_mut().zip(sources) {
                entries.clear();
                entries.extend(visible(source, &term.term));
            }
            if term.stems.is_empty() {
                scores.add(sources, totals, &found, term.weight);
                continue;
            }
            scores.add(sources, totals, &found, term.weight * (1.0 - STEM_SHARE));
            for (entries, source) in found.iter_mut().zip(sources) {
                let exact = std::mem::take(entries);
                let stems = merged(term.stems.iter().flat_map(|stem| visible(source, stem)), u32::saturating_add);
                *entries = merged(exact.into_iter().chain(stems), u32::max);
            }
            scores.add(sources, totals, &found, term.weight * STEM_SHARE);
        }
        scores
    }

    /// Adds the score of one term. `found` has the visible rows that contain the term, in each file.
    fn add(&mut self, sources: &[Source<'_>], totals: &Totals, found: &[Vec<(u32, u32)>], weight: f32) {
        let groups = || sources.iter().zip(found).flat_map(|(source, entries)| by_document(source.documents, entries));
        let frequency: f64 = groups().map(|(_, entries)| spread(entries.len())).sum();
        if frequency == 0.0 {
            return;
        }
        let weight = weight * totals.idf(frequency);
        let mean = |count: usize| (totals.length as f64 / count.max(1) as f64).max(1.0) as f32;
        let (row_mean, document_mean) = (mean(totals.rows), mean(totals.documents));
        for (at, (source, entries)) in sources.iter().zip(found).enumerate().filter(|(_, (_, found))| !found.is_empty())
        {
            let (Some(rows), Some(documents), Some(lengths)) =
                (self.rows.get_mut(at), self.documents.get_mut(at), totals.lengths.get(at))
            else {
                continue;
            };
            rows.resize(source.visible.len(), 0.0);
            documents.resize(source.documents.len(), 0.0);
            for (document, entries) in by_document(source.documents, entries) {
                let mut total = 0;
                for &(row, count) in entries {
                    total += count;
                    if let Some(score) = rows.get_mut(row as usize) {
                        *score += weight * saturation(count, source.postings.length(row as usize), row_mean);
                    }
                }
                if let (Some(score), Some(length)) = (documents.get_mut(document), lengths.get(document)) {
                    *score += weight * saturation(total, *length, document_mean);
                }
            }
        }
    }

    /// Returns the score of a row's own words.
    pub fn own(&self, file: usize, row: usize) -> f32 {
        self.rows.get(file).and_then(|rows| rows.get(row)).copied().unwrap_or_default()
    }

    /// Returns the score of a document's words.
    pub fn document(&self, file: usize, document: usize) -> f32 {
        self.documents.get(file).and_then(|list| list.get(document)).copied().unwrap_or_default()
    }

    /// Calls `f` with each row of a file that has a word of the query, and with the score of the row's own words.
    pub fn each(&self, file: usize, mut f: impl FnMut(usize, f32)) {
        let rows = self.rows.get(file).into_iter().flatten().enumerate();
        rows.filter(|(_, own)| **own > 0.0).for_each(|(row, own)| f(row, *own));
    }

    /// Calls `f` like [`Scores::each`], but with scores that include the surroundings of a row: the neighbours, and the
    /// document. `context` is the share of each neighbour's score. A missing neighbour counts as half of the row's own
    /// score.
    pub fn each_in_context(&self, source: &Source<'_>, file: usize, context: f32, mut f: impl FnMut(usize, f32)) {
        let (Some(rows), Some(documents)) = (self.rows.get(file), self.documents.get(file)) else { return };
        for (document, &of_document) in documents.iter().enumerate().filter(|(_, score)| **score > 0.0) {
            let range = source.documents.rows(document);
            let list = rows.get(range.clone()).unwrap_or_default();
            for (at, &own) in list.iter().enumerate().filter(|(_, own)| **own > 0.0) {
                let beside = |neighbour: Option<&f32>| neighbour.copied().unwrap_or(own / 2.0);
                let sum = beside(at.checked_sub(1).and_then(|at| list.get(at))) + beside(list.get(at + 1));
                let score = (own + context * sum) / (1.0 + 2.0 * context);
                f(range.start + at, score + DOCUMENT_SHARE * of_document);
            }
        }
    }
}

fn visible<'s>(source: &Source<'s>, term: &str) -> impl Iterator<Item = (u32, u32)> + use<'s> {
    let (entries, visible): (Entries<'s>, &'s Bits) = (source.postings.of(term), source.visible);
    entries.filter(move |(row, _)| visible.contains(*row as usize))
}

/// Orders rows with their counts by row. `combine` combines the counts of a row that occurs more than once.
fn merged(entries: impl Iterator<Item = (u32, u32)>, combine: fn(u32, u32) -> u32) -> Vec<(u32, u32)> {
    let mut entries: Vec<(u32, u32)> = entries.collect();
    entries.sort_unstable_by_key(|(row, _)| *row);
    entries.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        if same {
            kept.1 = combine(kept.1, next.1);
        }
        same
    });
    entries
}

/// Divides a list of rows into the rows of each document. `entries` is ordered by row.
fn by_document<'e>(
    documents: &Documents,
    mut entries: &'e [(u32, u32)],
) -> impl Iterator<Item = (usize, &'e [(u32, u32)])> {
    let mut next = 0;
    std::iter::from_fn(move || {
        let (first, _) = entries.first()?;
        let document = documents.of_row_from(*first as usize, next)?;
        next = document;
        let end = documents.rows(document).end;
        let (own, rest) = entries.split_at(entries.iter().take_while(|(row, _)| (*row as usize) < end).count());
        entries = rest;
        (!own.is_empty()).then_some((document, own))
    })
}

fn saturation(count: u32, length: u32, average: f32) -> f32 {
    let count = count as f32;
    count * (K1 + 1.0) / (count + K1 * (1.0 - B + B * length as f32 / average))
}

#[cfg(test)]
#[path = "bm25_tests.rs"]
mod tests;
