//! From a vector to its code.

use crate::error::CodesError;
use crate::kernel::Kernel;
use crate::layout::{self, BLOCK_ROWS, STEP_GROUPS};
use crate::query::Query;
use crate::rotation::Rotation;
use crate::sum;
use crate::writer::BlockWriter;

/// Most dimensions of a vector.
pub const MAX_DIMENSION: usize = 1 << 14;

/// Coordinates of a group: what one lookup takes, a bit each.
pub(crate) const GROUP: usize = 4;

/// How vectors of one dimension become codes. Two codecs of the same dimension and seed are the same: on any
/// machine, for ever.
pub struct Codec {
    dimension: usize,
    /// Groups of a row, a multiple of [`STEP_GROUPS`].
    groups: usize,
    rotation: Rotation,
    kernel: Kernel,
}

impl Codec {
    /// A codec for vectors of `dimension` values, with the best kernel of this CPU.
    pub fn new(dimension: usize, seed: u64) -> Result<Self, CodesError> {
        Self::with_kernel(dimension, seed, Kernel::best())
    }

    /// [`Codec::new`] with this kernel, or the portable one where this CPU cannot run it: for tests and comparisons.
    pub fn with_kernel(dimension: usize, seed: u64, kernel: Kernel) -> Result<Self, CodesError> {
        if dimension == 0 || dimension > MAX_DIMENSION {
            return Err(CodesError::Dimension(dimension));
        }
        let groups = dimension.div_ceil(GROUP).next_multiple_of(STEP_GROUPS);
        let kernel = if kernel.is_available() { kernel } else { Kernel::Portable };
        Ok(Self { dimension, groups, rotation: Rotation::new(dimension, seed), kernel })
    }

    /// Values of a vector.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// The kernel in use.
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// Groups of a row, those that pad included.
    pub(crate) fn groups(&self) -> usize {
        self.groups
    }

    /// Bytes of a block of [`BLOCK_ROWS`] rows.
    pub fn block_bytes(&self) -> usize {
        layout::block_bytes(self.groups)
    }

    /// Bytes that the codes of this many rows take.
    pub fn bytes(&self, rows: usize) -> usize {
        rows.div_ceil(BLOCK_ROWS) * self.block_bytes()
    }

    /// Rows that codes of this many bytes have room for, those that pad the last block included.
    pub fn rows(&self, codes: &[u8]) -> usize {
        codes.len() / self.block_bytes() * BLOCK_ROWS
    }

    /// An empty sequence of codes.
    pub fn writer(&self) -> BlockWriter<'_> {
        BlockWriter::new(self)
    }

    /// A query by a vector.
    pub fn query(&self, vector: &[f32]) -> Result<Query, CodesError> {
        let mut rotated = vec![0.0; self.dimension];
        self.rotate(vector, &mut rotated)?;
        Ok(Query::new(self, &rotated))
    }

    /// Rotates a vector into `out` and gives the square of its length.
    pub(crate) fn rotate(&self, vector: &[f32], out: &mut Vec<f32>) -> Result<f32, CodesError> {
        if vector.len() != self.dimension {
            return Err(CodesError::VectorLength { given: vector.len(), dimension: self.dimension });
        }
        out.clear();
        out.extend_from_slice(vector);
        self.kernel.rotate(&self.rotation, out);
        let square = sum::of(out, |x| x * x);
        if square.is_finite() { Ok(square) } else { Err(CodesError::NotFinite) }
    }
}

/// Codes a rotated vector: a bit a coordinate, set where it is not negative, four to a group; and the factor.
///
/// The code stands for x, whose coordinates are 1 and -1. The factor is |o|² / ⟨x, o⟩, with o the vector. Then
/// `factor · ⟨x, q⟩` is an estimate of ⟨o, q⟩ without bias (RaBitQ): the part of q along o comes out exactly, and
/// what x has beside o is, by the random rotation, as often on one side of q as on the other.
#[inline(always)]
pub(crate) fn encode(rotated: &[f32], square: f32, groups: &mut [u8]) -> f32 {
    // Where the flags of four coordinates, a byte each, come to lie when they are multiplied: bits 24 to 27.
    const GATHER: u32 = 1 << 24 | 1 << 17 | 1 << 10 | 1 << 3;
    let (whole, rest) = rotated.as_chunks::<GROUP>();
    let mut last = [-1.0; GROUP];
    for (to, from) in last.iter_mut().zip(rest) {
        *to = *from;
    }
    let all = whole.iter().chain((!rest.is_empty()).then_some(&last));
    for (group, values) in groups.iter_mut().zip(all) {
        let flags = values.map(|x| u8::from(x >= 0.0));
        *group = (u32::from_le_bytes(flags).wrapping_mul(GATHER) >> 24) as u8 & 15;
    }
    let along = sum::of(rotated, f32::abs);
    if along > 0.0 { square / along } else { 0.0 }
}
