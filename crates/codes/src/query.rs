//! Compares a query with codes. The comparison estimates the score of each row, and offers the row and its estimate
//! to a set of candidates.

use std::ops::Range;

use crate::candidates::Candidates;
use crate::codec::{Codec, GROUP};
use crate::error::CodesError;
use crate::kernel::Kernel;
use crate::layout::{BLOCK_ROWS, STEP_GROUPS};

/// Number of entries in the lookup table of a group. A group has four bits, and the table has one entry for each
/// value of these bits.
const ENTRIES: usize = 16;
/// Largest entry of a lookup table. The sum of four entries fits into a byte, so a kernel widens sums to 16 bits only
/// once per four lookups.
const MAX_ENTRY: usize = u8::MAX as usize / 4;
/// Number of groups in a quartet. The lookup tables of a quartet are stored together, in an order that [`Tables`]
/// describes. A kernel processes two quartets in one step.
const QUARTET: usize = 4;

/// Holds the lookup tables of a query, and the numbers that convert a sum to an estimate.
///
/// The table of a group has one entry for each value of the group. An entry is the amount that its value adds to a
/// row's sum. The estimate of a row is `factor · (sum · step + offset)`, where `factor` is part of the row's code.
/// Entries are small integers, so the sum over all groups fits into 16 bits.
pub(crate) struct Tables {
    /// Lookup tables of 16 bytes each. Every table is stored twice. For four groups a, b, c and d, the order of the
    /// tables is `a a c c b b d d`. The widest kernel requires this order, because it processes two slices of codes
    /// at once in a register of 64 bytes. The first slice holds a and b of 32 rows, and the second slice holds c and
    /// d. The low four bits of the bytes are therefore a and c, and the high four bits are b and d.
    pub entries: Vec<u8>,
    pub step: f32,
    pub offset: f32,
}

/// Compares one vector with codes. The codes must have been written by the same codec that created the query.
pub struct Query {
    pub(crate) tables: Tables,
    pub(crate) dimension: usize,
    kernel: Kernel,
    block_bytes: usize,
}

impl Query {
    pub(crate) fn new(codec: &Codec, rotated: &[f32]) -> Self {
        let tables = codec.kernel().tables(rotated, codec.groups());
        Self { tables, dimension: codec.dimension(), kernel: codec.kernel(), block_bytes: codec.block_bytes() }
    }

    /// Offers each row in `rows` to `candidates`, with an estimate of the dot product of the row and the query.
    ///
    /// `codes` begins with row 0, extends at least to `rows.end`, and was written by a
    /// [`BlockWriter`](crate::BlockWriter). Any alignment of `codes` works; a multiple of 64 bytes is fastest.
    /// `allowed` has one bit per row, beginning with the lowest bit of the first word. Rows beyond the end of
    /// `allowed` are not allowed; `None` allows all rows. Row `r` is offered as number `first + r`, so several files
    /// can share one set of candidates.
    ///
    /// To share the work between threads, split `rows` at multiples of [`BLOCK_ROWS`] and [merge](Candidates::merge)
    /// the candidates of the threads. Other split points give the same result but compute the split block twice.
    pub fn scan(
        &self,
        codes: &[u8],
        rows: Range<usize>,
        allowed: Option<&[u64]>,
        first: u32,
        candidates: &mut Candidates,
    ) -> Result<(), CodesError> {
        if rows.is_empty() {
            return Ok(());
        }
        let held = codes.len() / self.block_bytes * BLOCK_ROWS;
        // Rows are numbered in 32 bits.
        let numbered = (u32::MAX - first) as usize;
        if rows.end > held.min(numbered) {
            return Err(CodesError::Rows { end: rows.end, rows: held.min(numbered) });
        }
        let mut estimates = [0.0; BLOCK_ROWS];
        let start = rows.start / BLOCK_ROWS;
        let blocks = codes.chunks_exact(self.block_bytes).enumerate().take(rows.end.div_ceil(BLOCK_ROWS)).skip(start);
        for (number, block) in blocks {
            let row = number * BLOCK_ROWS;
            let mut wanted = allowed.map_or(u32::MAX, |words| word(words, number));
            if row < rows.start {
                wanted &= u32::MAX << (rows.start - row);
            }
            if row + BLOCK_ROWS > rows.end {
                wanted &= u32::MAX >> (row + BLOCK_ROWS - rows.end);
            }
            if wanted == 0 {
                continue;
            }
            let mut above = wanted & self.kernel.block(&self.tables, block, candidates.bar(), &mut estimates);
            while above != 0 {
                let lane = above.trailing_zeros();
                above &= above - 1;
                if let Some(&estimate) = estimates.get(lane as usize) {
                    candidates.offer(first + row as u32 + lane, estimate);
                }
            }
        }
        Ok(())
    }
}

/// Returns the bits of the rows of block number `block`. `words` is a bitmap with one bit for each row of all blocks.
#[inline(always)]
fn word(words: &[u64], block: usize) -> u32 {
    words.get(block / 2).map_or(0, |word| (word >> (block % 2 * BLOCK_ROWS)) as u32)
}

/// Builds the lookup tables of a query. Each kernel inlines this function and compiles its own copy.
///
/// Each coordinate of the query is rounded to a multiple of half of `step`. The absolute value of this multiple is the
/// coordinate's weight. A bit of a code adds the weight to the row's sum if the bit agrees with the coordinate's sign,
/// and adds nothing otherwise. The dot product of the code with the rounded query is therefore `step` times the
/// difference between the sum and half of the total weight. The rounding error is a twentieth of the code's own error.
#[inline(always)]
pub(crate) fn tables(rotated: &[f32], groups: usize) -> Tables {
    let reach = rotated.chunks(GROUP).fold(0.0, |most: f32, group| most.max(group.iter().map(|x| x.abs()).sum()));
    // Rounding may increase each of a group's weights by one half.
    let top = MAX_ENTRY.min(u16::MAX as usize / groups.max(1)) - GROUP / 2;
    let scale = if reach > 0.0 { top as f32 / reach } else { 0.0 };
    let step = if reach > 0.0 { 2.0 * reach / top as f32 } else { 0.0 };
    let mut weights = vec![[0; GROUP]; groups];
    let mut total = 0;
    for (weight, x) in weights.as_flattened_mut().iter_mut().zip(rotated) {
        *weight = (x.abs() * scale + 0.5) as i32 as u8;
        total += i32::from(*weight);
    }
    let mut entries = vec![0; groups * 2 * ENTRIES];
    let (quartets, _) = entries.as_chunks_mut::<{ 2 * QUARTET * ENTRIES }>();
    let mut signs = rotated.chunks(GROUP);
    for (quartet, weights) in quartets.iter_mut().zip(weights.as_chunks::<QUARTET>().0) {
        for (place, weights) in weights.iter().enumerate() {
            let mut table = [0; ENTRIES];
            let signs = signs.next().unwrap_or_default();
            for ((weight, x), agreeing) in weights.iter().zip(signs).zip(&AGREEING) {
                let flip = if *x < 0.0 { u8::MAX } else { 0 };
                for (entry, mask) in table.iter_mut().zip(agreeing) {
                    *entry += weight & (mask ^ flip);
                }
            }
            // The order of tables in a quartet: a a c c b b d d.
            let at = (place / 2 * 2 + place % 2 * 4) * ENTRIES;
            if let Some(twice) = quartet.get_mut(at..at + 2 * ENTRIES) {
                twice.copy_from_slice([table, table].as_flattened());
            }
        }
    }
    Tables { entries, step, offset: -0.5 * step * total as f32 }
}

/// Masks that select entries of a lookup table. There is one mask for each coordinate of a group, and a mask has one
/// byte for each entry. Entry number `n` belongs to the group value `n`. The byte is 255 if bit `c` of `n` is set,
/// where `c` is the mask's coordinate. Otherwise the byte is 0.
const AGREEING: [[u8; ENTRIES]; GROUP] = {
    let mut masks = [[0; ENTRIES]; GROUP];
    let mut at = 0;
    while at < GROUP * ENTRIES {
        let (coordinate, entry) = (at / ENTRIES, at % ENTRIES);
        if entry >> coordinate & 1 == 1 {
            masks[coordinate][entry] = u8::MAX;
        }
        at += 1;
    }
    masks
};

const _: () = assert!(STEP_GROUPS.is_multiple_of(QUARTET));
