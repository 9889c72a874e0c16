//! Encodes vectors as codes of one bit per dimension.

use crate::error::CodesError;
use crate::kernel::Kernel;
use crate::layout::{self, BLOCK_ROWS, STEP_GROUPS};
use crate::query::Query;
use crate::rotation::Rotation;
use crate::sum;
use crate::writer::BlockWriter;

/// Largest supported dimension of a vector.
pub const MAX_DIMENSION: usize = 1 << 14;

/// Number of coordinates in a group. A code has one bit per coordinate, so a group is four bits of a code. One table
/// lookup processes one group.
pub(crate) const GROUP: usize = 4;

/// Encodes vectors that all have the same dimension. Two codecs with the same dimension and seed create the same
/// codes, on every machine and in every version of this crate.
pub struct Codec {
    dimension: usize,
    /// Number of groups per row, rounded up to a multiple of [`STEP_GROUPS`].
    groups: usize,
    rotation: Rotation,
    kernel: Kernel,
}

impl Codec {
    /// Creates a codec for vectors of `dimension` values, with the fastest kernel that this CPU can run.
    pub fn new(dimension: usize, seed: u64) -> Result<Self, CodesError> {
        Self::with_kernel(dimension, seed, Kernel::best())
    }

    /// Creates a codec with the given kernel. If this CPU cannot run the given kernel, uses the portable one.
    /// Intended for tests and comparisons.
    pub fn with_kernel(dimension: usize, seed: u64, kernel: Kernel) -> Result<Self, CodesError> {
        if dimension == 0 || dimension > MAX_DIMENSION {
            return Err(CodesError::Dimension(dimension));
        }
        let groups = dimension.div_ceil(GROUP).next_multiple_of(STEP_GROUPS);
        let kernel = if kernel.is_available() { kernel } else { Kernel::Portable };
        Ok(Self { dimension, groups, rotation: Rotation::new(dimension, seed), kernel })
    }

    /// Returns the number of values in a vector.
    pub fn dimension(&self) -> usize {
        self.dimension
    }

    /// Returns the kernel in use.
    pub fn kernel(&self) -> Kernel {
        self.kernel
    }

    /// Returns the number of groups per row, including padding.
    pub(crate) fn groups(&self) -> usize {
        self.groups
    }

    /// Returns the size in bytes of a block of [`BLOCK_ROWS`] rows.
    pub fn block_bytes(&self) -> usize {
        layout::block_bytes(self.groups)
    }

    /// Returns the size in bytes of the codes of `rows` rows.
    pub fn bytes(&self, rows: usize) -> usize {
        rows.div_ceil(BLOCK_ROWS) * self.block_bytes()
    }

    /// Returns the number of rows that fit into `codes`. The padding rows of the last block are counted too.
    pub fn rows(&self, codes: &[u8]) -> usize {
        codes.len() / self.block_bytes() * BLOCK_ROWS
    }

    /// Creates an empty writer. The writer encodes vectors with this codec and appends their codes as rows.
    pub fn writer(&self) -> BlockWriter<'_> {
        BlockWriter::new(self)
    }

    /// Prepares a query that compares `vector` with codes.
    pub fn query(&self, vector: &[f32]) -> Result<Query, CodesError> {
        let mut rotated = vec![0.0; self.dimension];
        self.rotate(vector, &mut rotated)?;
        Ok(Query::new(self, &rotated))
    }

    /// Rotates a vector into `out` and returns the square of its length.
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

/// Writes the code of a rotated vector to `groups` and returns the code's factor. Each coordinate becomes one bit,
/// which is set if the coordinate is not negative. Each byte of `groups` receives the four bits of one group.
///
/// A code represents a vector x. Each coordinate of x is 1 or -1. The factor is |o|² / ⟨x, o⟩, where o is the encoded
/// vector. For a query q, `factor · ⟨x, q⟩` is an unbiased estimate of ⟨o, q⟩ (RaBitQ). The error of the estimate
/// comes from the part of x that is orthogonal to o. The rotation is random, so the error is positive as often as it
/// is negative. If q is parallel to o, the estimate is exact.
#[inline(always)]
pub(crate) fn encode(rotated: &[f32], square: f32, groups: &mut [u8]) -> f32 {
    // Multiplying four flags, one byte each, by this number moves them to bits 24 to 27.
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
