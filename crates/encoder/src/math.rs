//! Implements the functions that run between the matrix products: sums, GELU, exponential and layer norm.
//!
//! Sums use [`LANES`] accumulators that are added pairwise at the end. The order of all operations is fixed in the
//! source, so vector units of any width give the same bits.

#![allow(clippy::needless_range_loop, reason = "one index over lanes of several arrays, which become vectors")]
#![allow(clippy::excessive_precision, reason = "the coefficients have all digits of the fit that produced them")]

use crate::tile::{LANES, multiply_add};

/// Returns the sum of all lanes, added pairwise.
#[inline(always)]
pub(crate) fn sum(mut v: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            v[i] += v[i + width];
        }
        width /= 2;
    }
    v[0]
}

/// Returns the largest value of all lanes. NaN is ignored, unless all lanes are NaN.
#[inline(always)]
pub(crate) fn largest(mut v: [f32; LANES]) -> f32 {
    let mut width = LANES / 2;
    while width > 0 {
        for i in 0..width {
            v[i] = v[i].max(v[i + width]);
        }
        width /= 2;
    }
    v[0]
}

/// Returns sixteen values of a slice, starting at index `at`. Values past the end of the slice are zero.
#[inline(always)]
pub(crate) fn load(row: &[f32], at: usize) -> [f32; LANES] {
    let mut lanes = [0.0; LANES];
    if let Some(whole) = row.get(at..at + LANES) {
        lanes.copy_from_slice(whole);
    } else if let Some(rest) = row.get(at..) {
        lanes[..rest.len()].copy_from_slice(rest);
    }
    lanes
}

/// Computes the exact (erf) form of GELU, `x · Φ(x)`, with an absolute error of at most 1e-6. For `x` from −5.5 to
/// 5.5, a rational function of `x` approximates `Φ(x) − ½`. For other `x`, the value of Φ is 0 or 1 within this error.
#[inline(always)]
pub(crate) fn gelu<const FMA: bool>(v: [f32; LANES]) -> [f32; LANES] {
    const LIMIT: f32 = 5.5;
    const P: [f32; 7] = [
        0.3989415466785431,
        0.03909115120768547,
        0.004717839416116476,
        0.00020503690757323056,
        3.6995452319388278e-06,
        -2.3251461200857193e-08,
        1.1161432889039702e-10,
    ];
    const Q: [f32; 5] = [1.0, 0.2646457254886627, 0.03094492293894291, 0.0020232561510056257, 7.46722798794508e-05];
    let mut out = [0.0; LANES];
    for j in 0..LANES {
        let x = v[j].clamp(-LIMIT, LIMIT);
        let u = x * x;
        let mut p = P[6];
        for c in P[..6].iter().rev() {
            p = multiply_add::<FMA>(p, u, *c);
        }
        let mut q = Q[4];
        for c in Q[..4].iter().rev() {
            q = multiply_add::<FMA>(q, u, *c);
        }
        out[j] = v[j] * (0.5 + x * p / q);
    }
    out
}

/// Computes `e^x` for `x ≤ 0`, with a relative error of at most 2e-7. Below −87 the result is practically zero.
#[inline(always)]
pub(crate) fn exp<const FMA: bool>(v: [f32; LANES]) -> [f32; LANES] {
    // Adding this value rounds to an integer, which is then in the low bits.
    const ROUND: f32 = 12_582_912.0;
    const C: [f32; 6] = [
        1.0000001192092896,
        0.6931469440460205,
        0.24022120237350464,
        0.05550713464617729,
        0.009675541892647743,
        0.0013276430545374751,
    ];
    let mut out = [0.0; LANES];
    for j in 0..LANES {
        let t = v[j].max(-87.0) * std::f32::consts::LOG2_E;
        let rounded = t + ROUND;
        let fraction = t - (rounded - ROUND);
        let mut r = C[5];
        for c in C[..5].iter().rev() {
            r = multiply_add::<FMA>(r, fraction, *c);
        }
        let exponent = rounded.to_bits().wrapping_sub(ROUND.to_bits());
        out[j] = f32::from_bits(r.to_bits().wrapping_add(exponent << 23));
    }
    out
}

/// Normalises a row in place: `row = (row + add − mean) / deviation · gain + shift`.
#[inline(always)]
pub(crate) fn layer_norm<const FMA: bool>(row: &mut [f32], add: Option<&[f32]>, gain: &[f32], shift: &[f32], eps: f32) {
    let size = row.len();
    let count = size as f32;
    let mut total = [0.0; LANES];
    for at in (0..size).step_by(LANES) {
        let mut x = load(row, at);
        if let Some(add) = add {
            let y = load(add, at);
            for j in 0..LANES {
                x[j] += y[j];
            }
            crate::tile::store(row, at, x);
        }
        for j in 0..LANES {
            total[j] += x[j];
        }
    }
    let mean = sum(total) / count;
    let mut squares = [0.0; LANES];
    for at in (0..size).step_by(LANES) {
        let x = load(row, at);
        for j in 0..LANES {
            // Lanes past the end hold zero, not a value, so they must not count as a deviation from the mean.
            let d = if at + j < size { x[j] - mean } else { 0.0 };
            squares[j] = multiply_add::<FMA>(d, d, squares[j]);
        }
    }
    let scale = 1.0 / (sum(squares) / count + eps).sqrt();
    for at in (0..size).step_by(LANES) {
        let (mut x, g, b) = (load(row, at), load(gain, at), load(shift, at));
        for j in 0..LANES {
            x[j] = multiply_add::<FMA>((x[j] - mean) * scale, g[j], b[j]);
        }
        crate::tile::store(row, at, x);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Computes erf by its Taylor series. In f64, the series is accurate enough for arguments within ±4.
    fn erf(x: f64) -> f64 {
        let (mut term, mut total) = (x, x);
        for n in 1..200 {
            term *= -x * x / f64::from(n);
            total += term / f64::from(2 * n + 1);
        }
        total * 2.0 / std::f64::consts::PI.sqrt()
    }

    #[test]
    fn gelu_is_within_a_millionth() {
        for i in -5500..=5500 {
            let x = i as f32 / 1000.0;
            let expected = f64::from(x) * 0.5 * (1.0 + erf(f64::from(x) / 2f64.sqrt()));
            for got in [gelu::<false>([x; LANES])[3], gelu::<true>([x; LANES])[3]] {
                assert!((f64::from(got) - expected).abs() < 2e-6, "gelu({x}) = {got}, not {expected}");
            }
        }
        assert!((gelu::<true>([40.0; LANES])[0] - 40.0).abs() < 1e-4);
        assert!(gelu::<true>([-40.0; LANES])[0].abs() < 1e-4);
    }

    #[test]
    fn exp_is_within_its_bound() {
        for i in 0..=87_000 {
            let x = -(i as f32) / 1000.0;
            let expected = f64::from(x).exp();
            let got = f64::from(exp::<true>([x; LANES])[7]);
            assert!((got / expected - 1.0).abs() < 5e-6, "exp({x}) = {got}, not {expected}");
        }
        assert!(exp::<false>([f32::NEG_INFINITY; LANES])[0] < 1e-37);
    }

    #[test]
    fn layer_norm_of_a_row_that_ends_inside_a_line() {
        for size in [8usize, 16, 20, 384] {
            let x: Vec<f32> = (0..size).map(|i| (i * 37 % 11) as f32 - 3.0).collect();
            let add: Vec<f32> = (0..size).map(|i| (i * 13 % 7) as f32).collect();
            let gain = vec![2.0; size];
            let shift = vec![0.5; size];
            let mut row = x.clone();
            layer_norm::<true>(&mut row, Some(&add), &gain, &shift, 1e-12);
            let s: Vec<f64> = x.iter().zip(&add).map(|(a, b)| f64::from(a + b)).collect();
            let mean = s.iter().sum::<f64>() / size as f64;
            let deviation = (s.iter().map(|v| (v - mean).powi(2)).sum::<f64>() / size as f64).sqrt();
            for (got, v) in row.iter().zip(&s) {
                assert!((f64::from(*got) - ((v - mean) / deviation * 2.0 + 0.5)).abs() < 1e-5);
            }
        }
    }
}
