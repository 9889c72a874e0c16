//! Where a row's code lies among the bytes.
//!
//! A block holds [`BLOCK_ROWS`] = 32 rows. It begins with their 32 factors (f32, little-endian, 128 bytes). The codes
//! follow in slices of 32 bytes, one byte a row: slice `s` holds group `2s` of each row in the low four bits and
//! group `2s + 1` in the high four. Inside a slice, row `r` is at byte `2r` for the first sixteen rows and at
//! `2(r - 16) + 1` for the others: then the even bytes, read as numbers of 16 bits, are the first sixteen rows in
//! their order and the odd bytes are the rest, and a kernel needs no shuffle to undo the layout.
//!
//! The number of groups is rounded up to a multiple of eight, so a block is a multiple of 128 bytes. What pads is
//! zero and weighs nothing: the tables of groups that do not exist are zero too.

use std::ops::Range;

/// Rows of a block.
pub const BLOCK_ROWS: usize = 32;
/// Bytes of the factors at the beginning of a block.
pub(crate) const FACTOR_BYTES: usize = BLOCK_ROWS * size_of::<f32>();
/// Groups that a kernel takes in one step: 128 bytes of codes.
pub(crate) const STEP_GROUPS: usize = 8;
/// Bytes of a slice: two groups of each row.
pub(crate) const SLICE_BYTES: usize = BLOCK_ROWS;

/// Bytes of a block with this many groups (a multiple of [`STEP_GROUPS`]).
pub(crate) fn block_bytes(groups: usize) -> usize {
    FACTOR_BYTES + groups / 2 * SLICE_BYTES
}

/// The byte of a slice that is a row's; `row` counts within the block.
#[inline(always)]
pub(crate) fn position(row: usize) -> usize {
    const HALF: usize = BLOCK_ROWS / 2;
    if row < HALF { 2 * row } else { 2 * (row - HALF) + 1 }
}

/// Where a row's factor lies in its block.
#[inline(always)]
pub(crate) fn factor(row: usize) -> Range<usize> {
    row * size_of::<f32>()..(row + 1) * size_of::<f32>()
}
