//! Scores rows by BM25, using the postings of all files.
//!
//! Each query sums document frequencies and lengths over the *visible* rows of all files. The score of a row
//! therefore depends neither on the row's file nor on superseded rows in the same file.

use super::bits::Bits;
use super::postings::Postings;

const K1: f32 = 1.2;
const B: f32 = 0.75;

/// Returns one list of scores per segment. The list has one score for each row of the segment, or is empty if no term
/// of the query occurs in the segment. A score of 0 means that the row does not match.
///
/// `segments` holds the postings and the visible rows of each segment. `length` is the total length of all visible
/// rows, in terms.
pub fn scores(segments: &[(&Postings, &Bits)], length: u64, terms: &[(String, u32)]) -> Vec<Vec<f32>> {
    let rows: usize = segments.iter().map(|(_, visible)| visible.count()).sum();
    let average = (length as f64 / rows.max(1) as f64).max(1.0) as f32;
    let mut scores: Vec<Vec<f32>> = vec![Vec::new(); segments.len()];
    // Visible rows that contain the current term, in each segment.
    let mut found: Vec<Vec<(u32, u32)>> = vec![Vec::new(); segments.len()];
    for (term, repeated) in terms {
        for (entries, (postings, visible)) in found.iter_mut().zip(segments) {
            entries.clear();
            entries.extend(postings.of(term).filter(|(row, _)| visible.contains(*row as usize)));
        }
        let frequency: usize = found.iter().map(Vec::len).sum();
        if frequency == 0 {
            continue;
        }
        let weight = *repeated as f32 * idf(rows, frequency);
        for (((postings, visible), entries), scores) in segments.iter().zip(&found).zip(&mut scores) {
            if scores.is_empty() && !entries.is_empty() {
                scores.resize(visible.len(), 0.0);
            }
            for &(row, count) in entries {
                if let Some(score) = scores.get_mut(row as usize) {
                    *score += weight * saturation(count as f32, postings.length(row as usize), average);
                }
            }
        }
    }
    scores
}

/// Returns the inverse document frequency, which is never negative.
fn idf(rows: usize, frequency: usize) -> f32 {
    let (rows, frequency) = (rows as f64, frequency as f64);
    (1.0 + (rows - frequency + 0.5) / (frequency + 0.5)).ln() as f32
}

fn saturation(count: f32, length: u32, average: f32) -> f32 {
    count * (K1 + 1.0) / (count + K1 * (1.0 - B + B * length as f32 / average))
}

#[cfg(test)]
mod tests {
    use super::super::tokens::query_terms;
    use super::*;
    use crate::options::Stemming;
    use proptest::prelude::*;

    const WORDS: [&str; 8] = ["lease", "fence", "store", "epoch", "delta", "row", "page", "query"];

    /// Computes the BM25 score of each text by the textbook formula, word by word. The tests compare the index with
    /// these scores.
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
        /// Splits the same rows into files in several ways. Checks that the scores always equal those of a single
        /// index over all visible rows.
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
}
