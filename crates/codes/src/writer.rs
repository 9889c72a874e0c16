//! Writes blocks of codes. A row is appended either by encoding a vector or by copying an existing code.

use std::ops::Range;

use crate::codec::Codec;
use crate::error::CodesError;
use crate::layout::{BLOCK_ROWS, FACTOR_BYTES, SLICE_BYTES, factor, position};

/// Appends rows and returns the bytes of whole blocks.
///
/// A row's code depends only on the row's vector, so copying a code gives the same bytes as encoding the vector
/// again. The codes of several files can therefore be merged without the vectors.
pub struct BlockWriter<'a> {
    codec: &'a Codec,
    bytes: Vec<u8>,
    /// Number of rows in `bytes`.
    rows: usize,
    rotated: Vec<f32>,
    groups: Vec<u8>,
}

impl<'a> BlockWriter<'a> {
    pub(crate) fn new(codec: &'a Codec) -> Self {
        let groups = vec![0; codec.groups()];
        Self { codec, bytes: Vec::new(), rows: 0, rotated: Vec::new(), groups }
    }

    /// Returns the number of rows that the writer holds. Rows that [`take_full`](BlockWriter::take_full) has removed
    /// are not counted.
    pub fn rows(&self) -> usize {
        self.rows
    }

    /// Appends the code of a vector. If the vector has length zero, the estimated score of the row is always zero.
    pub fn push(&mut self, vector: &[f32]) -> Result<(), CodesError> {
        let square = self.codec.rotate(vector, &mut self.rotated)?;
        let factor = self.codec.kernel().encode(&self.rotated, square, &mut self.groups);
        let row = self.room();
        if let Some(block) = last_block(&mut self.bytes, self.codec) {
            let (factors, slices) = block.split_at_mut(FACTOR_BYTES);
            put_factor(factors, row, &factor.to_le_bytes());
            let at = position(row);
            for (slice, pair) in slices.chunks_exact_mut(SLICE_BYTES).zip(self.groups.as_chunks::<2>().0) {
                if let Some(byte) = slice.get_mut(at) {
                    *byte = pair[0] | pair[1] << 4;
                }
            }
        }
        Ok(())
    }

    /// Copies a range of rows from existing codes, which must be codes of the same codec.
    pub fn copy(&mut self, codes: &[u8], rows: Range<usize>) -> Result<(), CodesError> {
        let held = self.codec.rows(codes);
        if rows.end > held {
            return Err(CodesError::Rows { end: rows.end, rows: held });
        }
        let size = self.codec.block_bytes();
        let mut next = rows.start;
        while next < rows.end {
            let (block, row) = (next / BLOCK_ROWS, next % BLOCK_ROWS);
            // If both sides are at the beginning of a block, copy whole blocks at once.
            let whole = (rows.end - next) / BLOCK_ROWS;
            if row == 0 && self.rows.is_multiple_of(BLOCK_ROWS) && whole > 0 {
                if let Some(from) = codes.get(block * size..(block + whole) * size) {
                    self.bytes.extend_from_slice(from);
                }
                self.rows += whole * BLOCK_ROWS;
                next += whole * BLOCK_ROWS;
            } else {
                if let Some(from) = codes.get(block * size..(block + 1) * size) {
                    self.copy_row(from, row);
                }
                next += 1;
            }
        }
        Ok(())
    }

    fn copy_row(&mut self, block: &[u8], from: usize) {
        let row = self.room();
        let Some(to) = last_block(&mut self.bytes, self.codec) else { return };
        let ((factors, slices), (to_factors, to_slices)) =
            (block.split_at(FACTOR_BYTES), to.split_at_mut(FACTOR_BYTES));
        if let Some(bytes) = factors.get(factor(from)) {
            put_factor(to_factors, row, bytes);
        }
        let (from, at) = (position(from), position(row));
        for (to, from_slice) in to_slices.chunks_exact_mut(SLICE_BYTES).zip(slices.chunks_exact(SLICE_BYTES)) {
            if let (Some(to), Some(byte)) = (to.get_mut(at), from_slice.get(from)) {
                *to = *byte;
            }
        }
    }

    /// Removes all full blocks and returns their bytes. A caller can write these bytes to a file before it appends
    /// more rows.
    pub fn take_full(&mut self) -> Vec<u8> {
        let full = self.rows / BLOCK_ROWS;
        let rest = self.bytes.split_off(full * self.codec.block_bytes());
        self.rows -= full * BLOCK_ROWS;
        std::mem::replace(&mut self.bytes, rest)
    }

    /// Returns the bytes of all rows that `take_full` has not removed. Padding rows of the last block are zero.
    pub fn finish(self) -> Vec<u8> {
        self.bytes
    }

    /// Adds an empty row and returns the row's position within its block. Starts a new block if the last block is
    /// full.
    fn room(&mut self) -> usize {
        let row = self.rows % BLOCK_ROWS;
        if row == 0 {
            self.bytes.resize(self.bytes.len() + self.codec.block_bytes(), 0);
        }
        self.rows += 1;
        row
    }
}

fn last_block<'a>(bytes: &'a mut [u8], codec: &Codec) -> Option<&'a mut [u8]> {
    let start = bytes.len().checked_sub(codec.block_bytes())?;
    bytes.get_mut(start..)
}

fn put_factor(factors: &mut [u8], row: usize, bytes: &[u8]) {
    if let Some(to) = factors.get_mut(factor(row)) {
        to.copy_from_slice(bytes);
    }
}
