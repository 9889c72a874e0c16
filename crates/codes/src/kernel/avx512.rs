//! Implements the AVX-512 kernel. One register holds two slices of a block: four groups of each of the 32 rows.

use std::arch::x86_64::*;

use super::AHEAD;
use crate::codec;
use crate::layout::{BLOCK_ROWS, FACTOR_BYTES};
use crate::query::{self, Tables};
use crate::rotation::Rotation;

super::shared!(#[target_feature(enable = "avx512f,avx512bw")]);

#[target_feature(enable = "avx512f,avx512bw")]
pub(super) fn block(tables: &Tables, block: &[u8], bar: f32, out: &mut [f32; BLOCK_ROWS]) -> u32 {
    let (factors, codes) = block.split_at(FACTOR_BYTES.min(block.len()));
    let Some(factors) = factors.first_chunk::<FACTOR_BYTES>() else { return 0 };
    let low = _mm512_set1_epi8(15);
    // 16-bit sums: `both` adds the even bytes plus 256 times the odd bytes, `odd` adds the odd bytes.
    let (mut both, mut odd) = (_mm512_setzero_si512(), _mm512_setzero_si512());
    for (codes, tables) in codes.as_chunks::<128>().0.iter().zip(tables.entries.as_chunks::<256>().0) {
        // SAFETY: each load of 64 bytes lies within the 128 or 256 bytes of its chunk; loads may be unaligned. A
        // prefetch does not access memory architecturally, so an address outside every allocation is harmless.
        let (first, second, ac, bd, eg, fh) = unsafe {
            let (codes, tables) = (codes.as_ptr(), tables.as_ptr());
            _mm_prefetch::<_MM_HINT_T0>(codes.wrapping_add(AHEAD).cast());
            _mm_prefetch::<_MM_HINT_T0>(codes.wrapping_add(AHEAD + 64).cast());
            (
                _mm512_loadu_si512(codes.cast()),
                _mm512_loadu_si512(codes.add(64).cast()),
                _mm512_loadu_si512(tables.cast()),
                _mm512_loadu_si512(tables.add(64).cast()),
                _mm512_loadu_si512(tables.add(128).cast()),
                _mm512_loadu_si512(tables.add(192).cast()),
            )
        };
        let ac = _mm512_shuffle_epi8(ac, _mm512_and_si512(first, low));
        let bd = _mm512_shuffle_epi8(bd, _mm512_and_si512(_mm512_srli_epi16::<4>(first), low));
        let eg = _mm512_shuffle_epi8(eg, _mm512_and_si512(second, low));
        let fh = _mm512_shuffle_epi8(fh, _mm512_and_si512(_mm512_srli_epi16::<4>(second), low));
        // The sum of four entries fits into a byte, because an entry is at most `MAX_ENTRY`.
        let four = _mm512_add_epi8(_mm512_add_epi8(ac, bd), _mm512_add_epi8(eg, fh));
        both = _mm512_add_epi16(both, four);
        odd = _mm512_add_epi16(odd, _mm512_srli_epi16::<8>(four));
    }
    let even = _mm512_sub_epi16(both, _mm512_slli_epi16::<8>(odd));
    // The two halves of a register hold different groups of the same rows.
    let parts = [even, odd].map(|x| _mm256_add_epi16(_mm512_castsi512_si256(x), _mm512_extracti64x4_epi64::<1>(x)));
    let (step, offset, bar) = (_mm512_set1_ps(tables.step), _mm512_set1_ps(tables.offset), _mm512_set1_ps(bar));
    let mut above = 0;
    for (i, part) in parts.into_iter().enumerate() {
        let sum = _mm512_cvtepi32_ps(_mm512_cvtepu16_epi32(part));
        // SAFETY: i < 2, so sixteen factors and sixteen estimates from 16 i lie inside of their 32.
        let estimate = unsafe {
            let factor = _mm512_loadu_ps(factors.as_ptr().cast::<f32>().add(16 * i));
            let estimate = _mm512_mul_ps(factor, _mm512_add_ps(_mm512_mul_ps(sum, step), offset));
            _mm512_storeu_ps(out.as_mut_ptr().add(16 * i), estimate);
            estimate
        };
        let mask = _mm512_cmp_ps_mask::<_CMP_GE_OQ>(estimate, bar);
        above |= u32::from(mask) << (16 * i);
    }
    above
}
