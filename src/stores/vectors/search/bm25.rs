//! BM25 over postings that are built in memory, one index a file.
//!
//! Nothing of it is on disk: a delta is indexed when somebody first searches by text. Document frequencies and lengths
//! are summed over the *visible* rows of all files at each query, so that a row scores the same whichever file it lies
//! in and however many superseded rows lie beside it.

use std::collections::HashMap;
use std::hash::{BuildHasher, Hasher};

use super::bits::Bits;
use super::tokens::each_token;
use crate::stores::vectors::options::Stemming;

const K1: f32 = 1.2;
const B: f32 = 0.75;

/// The terms of a file's rows, and for each term the rows that it stands in.
pub struct Postings {
    terms: HashMap<Box<str>, u32, Seeded>,
    /// Where the postings of each term begin; one more than there are terms.
    starts: Vec<u32>,
    rows: Vec<u32>,
    counts: Vec<u16>,
    /// Terms of each row.
    lengths: Vec<u32>,
    term_bytes: usize,
}

impl Postings {
    /// `texts` are those of the rows, in order.
    pub fn build<T: AsRef<str>>(texts: impl Iterator<Item = T>, stemming: Stemming) -> Self {
        let mut terms: HashMap<Box<str>, u32, Seeded> = HashMap::with_hasher(Seeded::new());
        let mut lengths = Vec::new();
        // Row after row: (term, count). Turned round afterwards.
        let mut forward: Vec<(u32, u16)> = Vec::new();
        let mut ends: Vec<usize> = Vec::new();
        let mut frequency: Vec<u32> = Vec::new();
        let mut row_terms: Vec<u32> = Vec::new();
        let mut term_bytes = 0;
        for text in texts {
            row_terms.clear();
            let mut length = 0;
            each_token(text.as_ref(), stemming, |token| {
                let next = terms.len() as u32;
                let id = match terms.get(token.term) {
                    Some(id) => *id,
                    None => {
                        term_bytes += token.term.len();
                        terms.insert(token.term.into(), next);
                        frequency.push(0);
                        next
                    }
                };
                row_terms.push(id);
                length += u32::from(token.counts);
            });
            row_terms.sort_unstable();
            for same in row_terms.chunk_by(|a, b| a == b) {
                if let Some((&id, count)) = same.first().zip(u16::try_from(same.len()).ok().or(Some(u16::MAX))) {
                    forward.push((id, count));
                    if let Some(n) = frequency.get_mut(id as usize) {
                        *n += 1;
                    }
                }
            }
            lengths.push(length);
            ends.push(forward.len());
        }
        let mut starts = Vec::with_capacity(frequency.len() + 1);
        let mut total = 0;
        for n in &frequency {
            starts.push(total);
            total += n;
        }
        starts.push(total);
        let (mut rows, mut counts) = (vec![0; forward.len()], vec![0; forward.len()]);
        let mut next = starts.clone();
        let mut from = 0;
        for (row, end) in ends.into_iter().enumerate() {
            for (id, count) in forward.get(from..end).unwrap_or_default() {
                if let Some(place) = next.get_mut(*id as usize) {
                    if let (Some(r), Some(c)) = (rows.get_mut(*place as usize), counts.get_mut(*place as usize)) {
                        (*r, *c) = (row as u32, *count);
                    }
                    *place += 1;
                }
            }
            from = end;
        }
        terms.shrink_to_fit();
        Self { terms, starts, rows, counts, lengths, term_bytes }
    }

    /// Rows that a term stands in, and how often. Empty for an unknown term.
    fn of(&self, term: &str) -> (&[u32], &[u16]) {
        let range = self
            .terms
            .get(term)
            .and_then(|&id| Some(*self.starts.get(id as usize)? as usize..*self.starts.get(id as usize + 1)? as usize));
        let range = range.unwrap_or(0..0);
        (self.rows.get(range.clone()).unwrap_or_default(), self.counts.get(range).unwrap_or_default())
    }

    fn length(&self, row: usize) -> u32 {
        self.lengths.get(row).copied().unwrap_or_default()
    }

    /// Sum of the lengths of these rows.
    pub fn total_length(&self, rows: &Bits) -> u64 {
        let run = |r: std::ops::Range<usize>| {
            self.lengths.get(r).unwrap_or_default().iter().map(|&n| u64::from(n)).sum::<u64>()
        };
        rows.runs(0..rows.len()).map(run).sum()
    }

    /// Number of different terms.
    pub fn len(&self) -> usize {
        self.terms.len()
    }

    pub fn is_empty(&self) -> bool {
        self.terms.is_empty()
    }

    pub fn memory_bytes(&self) -> usize {
        6 * self.rows.len()
            + 4 * (self.starts.len() + self.lengths.len())
            + self.term_bytes
            + 28 * self.terms.capacity()
    }
}

/// Scores of all rows of all segments: one list a segment, empty where no term occurs. 0 is no match.
///
/// `segments` are the postings and the visible rows of each, `length` the sum of all visible rows' lengths.
pub fn scores(segments: &[(&Postings, &Bits)], length: u64, terms: &[(String, u32)]) -> Vec<Vec<f32>> {
    let rows: usize = segments.iter().map(|(_, visible)| visible.count()).sum();
    let average = (length as f64 / rows.max(1) as f64).max(1.0) as f32;
    let mut scores: Vec<Vec<f32>> = vec![Vec::new(); segments.len()];
    for (term, repeated) in terms {
        let lists: Vec<_> = segments.iter().map(|(postings, _)| postings.of(term)).collect();
        let seen = |(i, (rows, _)): (usize, &(&[u32], &[u16]))| {
            let visible = segments.get(i).map(|(_, visible)| visible);
            visible.map_or(0, |v| rows.iter().filter(|&&row| v.contains(row as usize)).count())
        };
        let frequency: usize = lists.iter().enumerate().map(seen).sum();
        if frequency == 0 {
            continue;
        }
        let weight = *repeated as f32 * idf(rows, frequency);
        for (((postings, visible), (rows, counts)), scores) in segments.iter().zip(lists).zip(&mut scores) {
            if scores.is_empty() && !rows.is_empty() {
                scores.resize(visible.len(), 0.0);
            }
            for (&row, &count) in rows.iter().zip(counts) {
                let row = row as usize;
                if let Some(score) = scores.get_mut(row).filter(|_| visible.contains(row)) {
                    *score += weight * saturation(count.into(), postings.length(row), average);
                }
            }
        }
    }
    scores
}

/// Inverse document frequency, never negative.
fn idf(rows: usize, frequency: usize) -> f32 {
    let (rows, frequency) = (rows as f64, frequency as f64);
    (1.0 + (rows - frequency + 0.5) / (frequency + 0.5)).ln() as f32
}

fn saturation(count: f32, length: u32, average: f32) -> f32 {
    count * (K1 + 1.0) / (count + K1 * (1.0 - B + B * length as f32 / average))
}

/// A hash of few instructions a byte, with a seed of its own, so that no text can be made to collide on purpose.
#[derive(Clone)]
struct Seeded(u64);

impl Seeded {
    fn new() -> Self {
        Self(std::collections::hash_map::RandomState::new().hash_one(0u8))
    }
}

impl BuildHasher for Seeded {
    type Hasher = Mix;

    fn build_hasher(&self) -> Mix {
        Mix { state: self.0, seed: self.0 | 1 }
    }
}

struct Mix {
    state: u64,
    seed: u64,
}

impl Mix {
    fn add(&mut self, word: u64) {
        let product = u128::from(self.state ^ word) * u128::from(self.seed ^ 0x9e37_79b9_7f4a_7c15);
        self.state = (product as u64) ^ (product >> 64) as u64;
    }
}

impl Hasher for Mix {
    fn write(&mut self, bytes: &[u8]) {
        let words = bytes.chunks_exact(8);
        let rest = words.remainder();
        for word in words {
            self.add(word.iter().fold(0, |w, b| w << 8 | u64::from(*b)));
        }
        self.add(rest.iter().fold(rest.len() as u64 + 1, |w, b| w << 8 | u64::from(*b)));
    }

    fn write_u8(&mut self, n: u8) {
        self.add(n.into());
    }

    fn finish(&self) -> u64 {
        self.state
    }
}

#[cfg(test)]
mod tests {
    use super::super::tokens::query_terms;
    use super::*;
    use proptest::prelude::*;

    const WORDS: [&str; 8] = ["lease", "fence", "store", "epoch", "delta", "row", "page", "query"];

    /// The formula as textbooks have it, word by word.
    fn direct(texts: &[String], visible: &[bool], query: &str) -> Vec<f64> {
        let words = |t: &str| t.split(' ').filter(|w| !w.is_empty()).map(str::to_owned).collect::<Vec<_>>();
        let shown: Vec<Vec<String>> = texts.iter().zip(visible).filter(|(_, v)| **v).map(|(t, _)| words(t)).collect();
        let n = shown.len() as f64;
        let average = (shown.iter().map(Vec::len).sum::<usize>() as f64 / n.max(1.0)).max(1.0);
        let score = |text: &String| {
            let text = words(text);
            let of = |term: &String| {
                let df = shown.iter().filter(|d| d.contains(term)).count() as f64;
                let tf = text.iter().filter(|w| *w == term).count() as f64;
                let idf = (1.0 + (n - df + 0.5) / (df + 0.5)).ln();
                idf * tf * 2.2 / (tf + 1.2 * (0.25 + 0.75 * text.len() as f64 / average))
            };
            words(query).iter().map(of).sum::<f64>()
        };
        texts.iter().zip(visible).map(|(t, v)| if *v { score(t) } else { 0.0 }).collect()
    }

    fn text() -> impl Strategy<Value = String> {
        proptest::collection::vec(proptest::sample::select(&WORDS[..]), 0..12).prop_map(|w| w.join(" "))
    }

    proptest! {
        /// Whatever the division into files, the scores are those of one big index of the visible rows.
        #[test]
        fn scores_are_the_formula_s(
            rows in proptest::collection::vec((text(), any::<bool>()), 1..30),
            cut in proptest::collection::vec(0..30usize, 0..4),
            query in text(),
        ) {
            let (texts, visible): (Vec<String>, Vec<bool>) = rows.into_iter().unzip();
            let mut cuts: Vec<usize> = cut.into_iter().map(|c| c.min(texts.len())).chain([0, texts.len()]).collect();
            cuts.sort_unstable();
            let parts: Vec<(Postings, Bits)> = cuts.windows(2).map(|w| {
                let mut bits = Bits::none(w[1] - w[0]);
                (w[0]..w[1]).filter(|&i| visible[i]).for_each(|i| bits.set_range(i - w[0]..i - w[0] + 1));
                (Postings::build(texts[w[0]..w[1]].iter(), Stemming::None), bits)
            }).collect();
            let length = parts.iter().map(|(p, b)| p.total_length(b)).sum();
            let segments: Vec<(&Postings, &Bits)> = parts.iter().map(|(p, b)| (p, b)).collect();
            let scores = scores(&segments, length, &query_terms(&query, Stemming::None));
            let flat: Vec<f32> = scores.iter().zip(&segments)
                .flat_map(|(s, (_, b))| if s.is_empty() { vec![0.0; b.len()] } else { s.clone() }).collect();
            for (ours, theirs) in flat.iter().zip(direct(&texts, &visible, &query)) {
                prop_assert!((f64::from(*ours) - theirs).abs() < 1e-4, "{ours} {theirs}");
            }
        }
    }

    #[test]
    fn hashes_spread() {
        let seeded = Seeded::new();
        let hashes: std::collections::HashSet<u64> =
            (0..100_000).map(|i| seeded.hash_one(format!("w{i}")) >> 32).collect();
        assert!(hashes.len() > 99_990, "{}", hashes.len());
    }
}
