//! One source, several instruction sets.
//!
//! The rotation, the coding and the tables are compiled once for each kernel from the same source. The comparison of
//! a block is written for each by hand, because it lives on one instruction (a shuffle of bytes as a lookup in a
//! table of sixteen) that no compiler finds by itself. Sums are whole numbers, and what becomes of them is three
//! operations in a fixed order without fusing, so every kernel gives the same estimates bit for bit.

#[cfg(target_arch = "x86_64")]
mod avx2;
#[cfg(target_arch = "x86_64")]
mod avx512;
mod portable;

use crate::layout::BLOCK_ROWS;
use crate::query::Tables;
use crate::rotation::Rotation;

/// Bytes ahead of what is compared that are fetched into the cache. The CPU foresees a scan by itself, but only to the
/// end of a page: from memory, this makes a scan of a million rows twice as fast.
#[cfg(target_arch = "x86_64")]
const AHEAD: usize = 4096;

/// A set of instructions.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kernel {
    /// x86-64 with AVX-512F and AVX-512BW: four groups of 32 rows at a time.
    Avx512,
    /// x86-64 with AVX2: two groups of 32 rows at a time.
    Avx2,
    /// The baseline of the target; the reference for the others.
    Portable,
}

impl Kernel {
    /// Best first.
    pub const ALL: [Kernel; 3] = [Kernel::Avx512, Kernel::Avx2, Kernel::Portable];

    /// Can this CPU run it?
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

    /// The best that this CPU can run.
    pub fn best() -> Kernel {
        Kernel::ALL.into_iter().find(|k| k.is_available()).unwrap_or(Kernel::Portable)
    }

    /// `avx512`, `avx2`, `portable`.
    pub fn name(self) -> &'static str {
        match self {
            Kernel::Avx512 => "avx512",
            Kernel::Avx2 => "avx2",
            Kernel::Portable => "portable",
        }
    }
}

/// Runs a function of this crate compiled for the kernel.
///
/// SAFETY of the calls: a [`Codec`](crate::Codec) holds only a kernel that this CPU can run, and a query takes the
/// kernel of its codec.
macro_rules! dispatch {
    ($kernel:expr, $name:ident($($arg:expr),*)) => {
        match $kernel {
            // SAFETY: a codec holds a kernel only if the CPU can run it (`Codec::with_kernel`).
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512 => unsafe { avx512::$name($($arg),*) },
            // SAFETY: as above.
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => unsafe { avx2::$name($($arg),*) },
            _ => portable::$name($($arg),*),
        }
    };
}

/// The functions that are compiled from one source, for one kernel.
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

    /// The estimates of a block's rows, and a bit for each that is not below the bar. Where no bit is set, the
    /// estimates need not be written.
    #[inline(always)]
    pub(crate) fn block(self, tables: &Tables, block: &[u8], bar: f32, out: &mut [f32; BLOCK_ROWS]) -> u32 {
        dispatch!(self, block(tables, block, bar, out))
    }
}
