//! Merges files into one snapshot. The snapshot holds the winning version of each document, in the order of ids.
//!
//! ```text
//! documents of all inputs, traversed in parallel ─▶ plan: which document of which input ─▶ copy column after column
//! ```
//! The plan takes eight bytes per document, and the table of new row numbers four bytes per row. All columns are
//! copied through buffers of a fixed size. Inputs are either memory-mapped snapshots or deltas that were decoded for
//! this merge. A merge needs no lock and can be abandoned at any time.

mod postings;
mod write;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::sync::Arc;

use docweir_core::documents::Version;

pub use write::{Merged, write};

use super::columns::number;
use super::manifest::ManifestVersion;
use super::segment::Segment;
use super::validate::Precedence;

/// Holds one input file of a merge.
#[derive(Clone)]
pub struct Input {
    pub segment: Arc<Segment>,
    /// Manifest version in which the file became live.
    pub added_version: ManifestVersion,
}

impl Input {
    /// Returns the manifest version in which the tombstone of a document became live. Merges keep this version. If the
    /// file does not record it, the tombstone counts as new as the file.
    fn tombstone_added(&self, document: usize) -> ManifestVersion {
        match number(&self.segment.documents().tombstones_added, document) {
            0 => self.added_version,
            added => added,
        }
    }

    /// Iterates over the versions in which the tombstones of the file became live.
    pub fn tombstones_added(&self) -> impl Iterator<Item = ManifestVersion> + '_ {
        let documents = self.segment.documents();
        (0..documents.len()).filter(|&at| documents.is_tombstone(at)).map(|at| self.tombstone_added(at))
    }
}

/// Describes the content of the merged file.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Documents of the merged file, in the order of ids.
    pub winners: Vec<Winner>,
    pub rows: u64,
    /// Number of documents, not counting tombstones.
    pub documents: u64,
    pub tombstones: u64,
    /// Number of dropped tombstones. A tombstone is dropped if no older version of its document exists and none can
    /// still be committed.
    pub dropped_tombstones: u64,
}

/// Identifies one document of the merged file. The document is identified by the number of the input file and by its
/// index within this input file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Winner {
    pub input: u32,
    /// Index of the document within its file.
    pub document: u32,
}

/// Chooses the winning version of each document. If the winning version is a tombstone, the plan drops the tombstone
/// if `may_drop` returns true. `may_drop` receives the manifest version in which the tombstone became live, the
/// document's id and the tombstone's version.
pub fn plan(inputs: &[Input], may_drop: impl Fn(ManifestVersion, &str, Version) -> bool) -> Plan {
    let mut plan = Plan::default();
    // The next document of each input, smallest id first.
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
            if rank.tombstone && may_drop(input.tombstone_added(winner.document as usize), id, rank.version) {
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
    /// Returns whether the merged file would contain no documents and no tombstones.
    pub fn is_empty(&self) -> bool {
        self.winners.is_empty()
    }

    /// Iterates over the winning documents in the order of their ids. Yields the segment of each document, and the
    /// document's index in this segment.
    fn each<'i>(&self, inputs: &'i [Input]) -> impl Iterator<Item = (&'i Segment, usize)> {
        let winners = self.winners.iter();
        winners.filter_map(|w| Some((&*inputs.get(w.input as usize)?.segment, w.document as usize)))
    }

    /// Iterates over the winning documents in the order of their ids. Yields the version in which the document's
    /// tombstone became live; 0 for documents that are no tombstones.
    fn tombstones_added(&self, inputs: &[Input]) -> impl Iterator<Item = ManifestVersion> {
        let winners = self.winners.iter().filter_map(|w| Some((inputs.get(w.input as usize)?, w.document as usize)));
        winners.map(|(input, document)| match input.segment.documents().is_tombstone(document) {
            true => input.tombstone_added(document),
            false => 0,
        })
    }

    /// Iterates over the row ranges of the winners, one range per document.
    fn stretches<'i>(&self, inputs: &'i [Input]) -> impl Iterator<Item = (&'i Segment, std::ops::Range<usize>)> {
        self.each(inputs).map(|(segment, document)| (segment, segment.documents().rows(document)))
    }
}

/// Returns the error of a merge that was cancelled.
fn interrupted() -> std::io::Error {
    std::io::Error::new(std::io::ErrorKind::Interrupted, "merge was cancelled")
}

#[cfg(test)]
#[path = "merge_tests.rs"]
mod tests;
