//! Exact vector search: the dot product with every row that counts.

use super::bits::Bits;
use super::topk::{Candidate, TopK};
use crate::stores::vectors::segment::Segment;

/// Below so many rows a thread costs more than it saves.
const ROWS_A_THREAD: usize = 8_192;

/// Sixteen sums side by side: the compiler makes them vector registers, and the order of additions (so the result, to
/// the last bit) is the same on every machine.
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

/// The best `k` of the rows in `allowed` (one set a segment), best first. `threads` above 1 divides the rows evenly;
/// the answer does not depend on it.
pub fn search<'a>(segments: &[(&'a Segment, Bits)], query: &[f32], k: usize, threads: usize) -> Vec<Candidate<'a>> {
    let rows: usize = segments.iter().map(|(s, _)| s.len()).sum();
    let threads = threads.clamp(1, rows / ROWS_A_THREAD + 1);
    if threads == 1 {
        let mut best = TopK::new(k);
        for (i, (segment, allowed)) in segments.iter().enumerate() {
            scan(segment, i, allowed, 0..segment.len(), query, &mut best);
        }
        return best.into_sorted();
    }
    let share = rows.div_ceil(threads);
    let mut parts: Vec<TopK<'a>> = Vec::new();
    std::thread::scope(|scope| {
        let part = |number: usize| {
            move || {
                let mut best = TopK::new(k);
                let (from, to) = (number * share, (number + 1) * share);
                let mut first = 0;
                for (i, (segment, allowed)) in segments.iter().enumerate() {
                    let end = first + segment.len();
                    let range = from.clamp(first, end) - first..to.clamp(first, end) - first;
                    scan(segment, i, allowed, range, query, &mut best);
                    first = end;
                }
                best
            }
        };
        let others: Vec<_> = (1..threads).map(|number| scope.spawn(part(number))).collect();
        parts.push(part(0)());
        // A scan has nothing to panic about; were it to, the panic is the caller's.
        parts.extend(others.into_iter().map(|t| t.join().unwrap_or_else(|p| std::panic::resume_unwind(p))));
    });
    let mut best = TopK::new(k);
    parts.into_iter().for_each(|part| best.merge(part));
    best.into_sorted()
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
