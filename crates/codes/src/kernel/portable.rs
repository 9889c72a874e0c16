//! Implements the reference kernel with plain arithmetic, in the order of the memory layout.

use crate::codec;
use crate::layout::{BLOCK_ROWS, FACTOR_BYTES, SLICE_BYTES, position};
use crate::query::{self, Tables};
use crate::rotation::Rotation;

super::shared!();

pub(super) fn block(tables: &Tables, block: &[u8], bar: f32, out: &mut [f32; BLOCK_ROWS]) -> u32 {
    let (factors, codes) = block.split_at(FACTOR_BYTES.min(block.len()));
    let mut sums = [0u16; BLOCK_ROWS];
    // The first slice holds groups a and b, the second c and d; their tables are stored as a a c c b b d d.
    let quartets = tables.entries.as_chunks::<128>().0;
    for (slices, entries) in codes.as_chunks::<{ 2 * SLICE_BYTES }>().0.iter().zip(quartets) {
        let (tables, _) = entries.as_chunks::<16>();
        let (first, second) = slices.split_at(SLICE_BYTES);
        for ((sum, &first), &second) in sums.iter_mut().zip(first).zip(second) {
            let [a, c, b, d] = [tables[0], tables[2], tables[4], tables[6]];
            let front = u16::from(a[usize::from(first & 15)]) + u16::from(b[usize::from(first >> 4)]);
            let back = u16::from(c[usize::from(second & 15)]) + u16::from(d[usize::from(second >> 4)]);
            *sum = sum.wrapping_add(front + back);
        }
    }
    let mut above = 0;
    for (row, (out, factor)) in out.iter_mut().zip(factors.as_chunks::<4>().0).enumerate() {
        let sum = f32::from(sums[position(row)]);
        *out = f32::from_le_bytes(*factor) * (sum * tables.step + tables.offset);
        above |= u32::from(*out >= bar) << row;
    }
    above
}
