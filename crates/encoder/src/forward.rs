//! Runs the forward pass over one group of texts.
//!
//! The tokens of all texts of a group are rows of one matrix, without padding. The matrix products process all rows
//! alike; only attention processes one text at a time. The feed-forward part processes blocks of rows, so that the wide
//! intermediate result stays in the second-level cache.
//!
//! Every function is `#[inline(always)]`, and is generic over the size of a tile (the block of results that fits the
//! registers). The reason is that the forward pass is compiled once for each instruction set (see `kernel.rs`). A
//! function that is not inlined would be compiled without the instructions of the kernel that calls the function.

#![allow(clippy::needless_range_loop, reason = "one index over lanes of several arrays, which become vectors")]

use crate::math;
use crate::tile::{CacheLine, LANES, row_tiles, rows_at, store, tile};
use crate::weights::{Layer, Network};

/// Number of rows that pass through the feed-forward part together, a multiple of every kernel's tile height.
const BLOCK: usize = 192;

/// Holds the buffers of one thread. The buffers grow to the size of the largest group that this thread has encoded.
#[derive(Default)]
pub(crate) struct Scratch {
    /// Activations, one row per token.
    x: Vec<f32>,
    /// Output of attention; later reused for the output of the linear layer that follows attention.
    y: Vec<f32>,
    qkv: Vec<f32>,
    /// Wide intermediate result of the feed-forward part, for one block of rows.
    wide: Vec<f32>,
    attention: AttentionScratch,
}

#[derive(Default)]
struct AttentionScratch {
    /// Keys of one head, transposed and packed as the right-hand matrix of a product.
    keys: Vec<CacheLine>,
    /// Values of one head, packed as the right-hand matrix of a product.
    values: Vec<CacheLine>,
    /// Attention scores of the queries in one tile.
    scores: Vec<f32>,
}

fn sized(buffer: &mut Vec<f32>, len: usize) -> &mut [f32] {
    if buffer.len() < len {
        buffer.resize(len, 0.0);
    }
    &mut buffer[..len]
}

/// Encodes the texts of a group, given as token ids, and appends one vector per text to `out`.
///
/// The kernel's tile has `M` rows and `L` cache lines. Only the product of the attention probabilities with a head's
/// value matrix uses a different tile width, `V` cache lines.
#[inline(always)]
pub(crate) fn forward<const FMA: bool, const M: usize, const L: usize, const V: usize>(
    network: &Network<L>,
    texts: &[&[u32]],
    scratch: &mut Scratch,
    out: &mut Vec<Vec<f32>>,
) {
    let hidden = network.hidden;
    let rows: usize = texts.iter().map(|t| t.len()).sum();
    let x = sized(&mut scratch.x, rows * hidden);
    let y = sized(&mut scratch.y, rows * hidden);
    let qkv = sized(&mut scratch.qkv, rows * 3 * hidden);

    let tokens = texts.iter().flat_map(|text| text.iter().enumerate());
    for (row, (position, &id)) in x.chunks_exact_mut(hidden).zip(tokens) {
        row.copy_from_slice(&network.positions[position * hidden..][..hidden]);
        network.words.add_to(id, row);
        math::layer_norm::<FMA>(row, None, &network.norm.gain, &network.norm.shift, network.eps);
    }
    for layer in &network.layers {
        for (x, qkv) in x.chunks(BLOCK * hidden).zip(qkv.chunks_mut(BLOCK * 3 * hidden)) {
            layer.qkv.run::<FMA, M>(x, qkv, |v| v);
        }
        let mut first = 0;
        for text in texts {
            let qkv = &qkv[first * 3 * hidden..][..text.len() * 3 * hidden];
            let y = &mut y[first * hidden..][..text.len() * hidden];
            attention::<FMA, M, L, V>(qkv, y, hidden, network.heads, &mut scratch.attention);
            first += text.len();
        }
        for (x, y) in x.chunks_mut(BLOCK * hidden).zip(y.chunks_mut(BLOCK * hidden)) {
            feed_forward::<FMA, M, L>(layer, x, y, network.eps, &mut scratch.wide);
        }
    }
    let mut rest = &*x;
    for text in texts {
        let (rows, next) = rest.split_at(text.len() * hidden);
        out.push(unit_mean(rows, hidden));
        rest = next;
    }
}

/// Processes one block of rows after attention: projection, residual and norm, then feed-forward layer, residual and
/// norm.
#[inline(always)]
fn feed_forward<const FMA: bool, const M: usize, const L: usize>(
    layer: &Layer<L>,
    x: &mut [f32],
    y: &mut [f32],
    eps: f32,
    wide: &mut Vec<f32>,
) {
    let hidden = layer.projection.outputs;
    let wide = sized(wide, x.len() / hidden * layer.up.outputs);
    // The projection can't write over its own input; the wide buffer is free until `up`.
    let projected = &mut wide[..x.len()];
    layer.projection.run::<FMA, M>(y, projected, |v| v);
    for (x, add) in x.chunks_exact_mut(hidden).zip(projected.chunks_exact(hidden)) {
        math::layer_norm::<FMA>(x, Some(add), &layer.attention_norm.gain, &layer.attention_norm.shift, eps);
    }
    layer.up.run::<FMA, M>(x, wide, math::gelu::<FMA>);
    layer.down.run::<FMA, M>(wide, y, |v| v);
    for (x, add) in x.chunks_exact_mut(hidden).zip(y.chunks_exact(hidden)) {
        math::layer_norm::<FMA>(x, Some(add), &layer.output_norm.gain, &layer.output_norm.shift, eps);
    }
}

/// Computes the self-attention of one text, `out = softmax(q kᵀ) v`, head by head. The queries in `qkv` are already
/// scaled.
#[inline(always)]
fn attention<const FMA: bool, const M: usize, const L: usize, const V: usize>(
    qkv: &[f32],
    out: &mut [f32],
    hidden: usize,
    heads: usize,
    scratch: &mut AttentionScratch,
) {
    let (size, stride) = (hidden / heads, 3 * hidden);
    let tokens = out.len() / hidden;
    let columns = LANES * L;
    let padded = tokens.next_multiple_of(columns);
    let value_columns = LANES * V;
    let value_panels = size.div_ceil(value_columns);
    scratch.keys.clear();
    scratch.keys.resize(padded / LANES * size, CacheLine::ZERO);
    scratch.values.clear();
    scratch.values.resize(value_panels * tokens * V, CacheLine::ZERO);
    let scores = sized(&mut scratch.scores, M * padded);

    for head in 0..heads {
        let at = head * size;
        let keys = scratch.keys.as_chunks_mut::<L>().0;
        let values = scratch.values.as_chunks_mut::<V>().0;
        for (t, row) in qkv.chunks_exact(stride).enumerate() {
            let (panel, line, lane) = (t / columns, t % columns / LANES, t % LANES);
            let key = &row[hidden + at..][..size];
            for (packed, &x) in keys[panel * size..][..size].iter_mut().zip(key) {
                packed[line].0[lane] = x;
            }
            for (p, part) in row[2 * hidden + at..][..size].chunks(value_columns).enumerate() {
                for (packed, part) in values[p * tokens + t].iter_mut().zip(part.chunks(LANES)) {
                    packed.0[..part.len()].copy_from_slice(part);
                }
            }
        }
        row_tiles::<M>(tokens, |first, indices| {
            let queries = rows_at(qkv, stride, at, size, indices);
            for (p, panel) in keys.chunks_exact(size).enumerate() {
                for (r, sums) in tile::<FMA, M, L>(queries, panel).iter().enumerate() {
                    for (l, sums) in sums.iter().enumerate() {
                        store(&mut scores[r * padded..][..padded], p * columns + l * LANES, sums.0);
                    }
                }
            }
            let mut weights = [0.0; M];
            for (row, weight) in scores.chunks_exact_mut(padded).zip(&mut weights) {
                *weight = 1.0 / softmax_terms::<FMA>(row, tokens);
            }
            let mut each = [0; M];
            for (r, row) in each.iter_mut().enumerate() {
                *row = r;
            }
            let probabilities = rows_at(scores, padded, 0, tokens, each);
            for (p, panel) in values.chunks_exact(tokens).enumerate() {
                let sums = tile::<FMA, M, V>(probabilities, panel);
                for (r, sums) in sums.iter().enumerate().take(tokens - first) {
                    let row = &mut out[(first + r) * hidden + at..][..size];
                    for (l, sums) in sums.iter().enumerate() {
                        let mut value = sums.0;
                        for v in &mut value {
                            *v *= weights[r];
                        }
                        store(row, p * value_columns + l * LANES, value);
                    }
                }
            }
        });
    }
}

/// Replaces the first `count` scores of a row by `e^(score − largest)` and the others by zero. Returns the sum of the
/// new values.
#[inline(always)]
fn softmax_terms<const FMA: bool>(row: &mut [f32], count: usize) -> f32 {
    row[count..].fill(f32::NEG_INFINITY);
    let (lines, _) = row.as_chunks_mut::<LANES>();
    let mut top = [f32::NEG_INFINITY; LANES];
    for line in lines.iter() {
        for j in 0..LANES {
            top[j] = top[j].max(line[j]);
        }
    }
    let top = math::largest(top);
    let mut total = [0.0; LANES];
    for line in lines.iter_mut() {
        let mut shifted = [0.0; LANES];
        for j in 0..LANES {
            shifted[j] = line[j] - top;
        }
        *line = math::exp::<FMA>(shifted);
        for j in 0..LANES {
            total[j] += line[j];
        }
    }
    math::sum(total)
}

/// Returns the mean of the rows, scaled to unit length.
fn unit_mean(rows: &[f32], hidden: usize) -> Vec<f32> {
    let mut vector = vec![0.0f32; hidden];
    for row in rows.chunks_exact(hidden) {
        for (v, x) in vector.iter_mut().zip(row) {
            *v += x;
        }
    }
    // The division by the count cancels out in the scaling.
    let norm = vector.iter().map(|v| f64::from(*v).powi(2)).sum::<f64>().sqrt();
    for v in &mut vector {
        *v = (f64::from(*v) / norm) as f32;
    }
    vector
}
