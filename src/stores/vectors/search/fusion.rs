//! One score out of two: the weighted mean of vector and BM25 score, each brought to the scale 0 to 1 first.
//!
//! Both scores are known exactly for every candidate of either side, so nothing is imputed: a passage that one side
//! did not list is judged by its real score there. Reciprocal rank fusion, the usual alternative, throws the scores
//! away and measured worse than BM25 alone.

use crate::stores::vectors::options::Normalisation;

/// The raw scores of one candidate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// Cosine, -1 to 1.
    pub vector: f32,
    /// 0 or more.
    pub bm25: f32,
}

/// A score of 0 to 1 for each candidate; `weight` is the vector's share.
pub fn fuse(candidates: &[Pair], weight: f32, normalisation: Normalisation) -> Vec<f32> {
    let floor = |lowest: f32, theoretical: f32| match normalisation {
        Normalisation::MinMax => lowest,
        Normalisation::TheoreticalMin => theoretical,
    };
    let (low, high) = bounds(candidates.iter().map(|p| p.vector));
    let vector = Scale { low: floor(low, -1.0), high };
    let (low, high) = bounds(candidates.iter().map(|p| p.bm25));
    let bm25 = Scale { low: floor(low, 0.0), high };
    candidates.iter().map(|p| weight * vector.of(p.vector) + (1.0 - weight) * bm25.of(p.bm25)).collect()
}

struct Scale {
    low: f32,
    high: f32,
}

impl Scale {
    /// Where all are equal the score tells nothing, and all get the same: 1 if it is one at all.
    fn of(&self, score: f32) -> f32 {
        let width = self.high - self.low;
        match width > f32::EPSILON {
            true => (score - self.low) / width,
            false if self.high > 0.0 => 1.0,
            false => 0.0,
        }
    }
}

fn bounds(scores: impl Iterator<Item = f32>) -> (f32, f32) {
    scores.fold((f32::INFINITY, f32::NEG_INFINITY), |(low, high), s| (low.min(s), high.max(s)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let pair = |vector, bm25| Pair { vector, bm25 };
        let three = [pair(0.2, 10.0), pair(0.6, 0.0), pair(0.4, 5.0)];
        let min_max = Normalisation::MinMax;
        let table: Vec<(Vec<Pair>, f32, Normalisation, Vec<f32>)> = vec![
            (three.to_vec(), 0.5, min_max, vec![0.5, 0.5, 0.5]),
            (three.to_vec(), 1.0, min_max, vec![0.0, 1.0, 0.5]),
            (three.to_vec(), 0.0, min_max, vec![1.0, 0.0, 0.5]),
            (three.to_vec(), 0.25, min_max, vec![0.75, 0.25, 0.5]),
            (three.to_vec(), 1.0, Normalisation::TheoreticalMin, vec![0.75, 1.0, 0.875]),
            (three[..2].to_vec(), 0.0, Normalisation::TheoreticalMin, vec![1.0, 0.0]),
            // No term matches: the vectors decide alone.
            (vec![pair(0.2, 0.0), pair(0.6, 0.0)], 0.5, min_max, vec![0.0, 0.5]),
            (vec![pair(0.6, 3.0)], 0.5, min_max, vec![1.0]),
            (vec![pair(-0.6, 0.0)], 0.5, min_max, vec![0.0]),
            (vec![], 0.5, min_max, vec![]),
        ];
        for (candidates, weight, normalisation, expected) in table {
            let scores = fuse(&candidates, weight, normalisation);
            assert_eq!(scores.len(), expected.len());
            for (score, expected) in scores.iter().zip(&expected) {
                assert!((score - expected).abs() < 1e-6, "{candidates:?} {weight}: {score} instead of {expected}");
            }
        }
    }
}
