//! Implements the AVX2 kernel. One register holds one slice of a block: two groups of each of the 32 rows.

use std::arch::x86_64::*;

use super::AHEAD;
use crate::codec;
use crate::layout::{BLOCK_ROWS, FACTOR_BYTES};
use crate::query::{self, Tables};
use crate::rotation::Rotation;

super::shared!(#[target_feature(enable = "avx2")]);

#[target_feature(enable = "avx2")]
pub(super) fn block(tables: &Tables, block: &[u8], bar: f32, out: &mut [f32; BLOCK_ROWS]) -> u32 {
    let (factors, codes) = block.split_at(FACTOR_BYTES.min(block.len()));
    let Some(factors) = factors.first_chunk::<FACTOR_BYTES>() else { return 0 };
    let low = _mm256_set1_epi8(15);
    // 16-bit sums: `both` adds the even bytes plus 256 times the odd bytes, `odd` adds the odd bytes.
    let (mut both, mut odd) = (_mm256_setzero_si256(), _mm256_setzero_si256());
    for (codes, tables) in codes.as_chunks::<64>().0.iter().zip(tables.entries.as_chunks::<128>().0) {
        // SAFETY: each load of 32 bytes lies within the 64 or 128 bytes of its chunk; loads may be unaligned. A
        // prefetch does not access memory architecturally, so an address outside every allocation is harmless.
        let (first, second, a, c, b, d) = unsafe {
            let (codes, tables) = (codes.as_ptr(), tables.as_ptr());
            _mm_prefetch::<_MM_HINT_T0>(codes.wrapping_add(AHEAD).cast());
            (
                _mm256_loadu_si256(codes.cast()),
                _mm256_loadu_si256(codes.add(32).cast()),
                _mm256_loadu_si256(tables.cast()),
                _mm256_loadu_si256(tables.add(32).cast()),
                _mm256_loadu_si256(tables.add(64).cast()),
                _mm256_loadu_si256(tables.add(96).cast()),
            )
        };
        let a = _mm256_shuffle_epi8(a, _mm256_and_si256(first, low));
        let b = _mm256_shuffle_epi8(b, _mm256_and_si256(_mm256_srli_epi16::<4>(first), low));
        let c = _mm256_shuffle_epi8(c, _mm256_and_si256(second, low));
        let d = _mm256_shuffle_epi8(d, _mm256_and_si256(_mm256_srli_epi16::<4>(second), low));
        // The sum of four entries fits into a byte, because an entry is at most `MAX_ENTRY`.
        let four = _mm256_add_epi8(_mm256_add_epi8(a, b), _mm256_add_epi8(c, d));
        both = _mm256_add_epi16(both, four);
        odd = _mm256_add_epi16(odd, _mm256_srli_epi16::<8>(four));
    }
    let even = _mm256_sub_epi16(both, _mm256_slli_epi16::<8>(odd));
    let parts = [
        _mm256_castsi256_si128(even),
        _mm256_extracti128_si256::<1>(even),
        _mm256_castsi256_si128(odd),
        _mm256_extracti128_si256::<1>(odd),
    ];
    let (step, offset, bar) = (_mm256_set1_ps(tables.step), _mm256_set1_ps(tables.offset), _mm256_set1_ps(bar));
    let mut above = 0;
    for (i, part) in parts.into_iter().enumerate() {
        let sum = _mm256_cvtepi32_ps(_mm256_cvtepu16_epi32(part));
        // SAFETY: i < 4, so eight factors and eight estimates from 8 i lie inside of their 32.
        let estimate = unsafe {
            let factor = _mm256_loadu_ps(factors.as_ptr().cast::<f32>().add(8 * i));
            let estimate = _mm256_mul_ps(factor, _mm256_add_ps(_mm256_mul_ps(sum, step), offset));
            _mm256_storeu_ps(out.as_mut_ptr().add(8 * i), estimate);
            estimate
        };
        let mask = _mm256_movemask_ps(_mm256_cmp_ps::<_CMP_GE_OQ>(estimate, bar));
        above |= (mask as u32) << (8 * i);
    }
    above
}
