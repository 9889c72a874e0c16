//! Merges the full-text indexes of the inputs, term by term, with the new row numbers.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::io::{self, Write};

use arrow_buffer::Buffer;
use docweir_core::cancel::Cancel;

use super::interrupted;
use super::{Input, Plan};
use crate::options::Stemming;
use crate::search::postings::{Postings, PostingsWriter};
use crate::snapshot::{SnapshotWriter, section};

/// Marks an input row that is not part of the merged file.
const GONE: u32 = u32::MAX;

/// Number of terms between two checks for cancellation, and between two writes to the file.
const POLL_INTERVAL: usize = 1_024;

pub(super) fn write_postings(
    inputs: &[Input],
    plan: &Plan,
    stemming: Stemming,
    out: &mut SnapshotWriter<'_>,
    cancelled: &Cancel,
) -> io::Result<()> {
    let indexes: Vec<&Postings> = inputs.iter().map(|i| i.segment.postings(stemming)).collect();
    let places = new_places(inputs, plan);

    let lengths = plan.winners.iter().flat_map(|winner| {
        let input = winner.input as usize;
        let rows = inputs.get(input).map(|i| i.segment.documents().rows(winner.document as usize)).unwrap_or_default();
        let index = indexes.get(input);
        rows.map(move |row| index.map_or(0, |index| index.length(row)))
    });
    out.u32s(section::ROW_LENGTHS, lengths)?;

    let mut writer = PostingsWriter::default();
    out.section(section::POSTING_LISTS, |w| {
        let mut next: BinaryHeap<Reverse<(&[u8], usize, usize)>> = BinaryHeap::with_capacity(indexes.len());
        let term = |input: usize, at: usize| {
            let index = indexes.get(input)?;
            (at < index.len()).then(|| Reverse((index.terms.raw(at), input, at)))
        };
        next.extend((0..indexes.len()).filter_map(|input| term(input, 0)));
        let (mut entries, mut lists) = (Vec::new(), Vec::new());
        let mut terms = 0;
        while let Some(Reverse((word, ..))) = next.peek().copied() {
            entries.clear();
            while let Some(Reverse((_, input, at))) = next.peek().copied().filter(|Reverse((w, ..))| *w == word) {
                next.pop();
                next.extend(term(input, at + 1));
                let (Some(index), Some(places)) = (indexes.get(input), places.get(input)) else { continue };
                let moved = |(row, count): (u32, u32)| {
                    let place = places.get(row as usize).copied().filter(|&p| p != GONE)?;
                    Some((place, u16::try_from(count).unwrap_or(u16::MAX)))
                };
                entries.extend(index.at(at).filter_map(moved));
            }
            if entries.is_empty() {
                continue;
            }
            entries.sort_unstable_by_key(|&(row, _)| row);
            writer.term(std::str::from_utf8(word).unwrap_or_default(), &entries, &mut lists);
            terms += 1;
            if terms % POLL_INTERVAL == 0 || lists.len() > 1 << 20 {
                if cancelled.is_cancelled() {
                    return Err(interrupted());
                }
                w.write_all(&lists)?;
                lists.clear();
            }
        }
        w.write_all(&lists)
    })?;
    let index = writer.finish(Buffer::from_vec(Vec::<u8>::new()), Vec::new().into());
    out.strings(section::TERMS, &index.terms)?;
    out.u64s(section::POSTING_STARTS, index.starts.iter().copied())?;
    out.u32s(section::POSTING_FREQUENCIES, index.frequencies.iter().copied())
}

/// Returns one table per input. The table gives the new row number of each row of the input.
fn new_places(inputs: &[Input], plan: &Plan) -> Vec<Vec<u32>> {
    let mut places: Vec<Vec<u32>> = inputs.iter().map(|i| vec![GONE; i.segment.len()]).collect();
    let mut next = 0;
    for winner in &plan.winners {
        let Some(input) = inputs.get(winner.input as usize) else { continue };
        for row in input.segment.documents().rows(winner.document as usize) {
            if let Some(place) = places.get_mut(winner.input as usize).and_then(|p| p.get_mut(row)) {
                *place = next;
            }
            next += 1;
        }
    }
    places
}
