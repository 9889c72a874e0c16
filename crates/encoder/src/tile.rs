//! Implements the matrix multiplication that the forward pass uses.
//!
//! The right-hand matrix of a product is packed into panels of `16 × L` columns, so that one step along the inner
//! dimension `k` reads `L` consecutive cache lines. [`tile`] keeps the sums of `M` rows of the result in registers.
//! Because the compiler knows the bounds, the loops become fused multiply-adds on whole vectors, without bounds checks
//! and without intrinsics.
//!
//! Each element of the result has one accumulator, which sums over `k` in ascending order. Neighbouring rows do not
//! affect the sum, so a result is independent of the batch.

#![allow(clippy::needless_range_loop, reason = "one index over lanes of several arrays, which become vectors")]

/// Number of floats in a cache line, and the granularity of all packing.
pub(crate) const LANES: usize = 16;

/// Holds one cache line of floats.
#[derive(Clone, Copy, Debug)]
#[repr(C, align(64))]
pub(crate) struct CacheLine(pub [f32; LANES]);

impl CacheLine {
    pub const ZERO: CacheLine = CacheLine([0.0; LANES]);
}

/// Returns `a × b + c`. If `FMA` is true, the result is rounded once (fused multiply-add).
#[inline(always)]
pub(crate) fn multiply_add<const FMA: bool>(a: f32, b: f32, c: f32) -> f32 {
    if FMA { a.mul_add(b, c) } else { a * b + c }
}

/// Multiplies the `M` rows in `a` by the panel `b`. The length of `b` is the inner dimension of the product. The same
/// row may occur in `a` more than once.
#[inline(always)]
pub(crate) fn tile<const FMA: bool, const M: usize, const L: usize>(
    a: [&[f32]; M],
    b: &[[CacheLine; L]],
) -> [[CacheLine; L]; M] {
    // The slices tell the compiler that no index below is out of bounds. This file uses loops instead of `map`,
    // because `map` is not inlined into functions of another instruction set.
    let mut rows: [&[f32]; M] = [&[]; M];
    for i in 0..M {
        rows[i] = &a[i][..b.len()];
    }
    let mut sums = [[CacheLine::ZERO; L]; M];
    for (p, b) in b.iter().enumerate() {
        // Copy the value, so that it is loaded once and not for each row.
        let b = *b;
        for i in 0..M {
            let x = rows[i][p];
            for l in 0..L {
                for j in 0..LANES {
                    sums[i][l].0[j] = multiply_add::<FMA>(x, b[l].0[j], sums[i][l].0[j]);
                }
            }
        }
    }
    // Return a copy of `sums`. Callers index the result by variables, so it must be in memory, and the loop above
    // would write `sums` there in every round.
    let mut result = [[CacheLine::ZERO; L]; M];
    for i in 0..M {
        for l in 0..L {
            for j in 0..LANES {
                result[i][l].0[j] = sums[i][l].0[j];
            }
        }
    }
    result
}

/// Calls `each(first row, row indices)` for the rows `0..rows` in groups of `M`. The last group is filled up by
/// repeating the last row, so that all tiles have the same size.
#[inline(always)]
pub(crate) fn row_tiles<const M: usize>(rows: usize, mut each: impl FnMut(usize, [usize; M])) {
    let mut first = 0;
    while first < rows {
        let mut indices = [rows - 1; M];
        for (r, index) in indices.iter_mut().enumerate() {
            *index = (*index).min(first + r);
        }
        each(first, indices);
        first += M;
    }
}

/// Returns columns `at..at + len` of the rows `indices` of a row-major matrix.
#[inline(always)]
pub(crate) fn rows_at<const M: usize>(
    matrix: &[f32],
    stride: usize,
    at: usize,
    len: usize,
    indices: [usize; M],
) -> [&[f32]; M] {
    let mut rows: [&[f32]; M] = [&[]; M];
    for i in 0..M {
        rows[i] = &matrix[indices[i] * stride + at..][..len];
    }
    rows
}

/// Holds the packed weights and the bias of a linear layer.
pub(crate) struct Linear<const L: usize> {
    pub inputs: usize,
    pub outputs: usize,
    /// Weights, ordered by panel and then by input. Columns past `outputs` are zero.
    panels: Vec<[CacheLine; L]>,
    /// Bias of each output, packed in panels like the weights. Columns past `outputs` are zero.
    bias: Vec<[CacheLine; L]>,
}

impl<const L: usize> Linear<L> {
    const COLUMNS: usize = LANES * L;

    /// Packs weights that are stored row by row, with one row per output, as in model files.
    pub fn pack(weights: &[f32], bias: &[f32], inputs: usize) -> Self {
        let outputs = bias.len();
        assert_eq!(weights.len(), inputs * outputs, "the caller has checked the shapes");
        let panels = outputs.div_ceil(Self::COLUMNS);
        let mut linear = Self {
            inputs,
            outputs,
            panels: vec![[CacheLine::ZERO; L]; panels * inputs],
            bias: vec![[CacheLine::ZERO; L]; panels],
        };
        for (output, (row, &bias)) in weights.chunks_exact(inputs).zip(bias).enumerate() {
            let (panel, column) = (output / Self::COLUMNS, output % Self::COLUMNS);
            let (line, lane) = (column / LANES, column % LANES);
            linear.bias[panel][line].0[lane] = bias;
            for (packed, &weight) in linear.panels[panel * inputs..].iter_mut().zip(row) {
                packed[line].0[lane] = weight;
            }
        }
        linear
    }

    /// Computes `out[r] = activation(input[r] × weights + bias)` for row-major `input` and `out`.
    #[inline(always)]
    pub fn run<const FMA: bool, const M: usize>(
        &self,
        input: &[f32],
        out: &mut [f32],
        activation: impl Fn([f32; LANES]) -> [f32; LANES],
    ) {
        let rows = input.len() / self.inputs;
        for (p, (panel, bias)) in self.panels.chunks_exact(self.inputs).zip(&self.bias).enumerate() {
            let column = p * Self::COLUMNS;
            row_tiles::<M>(rows, |first, indices| {
                let sums = tile::<FMA, M, L>(rows_at(input, self.inputs, 0, self.inputs, indices), panel);
                for (r, sums) in sums.iter().enumerate().take(rows - first) {
                    let row = &mut out[(first + r) * self.outputs..][..self.outputs];
                    for (l, sums) in sums.iter().enumerate() {
                        let mut value = [0.0; LANES];
                        for j in 0..LANES {
                            value[j] = sums.0[j] + bias[l].0[j];
                        }
                        store(row, column + l * LANES, activation(value));
                    }
                }
            });
        }
    }
}

/// Writes `value` to a row, starting at index `at`. Values past the end of the row are dropped.
#[inline(always)]
pub(crate) fn store(row: &mut [f32], at: usize, value: [f32; LANES]) {
    if let Some(whole) = row.get_mut(at..at + LANES) {
        whole.copy_from_slice(&value);
    } else if let Some(rest) = row.get_mut(at..) {
        rest.copy_from_slice(&value[..rest.len()]);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tests shapes that end inside a panel, inside a line and inside a tile.
    #[test]
    fn packed_multiplication_is_the_plain_one() {
        for (rows, inputs, outputs) in [(1, 1, 1), (5, 3, 17), (6, 8, 16), (7, 33, 64), (13, 20, 65), (2, 7, 130)] {
            let value = |i: usize| ((i * 7919 + 13) % 101) as f32 / 8.0 - 6.0;
            let weights: Vec<f32> = (0..inputs * outputs).map(value).collect();
            let bias: Vec<f32> = (0..outputs).map(value).collect();
            let input: Vec<f32> = (0..rows * inputs).map(|i| value(i + 5)).collect();
            let mut wide = vec![f32::NAN; rows * outputs];
            let mut narrow = wide.clone();
            Linear::<4>::pack(&weights, &bias, inputs).run::<false, 6>(&input, &mut wide, |v| v);
            Linear::<1>::pack(&weights, &bias, inputs).run::<true, 3>(&input, &mut narrow, |v| v);
            for r in 0..rows {
                for o in 0..outputs {
                    let dot: f64 = (0..inputs)
                        .map(|i| f64::from(input[r * inputs + i]) * f64::from(weights[o * inputs + i]))
                        .sum();
                    let expected = dot + f64::from(bias[o]);
                    for got in [wide[r * outputs + o], narrow[r * outputs + o]] {
                        assert!(
                            (f64::from(got) - expected).abs() < 1e-3,
                            "{rows} {inputs} {outputs}: {got} {expected}"
                        );
                    }
                }
            }
        }
    }
}
