//! Searches vectors by a flat scan. The scan either reads all vectors, or first reads all codes and then reads only
//! the vectors of the nearest rows.

use std::sync::Arc;

use docweir_codes::{BLOCK_ROWS, Candidates, Codec, Nearest, Query};

use super::bits::Bits;
use super::codes;
use super::topk::{Candidate, TopK};
use crate::segment::Segment;

/// Minimum number of vectors that a thread compares. With fewer, a thread costs more than it saves.
const VECTORS_A_THREAD: usize = 8_192;
/// Minimum number of codes that a thread scans. With fewer, a thread costs more than it saves.
const CODES_A_THREAD: usize = 262_144;

/// Returns the dot product of two vectors. Sixteen parallel sums let the compiler use vector registers, and fix the
/// order of additions. The result is therefore the same on every machine, to the last bit.
pub fn dot(a: &[f32], b: &[f32]) -> f32 {
    let mut sums = [0.0f32; 16];
    let ((left, left_rest), (right, right_rest)) = (a.as_chunks::<16>(), b.as_chunks::<16>());
    for (x, y) in left.iter().zip(right) {
        for i in 0..16 {
            sums[i] += x[i] * y[i];
        }
    }
    let rest: f32 = left_rest.iter().zip(right_rest).map(|(x, y)| x * y).sum();
    sums.iter().sum::<f32>() + rest
}

/// Returns the `k` best of the allowed rows, best first. Rows are ranked by the exact dot product of their vector and
/// the query. `segments` holds each segment with its allowed rows. Of the `certain` best rows, none is missing; further
/// rows are the best that the first scan finds.
///
/// If `exact` is true or few rows are allowed, all allowed rows are scored. Otherwise the codes first select the rows
/// to score. If `threads` is above 1, the rows are divided evenly between threads, which does not change the result.
pub fn search<'a>(
    segments: &[(&'a Segment, Bits)],
    query: &[f32],
    k: usize,
    certain: usize,
    threads: usize,
    exact: bool,
) -> Vec<Candidate<'a>> {
    let allowed: usize = segments.iter().map(|(_, rows)| rows.count()).sum();
    if !exact
        && allowed > EXACT_ROWS
        && let Some(best) = by_codes(segments, query, k, certain, allowed, threads)
    {
        return best;
    }
    let part = |share: &Share| {
        let mut best = TopK::new(k);
        for (number, rows) in share.clone() {
            if let Some((segment, allowed)) = segments.get(number) {
                scan(segment, number, allowed, rows, query, &mut best);
            }
        }
        best
    };
    let mut best = TopK::new(k);
    divided(segments, threads.min(rows(segments) / VECTORS_A_THREAD + 1), part)
        .into_iter()
        .for_each(|part| best.merge(part));
    best.into_sorted()
}

/// Maximum number of allowed rows for which all rows are scored exactly. For so few rows, exact scores cost hardly
/// more than a scan of the codes.
const EXACT_ROWS: usize = 512;

/// Share of the allowed rows that a second scan may score exactly, as a divisor. If more rows are near, all vectors are
/// read in order, which takes less time than to read as many scattered vectors.
const SECOND_SCAN_SHARE: usize = 4;
/// Maximum number of rows that a second scan keeps. It takes 16 bytes of memory for each row.
const SECOND_SCAN_ROWS: usize = 1 << 20;

/// Searches by codes. Returns `None` if an exact scan is necessary or faster.
///
/// A first scan keeps the candidates that suffice for most embeddings. Where they do not suffice, a second scan keeps
/// all rows that may be among the nearest.
fn by_codes<'a>(
    segments: &[(&'a Segment, Bits)],
    query: &[f32],
    k: usize,
    certain: usize,
    allowed: usize,
    threads: usize,
) -> Option<Vec<Candidate<'a>>> {
    let coded = Coded::new(segments, query, threads)?;
    let mut found = coded.nearest(k, certain, Candidates::new(coded.codec.candidates(k, allowed)))?;
    if let Some(missing) = found.missing_from {
        let limit = (allowed / SECOND_SCAN_SHARE).min(SECOND_SCAN_ROWS);
        found = coded.nearest(k, certain, Candidates::from(missing, limit))?;
        let is_met = found.missing_from.is_none();
        let outcome = if is_met { "second_scan" } else { "all_vectors" };
        metrics::counter!("docweir_search_rescans_total", "outcome" => outcome).increment(1);
        if !is_met {
            return None;
        }
    }
    let mut best = TopK::new(k);
    for near in found.neighbours {
        let (number, segment, row) = coded.place(near.row)?;
        best.offer(near.score, number, row, || segment.chunk_id(row));
    }
    Some(best.into_sorted())
}

/// Holds a query in coded form, and the segments whose codes it is compared with. Rows are numbered across all
/// segments.
struct Coded<'s, 'a> {
    segments: &'s [(&'a Segment, Bits)],
    /// Number of the first row of each segment.
    firsts: Vec<u32>,
    query: &'s [f32],
    codec: Arc<Codec>,
    coded: Query,
    threads: usize,
}

impl<'s, 'a> Coded<'s, 'a> {
    fn new(segments: &'s [(&'a Segment, Bits)], query: &'s [f32], threads: usize) -> Option<Self> {
        let codec = codes::codec(query.len()).ok()?;
        let coded = codec.query(query).ok()?;
        let mut firsts = Vec::with_capacity(segments.len());
        let mut next = 0u32;
        for (segment, _) in segments {
            firsts.push(next);
            next = next.checked_add(u32::try_from(segment.len()).ok()?)?;
        }
        let threads = threads.min(rows(segments) / CODES_A_THREAD + 1);
        Some(Self { segments, firsts, query, codec, coded, threads })
    }

    /// Scans all codes and scores the candidates exactly. `empty` is an empty set with the limits of the scan.
    fn nearest(&self, k: usize, certain: usize, empty: Candidates) -> Option<Nearest> {
        let part = |share: &Share| {
            let mut found = empty.clone();
            for (number, rows) in share.clone() {
                let Some(((segment, allowed), first)) = self.segments.get(number).zip(self.firsts.get(number)) else {
                    continue;
                };
                if segment.dimension() == self.query.len() {
                    // Rows whose codes are missing in a damaged file are not found.
                    let codes = segment.codes(&self.codec);
                    let _ = self.coded.scan(codes, rows, Some(allowed.words()), *first, &mut found);
                }
            }
            found
        };
        let mut parts = divided(self.segments, self.threads, part).into_iter();
        let mut found = parts.next()?;
        parts.for_each(|part| found.merge(&part));
        let score =
            |row| self.place(row).map_or(f32::NEG_INFINITY, |(_, segment, row)| dot(segment.vector(row), self.query));
        Some(self.coded.nearest(k, certain, found, score))
    }

    /// Returns the segment of a row, with the segment's index and the row's index in the segment.
    fn place(&self, row: u32) -> Option<(usize, &'a Segment, usize)> {
        let number = self.firsts.partition_point(|&first| first <= row).checked_sub(1)?;
        Some((number, self.segments.get(number)?.0, (row - self.firsts.get(number)?) as usize))
    }
}

fn rows(segments: &[(&Segment, Bits)]) -> usize {
    segments.iter().map(|(s, _)| s.len()).sum()
}

/// Holds the work of one thread. Each entry is the index of a segment and a range of rows in this segment.
type Share = Vec<(usize, std::ops::Range<usize>)>;

/// Divides the rows into one share per thread, and calls `part` on each share in a thread of its own.
fn divided<T: Send>(segments: &[(&Segment, Bits)], threads: usize, part: impl Fn(&Share) -> T + Sync) -> Vec<T> {
    let threads = threads.max(1);
    // Shares end at a multiple of a block of codes.
    let share = rows(segments).div_ceil(threads).next_multiple_of(BLOCK_ROWS).max(BLOCK_ROWS);
    let mut shares: Vec<Share> = vec![Vec::new(); threads];
    let (mut thread, mut room) = (0, share);
    for (number, (segment, _)) in segments.iter().enumerate() {
        let mut from = 0;
        while from < segment.len() {
            let to = segment.len().min(from + room);
            if let Some(share) = shares.get_mut(thread) {
                share.push((number, from..to));
            }
            room -= to - from;
            from = to;
            if room == 0 {
                (thread, room) = ((thread + 1).min(threads - 1), share);
            }
        }
    }
    let [first, others @ ..] = shares.as_slice() else { return Vec::new() };
    std::thread::scope(|scope| {
        let part = &part;
        let others: Vec<_> = others.iter().map(|share| scope.spawn(move || part(share))).collect();
        let mut parts = vec![part(first)];
        // A scan does not panic. If it does, the panic continues in the calling thread.
        parts.extend(others.into_iter().map(|t| t.join().unwrap_or_else(|p| std::panic::resume_unwind(p))));
        parts
    })
}

fn scan<'a>(
    segment: &'a Segment,
    index: usize,
    allowed: &Bits,
    range: std::ops::Range<usize>,
    query: &[f32],
    best: &mut TopK<'a>,
) {
    let dimension = segment.dimension();
    if dimension == 0 || dimension != query.len() {
        return;
    }
    let vectors = segment.vectors();
    for run in allowed.runs(range) {
        let rows = vectors.get(run.start * dimension..run.end * dimension).unwrap_or_default();
        for (row, vector) in run.zip(rows.chunks_exact(dimension)) {
            best.offer(dot(vector, query), index, row, || segment.chunk_id(row));
        }
    }
}
