//! Defines the position of a row's code among the bytes of a block.
//!
//! A block holds [`BLOCK_ROWS`] = 32 rows. A block begins with the 32 factors of its rows, as little-endian f32 (128
//! bytes). The codes follow in slices of 32 bytes, one byte per row. In the bytes of slice `s`, the low four bits
//! hold group `2s` of each row, and the high four bits hold group `2s + 1`. Inside a slice, row `r` is at byte `2r`
//! for the first sixteen rows and at `2(r - 16) + 1` for the others. If a kernel reads a slice as 16-bit numbers, the
//! even bytes are the first sixteen rows in order, and the odd bytes are the other sixteen. A kernel therefore needs
//! no shuffle to undo the layout.
//!
//! The number of groups is rounded up to a multiple of eight, so the size of a block is a multiple of 128 bytes.
//! Padding is zero and does not change a sum, because the tables of padding groups are zero too.

use std::ops::Range;

/// Number of rows in a block.
pub const BLOCK_ROWS: usize = 32;
/// Size in bytes of the factors at the beginning of a block.
pub(crate) const FACTOR_BYTES: usize = BLOCK_ROWS * size_of::<f32>();
/// Number of groups per row that a kernel processes in one step. One step covers all 32 rows of a block, and therefore
/// reads 128 bytes of codes.
pub(crate) const STEP_GROUPS: usize = 8;
/// Size in bytes of a slice, which holds two groups of each row of a block.
pub(crate) const SLICE_BYTES: usize = BLOCK_ROWS;

/// Returns the size in bytes of a block with `groups` groups per row (a multiple of [`STEP_GROUPS`]).
pub(crate) fn block_bytes(groups: usize) -> usize {
    FACTOR_BYTES + groups / 2 * SLICE_BYTES
}

/// Returns the index of a row's byte in each slice. `row` is the row's number within its block.
#[inline(always)]
pub(crate) fn position(row: usize) -> usize {
    const HALF: usize = BLOCK_ROWS / 2;
    if row < HALF { 2 * row } else { 2 * (row - HALF) + 1 }
}

/// Returns the byte range of a row's factor in its block.
#[inline(always)]
pub(crate) fn factor(row: usize) -> Range<usize> {
    row * size_of::<f32>()..(row + 1) * size_of::<f32>()
}
