//! Combines the vector score and the BM25 score of a chunk. Each score is scaled to the range 0 to 1, and the
//! weighted mean of both is the combined score.
//!
//! Both scores are computed exactly for every candidate, even if only one of the two searches has found it.
//! Reciprocal rank fusion, the usual alternative, discards the scores. In a measurement, the results of reciprocal
//! rank fusion were worse than the results of BM25 alone.
//!
//! A chunk is part of a longer text, and its neighbours in the document indicate whether it is relevant. A share of
//! the neighbours' scores is therefore added to the chunk's own score. The first and the last chunk of a document
//! lack a neighbour. In place of a missing neighbour's score, half of the chunk's own score is used. This avoids a
//! preference for long or short documents.

use crate::options::Normalisation;

/// Holds the raw scores of one candidate.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Pair {
    /// Cosine similarity, -1 to 1.
    pub vector: f32,
    /// BM25 score, 0 or more.
    pub bm25: f32,
}

/// Scales the vector scores and the BM25 scores of one search's candidates, so that they can be combined.
pub struct Fusion {
    vector: Scale,
    bm25: Scale,
    weight: f32,
}

impl Fusion {
    /// Derives the scales from the candidates. `weight` is the share of the vector score.
    pub fn of(candidates: &[Pair], weight: f32, normalisation: Normalisation) -> Self {
        let floor = |lowest: f32, theoretical: f32| match normalisation {
            Normalisation::MinMax => lowest,
            Normalisation::TheoreticalMin => theoretical,
        };
        let (low, high) = bounds(candidates.iter().map(|p| p.vector));
        let vector = Scale { low: floor(low, -1.0), high };
        let (low, high) = bounds(candidates.iter().map(|p| p.bm25));
        let bm25 = Scale { low: floor(low, 0.0), high };
        Self { vector, bm25, weight }
    }

    /// Returns the scaled vector score and the scaled BM25 score of one candidate.
    pub fn scaled(&self, pair: Pair) -> Pair {
        Pair { vector: self.vector.of(pair.vector), bm25: self.bm25.of(pair.bm25) }
    }

    /// Returns the combined score of one candidate, from 0 to 1. The scores of its neighbours are not included.
    pub fn score(&self, pair: Pair) -> f32 {
        let scaled = self.scaled(pair);
        self.weight * scaled.vector + (1.0 - self.weight) * scaled.bm25
    }

    /// Returns the combined score of one candidate, from 0 to 1, including the scores of its neighbours. Each
    /// neighbour's score is multiplied by `context` before it is added.
    pub fn in_context(&self, pair: Pair, neighbours: [Option<Pair>; 2], context: f32) -> f32 {
        let own = self.score(pair);
        let beside: f32 = neighbours.into_iter().map(|n| n.map_or(own / 2.0, |n| self.score(n))).sum();
        (own + context * beside) / (1.0 + 2.0 * context)
    }
}

struct Scale {
    low: f32,
    high: f32,
}

impl Scale {
    /// Scales a score to the range 0 to 1. If all candidates have the same score, the result is 1 for a positive
    /// score and 0 otherwise. A neighbour that is not a candidate may have a score outside the scale; its result is
    /// limited to 0 or 1.
    fn of(&self, score: f32) -> f32 {
        let width = self.high - self.low;
        match width > f32::EPSILON {
            true => ((score - self.low) / width).clamp(0.0, 1.0),
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
            // No term matches: only the vectors decide.
            (vec![pair(0.2, 0.0), pair(0.6, 0.0)], 0.5, min_max, vec![0.0, 0.5]),
            (vec![pair(0.6, 3.0)], 0.5, min_max, vec![1.0]),
            (vec![pair(-0.6, 0.0)], 0.5, min_max, vec![0.0]),
            (vec![], 0.5, min_max, vec![]),
        ];
        for (candidates, weight, normalisation, expected) in table {
            let fusion = Fusion::of(&candidates, weight, normalisation);
            let scores: Vec<f32> = candidates.iter().map(|pair| fusion.score(*pair)).collect();
            assert_eq!(scores.len(), expected.len());
            for (score, expected) in scores.iter().zip(&expected) {
                assert!((score - expected).abs() < 1e-6, "{candidates:?} {weight}: {score} instead of {expected}");
            }
        }
    }

    #[test]
    fn neighbours_count_by_their_share() {
        let pair = |bm25| Pair { vector: 0.0, bm25 };
        let fusion = Fusion::of(&[pair(0.0), pair(4.0), pair(8.0)], 0.0, Normalisation::MinMax);
        let table = [
            (4.0, [None, None], 0.0, 0.5),
            // Half of its own score for each missing neighbour.
            (4.0, [None, None], 0.5, 0.5 * 1.5 / 2.0),
            (4.0, [Some(8.0), None], 0.5, (0.5 + 0.5 * (1.0 + 0.25)) / 2.0),
            (4.0, [Some(0.0), Some(8.0)], 0.25, (0.5 + 0.25) / 1.5),
            // A neighbour that is no candidate, and better than all candidates.
            (8.0, [Some(100.0), Some(8.0)], 1.0, 1.0),
        ];
        for (own, neighbours, context, expected) in table {
            let score = fusion.in_context(pair(own), neighbours.map(|n| n.map(pair)), context);
            assert!((score - expected).abs() < 1e-6, "{own} {neighbours:?} {context}: {score} instead of {expected}");
        }
    }
}
