//! Sums floating-point numbers in a fixed order, so that every kernel and every machine computes the same bits.

/// Number of partial sums: enough to fill the registers of the widest kernel.
const LANES: usize = 16;

/// Returns the sum of `f` over `values`. Value i is added to partial sum i mod 16; the partial sums are added in
/// pairs.
#[inline(always)]
pub(crate) fn of(values: &[f32], f: impl Fn(f32) -> f32) -> f32 {
    let mut partial = [0.0; LANES];
    let (chunks, rest) = values.as_chunks::<LANES>();
    for chunk in chunks {
        for (sum, &x) in partial.iter_mut().zip(chunk) {
            *sum += f(x);
        }
    }
    for (sum, &x) in partial.iter_mut().zip(rest) {
        *sum += f(x);
    }
    total(partial)
}

#[inline(always)]
fn total(mut partial: [f32; LANES]) -> f32 {
    let mut half = LANES / 2;
    while half > 0 {
        let (front, back) = partial.split_at_mut(half);
        for (a, b) in front.iter_mut().zip(back) {
            *a += *b;
        }
        half /= 2;
    }
    partial[0]
}
