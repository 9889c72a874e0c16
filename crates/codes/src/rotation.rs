//! Spreads the information of a vector evenly over its coordinates by a fixed rotation.
//!
//! Embeddings concentrate much of their length in a few coordinates. A code with the same number of bits for each
//! coordinate would waste most bits. After the rotation every coordinate is close to a normal variable of variance
//! 1/d, and the error of a code is independent of the query's direction.
//!
//! A pass consists of random sign changes, followed by Hadamard butterflies. Butterflies need a power of two as the
//! number of coordinates, and padding 384 coordinates to 512 would cost a third more bytes. Passes therefore run
//! alternately over the first and the last `span` coordinates, where `span` is the largest power of two that fits. In
//! some dimensions, the first and the last `span` coordinates hardly overlap. After each pass over the last
//! coordinates, a further step therefore mixes the two halves of the vector. Every step is orthogonal, so lengths and
//! dot products do not change.
//!
//! A butterfly is one addition and one subtraction, so neither a compiler nor an instruction set can choose the order
//! of a sum. The result is the same, bit for bit, on every machine.

use std::f32::consts::FRAC_1_SQRT_2;

/// Number of coordinates in one register of the widest kernel. A butterfly within one register is computed by
/// shuffling the register.
const LANES: usize = 16;

/// Applies an orthogonal transformation that is determined by a dimension and a seed.
pub(crate) struct Rotation {
    dimension: usize,
    span: usize,
    /// Factors of all passes, `dimension` factors per pass. A pass multiplies each coordinate by its factor, which is
    /// 1 or -1 at random. If the coordinate takes part in the butterflies of the pass, the factor is also multiplied
    /// by 1/√span.
    factors: Vec<f32>,
}

impl Rotation {
    pub(crate) fn new(dimension: usize, seed: u64) -> Self {
        let span = if dimension == 0 { 0 } else { 1 << dimension.ilog2() };
        // Three passes over all coordinates, or two rounds of a pass over the front and a pass over the back.
        let passes = if span == dimension { 3 } else { 4 };
        let scale = 1.0 / (span as f32).sqrt();
        let mut random = SplitMix(seed);
        let mut factors = Vec::with_capacity(passes * dimension);
        for pass in 0..passes {
            let active = active(dimension, span, pass);
            for i in 0..dimension {
                let sign = if random.next() >> 63 == 0 { 1.0 } else { -1.0 };
                factors.push(if active.contains(&i) { sign * scale } else { sign });
            }
        }
        Self { dimension, span, factors }
    }

    /// Rotates `x` in place. Each kernel inlines this function and compiles its own copy.
    #[inline(always)]
    pub(crate) fn apply(&self, x: &mut [f32]) {
        debug_assert_eq!(x.len(), self.dimension);
        let blocked = self.span != self.dimension;
        for (pass, factors) in self.factors.chunks_exact(self.dimension.max(1)).enumerate() {
            for (x, factor) in x.iter_mut().zip(factors) {
                *x *= factor;
            }
            if let Some(part) = x.get_mut(active(self.dimension, self.span, pass)) {
                butterflies(part);
            }
            if blocked && pass % 2 == 1 {
                halves(x);
            }
        }
    }
}

/// Returns the range of coordinates to which the butterflies of a pass apply. The first pass applies to the first
/// `span` coordinates, the second to the last `span`, and so on alternately.
#[inline(always)]
fn active(dimension: usize, span: usize, pass: usize) -> std::ops::Range<usize> {
    if pass.is_multiple_of(2) { 0..span } else { dimension - span..dimension }
}

/// Rotates pairs of coordinates by 45°. Coordinate i of the first half and coordinate i of the second half form a
/// pair. The middle coordinate of an odd dimension does not change.
#[inline(always)]
fn halves(x: &mut [f32]) {
    let half = x.len() / 2;
    let (front, back) = x.split_at_mut(x.len() - half);
    for (a, b) in front.iter_mut().zip(back) {
        (*a, *b) = ((*a + *b) * FRAC_1_SQRT_2, (*a - *b) * FRAC_1_SQRT_2);
    }
}

/// Computes the Hadamard transform in place, without normalising. The number of coordinates must be a power of two.
#[inline(always)]
fn butterflies(x: &mut [f32]) {
    let mut stride = 1;
    if x.len() >= LANES {
        for lanes in x.as_chunks_mut::<LANES>().0 {
            *lanes = inner::<8>(inner::<4>(inner::<2>(inner::<1>(*lanes))));
        }
        stride = LANES;
    }
    while stride < x.len() {
        for pair in x.chunks_exact_mut(2 * stride) {
            let (front, back) = pair.split_at_mut(stride);
            for (a, b) in front.iter_mut().zip(back) {
                (*a, *b) = (*a + *b, *a - *b);
            }
        }
        stride *= 2;
    }
}

/// Computes the butterflies of one stride within a register, as a shuffle, a sign change and an addition.
#[inline(always)]
fn inner<const STRIDE: usize>(x: [f32; LANES]) -> [f32; LANES] {
    let mut y = [0.0; LANES];
    for i in 0..LANES {
        let own = if i & STRIDE == 0 { x[i] } else { -x[i] };
        y[i] = x[i ^ STRIDE] + own;
    }
    y
}

/// Implements the random generator SplitMix64. The format of codes depends on the generated bits, so this crate has
/// its own implementation.
struct SplitMix(u64);

impl SplitMix {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rotated(rotation: &Rotation, mut x: Vec<f32>) -> Vec<f32> {
        rotation.apply(&mut x);
        x
    }

    fn one(dimension: usize, at: usize) -> Vec<f32> {
        (0..dimension).map(|i| f32::from(i == at)).collect()
    }

    fn dot(a: &[f32], b: &[f32]) -> f32 {
        a.iter().zip(b).map(|(a, b)| a * b).sum()
    }

    #[test]
    fn lengths_and_angles_stay() {
        for dimension in [1, 2, 3, 5, 16, 17, 33, 96, 384] {
            let rotation = Rotation::new(dimension, 3);
            let axes: Vec<_> = (0..dimension).map(|at| rotated(&rotation, one(dimension, at))).collect();
            for (i, a) in axes.iter().enumerate() {
                for (j, b) in axes.iter().enumerate() {
                    let expected = f32::from(i == j);
                    assert!((dot(a, b) - expected).abs() < 1e-5, "{i} and {j} of {dimension}");
                }
            }
        }
    }

    #[test]
    fn a_single_coordinate_spreads_over_all() {
        for dimension in [256, 257, 384, 511, 768, 1000, 1535, 1536] {
            let rotation = Rotation::new(dimension, 3);
            for at in [0, 1, dimension / 2, dimension - 1] {
                let spread = rotated(&rotation, one(dimension, at));
                let greatest = spread.iter().fold(0.0f32, |most, x| most.max(x.abs())) * (dimension as f32).sqrt();
                assert!(greatest < 7.0, "coordinate {at} of {dimension}: {greatest}");
                let middle = dimension / 2;
                let front: f32 = spread[..middle].iter().map(|x| x * x).sum();
                assert!((0.3..0.7).contains(&front), "coordinate {at} of {dimension}: {front} in the first half");
            }
        }
    }

    #[test]
    fn the_seed_decides() {
        let (a, b) = (Rotation::new(20, 1), Rotation::new(20, 2));
        assert_ne!(rotated(&a, one(20, 0)), rotated(&b, one(20, 0)));
        assert_eq!(rotated(&a, one(20, 0)), rotated(&Rotation::new(20, 1), one(20, 0)));
    }
}
