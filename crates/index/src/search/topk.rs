//! Collects the best k rows. Rows with equal scores are ordered by chunk id, so the result does not depend on the
//! order of rows, the number of files or the number of threads.

use std::cmp::Ordering;
use std::collections::BinaryHeap;

/// Holds a row and its score.
#[derive(Clone, Copy, Debug)]
pub struct Candidate<'a> {
    pub score: f32,
    pub id: &'a str,
    pub segment: usize,
    pub row: usize,
}

impl Candidate<'_> {
    /// Compares two candidates. `Less` means better, so that sorting puts the best candidate first.
    pub fn rank(&self, other: &Self) -> Ordering {
        let ties = || self.id.cmp(other.id).then((self.segment, self.row).cmp(&(other.segment, other.row)));
        other.score.total_cmp(&self.score).then_with(ties)
    }
}

impl PartialEq for Candidate<'_> {
    fn eq(&self, other: &Self) -> bool {
        self.rank(other) == Ordering::Equal
    }
}

impl Eq for Candidate<'_> {}

impl PartialOrd for Candidate<'_> {
    fn partial_cmp(&self, other: &Self) -> Option<Ordering> {
        Some(self.cmp(other))
    }
}

impl Ord for Candidate<'_> {
    fn cmp(&self, other: &Self) -> Ordering {
        self.rank(other)
    }
}

/// Keeps the best k of the offered candidates, in a heap with the worst candidate on top.
pub struct TopK<'a> {
    k: usize,
    /// Lowest score that a row needs to be among the best.
    bar: f32,
    heap: BinaryHeap<Candidate<'a>>,
}

impl<'a> TopK<'a> {
    pub fn new(k: usize) -> Self {
        Self { k, bar: f32::NEG_INFINITY, heap: BinaryHeap::with_capacity(k.min(4096) + 1) }
    }

    /// Adds a row if it is among the best so far. `id` returns the row's chunk id, and is called only if the score is
    /// high enough.
    pub fn offer(&mut self, score: f32, segment: usize, row: usize, id: impl FnOnce() -> &'a str) {
        if score < self.bar || self.k == 0 {
            return;
        }
        self.push(Candidate { score, id: id(), segment, row });
    }

    fn push(&mut self, candidate: Candidate<'a>) {
        if self.heap.len() == self.k {
            match self.heap.peek_mut() {
                Some(mut worst) if candidate.rank(&worst) == Ordering::Less => *worst = candidate,
                _ => return,
            }
        } else {
            self.heap.push(candidate);
        }
        if self.heap.len() == self.k {
            self.bar = self.heap.peek().map_or(f32::NEG_INFINITY, |worst| worst.score);
        }
    }

    pub fn merge(&mut self, other: Self) {
        other.heap.into_iter().for_each(|c| {
            if self.k > 0 {
                self.push(c)
            }
        });
    }

    /// Returns the candidates, best first.
    pub fn into_sorted(self) -> Vec<Candidate<'a>> {
        self.heap.into_sorted_vec()
    }
}
