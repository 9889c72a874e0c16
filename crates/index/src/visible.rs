//! Determines the visible documents and rows of each file. Only the winning version of a document is visible.
//!
//! The documents of all deltas are collected in one table, which keeps the winning version of each document. These
//! documents are then looked up in each snapshot. Snapshots are compared in pairs, by looking up the documents of the
//! smaller snapshot in the larger snapshot. The cost of a view therefore grows with the amount of unmerged data, not
//! with the size of the collection.

use std::collections::HashMap;
use std::sync::Arc;

use super::manifest::FileKind;
use super::search::bits::Bits;
use super::segment::Segment;
use super::validate::Precedence;

/// Holds a file and the bitmaps of its visible content.
pub struct Visible {
    pub segment: Arc<Segment>,
    /// Rows of winning documents.
    pub rows: Bits,
    /// Winning documents, including tombstones.
    pub documents: Bits,
}

impl Visible {
    fn all(segment: Arc<Segment>) -> Self {
        let (rows, documents) = (Bits::all(segment.len()), Bits::all(segment.documents().len()));
        Self { segment, rows, documents }
    }

    fn hide(&mut self, document: usize) {
        self.documents.clear_range(document..document + 1);
        self.rows.clear_range(self.segment.documents().rows(document));
    }
}

/// Returns the precedence of a document in a file.
pub fn precedence(segment: &Segment, document: usize) -> Precedence<'_> {
    let documents = segment.documents();
    let (version, tombstone) = (documents.version(document), documents.is_tombstone(document));
    Precedence { version, tombstone, file: segment.file() }
}

/// Determines the visible content of all files of a manifest version.
pub fn visible(segments: Vec<Arc<Segment>>) -> Vec<Visible> {
    let mut all: Vec<Visible> = segments.iter().cloned().map(Visible::all).collect();
    let (small, mut large): (Vec<usize>, Vec<usize>) =
        (0..segments.len()).partition(|&i| segments.get(i).is_some_and(|s| s.kind() == FileKind::Delta));
    large.sort_by_key(|&i| segments.get(i).map_or(0, |s| s.documents().len()));

    // Winner of each document among the small files.
    let mut winners: HashMap<&str, (usize, usize)> = HashMap::new();
    for &i in &small {
        let Some(segment) = segments.get(i) else { continue };
        for document in 0..segment.documents().len() {
            let id = segment.documents().id(document);
            let Some(&(held, place)) = winners.get(id) else {
                winners.insert(id, (i, document));
                continue;
            };
            if pick_winner(&segments, &mut all, (held, place), (i, document)) == (i, document) {
                winners.insert(id, (i, document));
            }
        }
    }
    for (id, small) in winners {
        let mut held = small;
        for &i in &large {
            if let Some(document) = segments.get(i).and_then(|s| s.documents().find(id)) {
                held = pick_winner(&segments, &mut all, held, (i, document));
            }
        }
    }
    for (n, &i) in large.iter().enumerate() {
        let Some(smaller) = segments.get(i) else { continue };
        for &j in large.get(n + 1..).unwrap_or_default() {
            let Some(larger) = segments.get(j) else { continue };
            for (one, other) in shared(smaller, larger) {
                pick_winner(&segments, &mut all, (i, one), (j, other));
            }
        }
    }
    all
}

/// Returns the documents that occur in both files, each as a pair of indexes. If one file is much smaller, its
/// documents are looked up in the larger file. Otherwise both lists of documents are traversed in parallel.
fn shared(smaller: &Segment, larger: &Segment) -> Vec<(usize, usize)> {
    const MUCH: usize = 16;
    let (one, other) = (smaller.documents(), larger.documents());
    if one.len().saturating_mul(MUCH) < other.len() {
        return (0..one.len()).filter_map(|at| Some((at, other.find(one.id(at))?))).collect();
    }
    let (mut places, mut n, mut m) = (Vec::new(), 0, 0);
    while n < one.len() && m < other.len() {
        let (at, place) = (one.in_order(n), other.in_order(m));
        match one.id(at).cmp(other.id(place)) {
            std::cmp::Ordering::Less => n += 1,
            std::cmp::Ordering::Greater => m += 1,
            std::cmp::Ordering::Equal => {
                places.push((at, place));
                (n, m) = (n + 1, m + 1);
            }
        }
    }
    places
}

/// Compares two versions of a document, hides the losing version and returns the winning one.
fn pick_winner(
    segments: &[Arc<Segment>],
    all: &mut [Visible],
    one: (usize, usize),
    other: (usize, usize),
) -> (usize, usize) {
    let rank = |(file, document): (usize, usize)| segments.get(file).map(|s| precedence(s, document));
    let (winner, loser) = if rank(one) >= rank(other) { (one, other) } else { (other, one) };
    if let Some(file) = all.get_mut(loser.0) {
        file.hide(loser.1);
    }
    winner
}
