//! Searches vectors by a flat scan. The scan either reads all vectors, or first reads all codes and then reads only
//! the vectors of the nearest rows.

use docweir_codes::{BLOCK_ROWS, Candidates};

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
/// the query. `segments` holds each segment with its allowed rows.
///
/// If `exact` is true or few rows are allowed, all allowed rows are scored. Otherwise the codes first select the rows
/// to score. If `threads` is above 1, the rows are divided evenly between threads, which does not change the result.
pub fn search<'a>(
    segments: &[(&'a Segment, Bits)],
    query: &[f32],
    k: usize,
    threads: usize,
    exact: bool,
) -> Vec<Candidate<'a>> {
    let allowed: usize = segments.iter().map(|(_, rows)| rows.count()).sum();
    if !exact
        && allowed > EXACT_ROWS
        && let Some(best) = by_codes(segments, query, k, allowed, threads)
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

fn by_codes<'a>(
    segments: &[(&'a Segment, Bits)],
    query: &[f32],
    k: usize,
    allowed: usize,
    threads: usize,
) -> Option<Vec<Candidate<'a>>> {
    let codec = codes::codec(query.len()).ok()?;
    let coded = codec.query(query).ok()?;
    let depth = codec.candidates(k, allowed);
    // Rows are numbered across all segments.
    let mut firsts = Vec::with_capacity(segments.len());
    let mut next = 0u32;
    for (segment, _) in segments {
        firsts.push(next);
        next = next.checked_add(u32::try_from(segment.len()).ok()?)?;
    }
    let part = |share: &Share| {
        let mut found = Candidates::new(depth);
        for (number, rows) in share.clone() {
            let Some(((segment, allowed), first)) = segments.get(number).zip(firsts.get(number)) else { continue };
            if segment.dimension() == query.len() {
                // Rows whose codes are missing in a damaged file are not found.
                let _ = coded.scan(segment.codes(&codec), rows, Some(allowed.words()), *first, &mut found);
            }
        }
        found
    };
    let threads = threads.min(rows(segments) / CODES_A_THREAD + 1);
    let mut parts = divided(segments, threads, part).into_iter();
    let mut found = parts.next()?;
    parts.for_each(|part| found.merge(&part));
    let place = |row: u32| {
        let number = firsts.partition_point(|&first| first <= row).checked_sub(1)?;
        Some((number, segments.get(number)?.0, (row - firsts.get(number)?) as usize))
    };
    let score = |row| place(row).map_or(f32::NEG_INFINITY, |(_, segment, row)| dot(segment.vector(row), query));
    let mut best = TopK::new(k);
    for near in coded.nearest(k, found, score) {
        let (number, segment, row) = place(near.row)?;
        best.offer(near.score, number, row, || segment.chunk_id(row));
    }
    Some(best.into_sorted())
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
