//! Compiles the same source code for several instruction sets, and selects one of them at run time.
//!
//! The rotation, the encoding and the computation of lookup tables have one source, which is compiled once per
//! kernel. Only the comparison of a query with a block is written by hand for each kernel. The comparison looks up
//! bytes in a table of sixteen bytes. A byte shuffle does this lookup in one fast instruction, but compilers do not
//! generate byte shuffles. All kernels sum integers and convert each sum to an estimate by the same three operations
//! in the same order, without fused multiply-add. Every kernel therefore computes the same estimates, bit for bit.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use crate::layout::BLOCK_ROWS;
use crate::query::Tables;
use crate::rotation::Rotation;

/// Distance, in bytes, between the code byte that a kernel processes and the code byte that it prefetches at the same
/// time. The hardware prefetcher stops at the end of a page. Prefetching beyond the page makes a scan of a million
/// rows in memory twice as fast.
#[cfg(target_arch = "x86_64")]
const AHEAD: usize = 4096;

/// Identifies an implementation. Each implementation is compiled for one instruction set.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kernel {
    /// Requires x86-64 with AVX-512F and AVX-512BW. Processes four groups of 32 rows at a time.
    Avx512,
    /// Requires x86-64 with AVX2. Processes two groups of 32 rows at a time.
    Avx2,
    /// Portable code, compiled for the baseline of the target. The other kernels are tested against this kernel.
    Portable,
}

impl Kernel {
    /// All kernels, fastest first.
    pub const ALL: [Kernel; 3] = [Kernel::Avx512, Kernel::Avx2, Kernel::Portable];

    /// Returns whether this CPU can run the kernel.
    pub fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512 => is_x86_feature_detected!("avx512f") && is_x86_feature_detected!("avx512bw"),
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => is_x86_feature_detected!("avx2"),
            #[cfg(not(target_arch = "x86_64"))]
            Kernel::Avx512 | Kernel::Avx2 => false,
            Kernel::Portable => true,
        }
    }

    /// Returns the fastest kernel that this CPU can run.
    pub fn best() -> Kernel {
        Kernel::ALL.into_iter().find(|k| k.is_available()).unwrap_or(Kernel::Portable)
    }

    /// Returns the kernel's name: `avx512`, `avx2` or `portable`.
    pub fn name(self) -> &'static str {
        match self {
            Kernel::Avx512 => "avx512",
            Kernel::Avx2 => "avx2",
            Kernel::Portable => "portable",
        }
    }
}

/// Calls a function in the variant that was compiled for the given kernel.
///
/// The unsafe calls in the macro are sound: a [`Codec`](crate::Codec) holds only a kernel that this CPU can run, and a
/// query uses the kernel of its codec.
macro_rules! dispatch {
    ($kernel:expr, $name:ident($($arg:expr),*)) => {
        match $kernel {
            // SAFETY: a codec holds a kernel only if the CPU can run it (`Codec::with_kernel`).
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512 => unsafe { avx512::$name($($arg),*) },
            // SAFETY: the reason given for AVX-512 holds here too.
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => unsafe { avx2::$name($($arg),*) },
            _ => portable::$name($($arg),*),
        }
    };
}

/// Defines the functions that every kernel compiles from the same source.
macro_rules! shared {
    ($(#[$features:meta])*) => {
        $(#[$features])*
        pub(super) fn rotate(rotation: &Rotation, x: &mut [f32]) {
            rotation.apply(x);
        }

        $(#[$features])*
        pub(super) fn encode(rotated: &[f32], square: f32, groups: &mut [u8]) -> f32 {
            codec::encode(rotated, square, groups)
        }

        $(#[$features])*
        pub(super) fn tables(rotated: &[f32], groups: usize) -> Tables {
            query::tables(rotated, groups)
        }
    };
}
use shared;

impl Kernel {
    pub(crate) fn rotate(self, rotation: &Rotation, x: &mut [f32]) {
        dispatch!(self, rotate(rotation, x))
    }

    pub(crate) fn encode(self, rotated: &[f32], square: f32, groups: &mut [u8]) -> f32 {
        dispatch!(self, encode(rotated, square, groups))
    }

    pub(crate) fn tables(self, rotated: &[f32], groups: usize) -> Tables {
        dispatch!(self, tables(rotated, groups))
    }

    /// Writes the estimates of a block's rows to `out`. Returns a mask with one bit per row. A bit is set if the
    /// estimate of its row is at least `bar`. If no bit is set, a kernel may leave `out` unwritten.
    #[inline(always)]
    pub(crate) fn block(self, tables: &Tables, block: &[u8], bar: f32, out: &mut [f32; BLOCK_ROWS]) -> u32 {
        dispatch!(self, block(tables, block, bar, out))
    }
}
