//! Merging files: of each document the version that wins, in the order of ids, written as one snapshot.
//!
//! ```text
//! documents of all inputs, walked side by side ─▶ plan: which document of which input ─▶ column after column is copied
//! ```
//! The plan takes eight bytes a document and a place of four bytes a row; everything else is copied through buffers of a
//! fixed size from inputs that are mapped, or were opened for the purpose. A merge needs no lock and can be thrown away at
//! any time.

mod postings;
mod write;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use docweir_core::documents::Version;

pub use write::{Merged, write};

use super::manifest::ManifestVersion;
use super::segment::Segment;
use super::validate::Precedence;

/// One file of a merge.
#[derive(Clone)]
pub struct Input {
    pub segment: Arc<Segment>,
    /// The manifest version that it came in with.
    pub added_version: ManifestVersion,
}

/// What the merged file will hold.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// In the order of ids.
    pub winners: Vec<Winner>,
    pub rows: u64,
    /// Tombstones not counted.
    pub documents: u64,
    pub tombstones: u64,
    /// Tombstones that nothing needs any more.
    pub dropped_tombstones: u64,
}

/// A document of an input.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Winner {
    pub input: u32,
    /// Its place among the documents of its file.
    pub document: u32,
}

/// Chooses of each document the version that wins. `may_drop` is asked about tombstones that win: the input, the
/// document's id and the tombstone's version.
pub fn plan(inputs: &[Input], may_drop: impl Fn(&Input, &str, Version) -> bool) -> Plan {
    let mut plan = Plan::default();
    // The next document of each input; the smallest id on top.
    let mut next: BinaryHeap<Reverse<(&str, usize, usize)>> = BinaryHeap::with_capacity(inputs.len());
    let document = |input: usize, n: usize| {
        let documents = inputs.get(input)?.segment.documents();
        (n < documents.len()).then(|| Reverse((documents.id(documents.in_order(n)), input, n)))
    };
    next.extend((0..inputs.len()).filter_map(|input| document(input, 0)));
    while let Some(Reverse((id, ..))) = next.peek() {
        let id = *id;
        let mut best: Option<(Precedence<'_>, Winner)> = None;
        while let Some(Reverse((same, input, n))) = next.peek().copied().filter(|Reverse((next, ..))| *next == id) {
            debug_assert_eq!(same, id);
            next.pop();
            next.extend(document(input, n + 1));
            let Some(segment) = inputs.get(input).map(|i| &i.segment) else { continue };
            let place = segment.documents().in_order(n);
            let rank = Precedence {
                version: segment.documents().version(place),
                tombstone: segment.documents().is_tombstone(place),
                file: segment.file(),
            };
            if best.as_ref().is_none_or(|(held, _)| rank > *held) {
                best = Some((rank, Winner { input: input as u32, document: place as u32 }));
            }
        }
        if let Some((rank, winner)) = best
            && let Some(input) = inputs.get(winner.input as usize)
        {
            if rank.tombstone && may_drop(input, id, rank.version) {
                plan.dropped_tombstones += 1;
                continue;
            }
            plan.tombstones += u64::from(rank.tombstone);
            plan.documents += u64::from(!rank.tombstone);
            plan.rows += input.segment.documents().rows(winner.document as usize).len() as u64;
            plan.winners.push(winner);
        }
    }
    plan
}

impl Plan {
    /// Nothing is left of the inputs.
    pub fn is_empty(&self) -> bool {
        self.winners.is_empty()
    }

    /// The winners with their segments, in order.
    fn each<'i>(&self, inputs: &'i [Input]) -> impl Iterator<Item = (&'i Segment, usize)> {
        let winners = self.winners.iter();
        winners.filter_map(|w| Some((&*inputs.get(w.input as usize)?.segment, w.document as usize)))
    }

    /// The rows of the winners, a stretch a document.
    fn stretches<'i>(&self, inputs: &'i [Input]) -> impl Iterator<Item = (&'i Segment, std::ops::Range<usize>)> {
        self.each(inputs).map(|(segment, document)| (segment, segment.documents().rows(document)))
    }
}

/// Returns the error of a merge that was ended from outside.
fn interrupted() -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::Interrupted, "the merge is no longer wanted")
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
