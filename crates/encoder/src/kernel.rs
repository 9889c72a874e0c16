//! Compiles the forward pass for several instruction sets from one source.
//!
//! [`forward`](crate::forward::forward) is compiled once for each [`Kernel`], with the instructions of that kernel and
//! a tile that fills the registers. The kernel is chosen when a model is loaded, because the weights are packed for the
//! tile. To add a kernel, add a variant, a tile size and one function in this file.

use std::fmt;
use std::path::Path;
use std::str::FromStr;

use crate::config::ConfigFile;
use crate::error::EncoderError;
use crate::forward::{Scratch, forward};
use crate::weights::{Network, WeightsFile};

/// Selects the instruction set for which the forward pass is compiled.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Kernel {
    /// x86-64 with AVX-512F; a tile has 6 rows of 64 floats.
    Avx512,
    /// x86-64 with AVX2 and FMA; a tile has 6 rows of 16 floats.
    Avx2,
    /// Instructions that every CPU of the compilation target has.
    Portable,
}

impl Kernel {
    /// All kernels, the best first.
    pub const ALL: [Kernel; 3] = [Kernel::Avx512, Kernel::Avx2, Kernel::Portable];

    /// Returns whether this CPU can run the kernel.
    pub fn is_available(self) -> bool {
        match self {
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512 => is_x86_feature_detected!("avx512f"),
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma"),
            #[cfg(not(target_arch = "x86_64"))]
            Kernel::Avx512 | Kernel::Avx2 => false,
            Kernel::Portable => true,
        }
    }

    /// Returns the best kernel that this CPU can run.
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

impl fmt::Display for Kernel {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

impl FromStr for Kernel {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let known = Kernel::ALL.into_iter().find(|k| k.name() == text);
        known.ok_or_else(|| format!("unknown kernel `{text}`; use avx512, avx2 or portable"))
    }
}

/// Width of a tile of the portable and the AVX2 kernel, in cache lines.
const NARROW: usize = 1;
const WIDE: usize = 4;
/// Height of a tile of the portable kernel, in rows. The height suits the vector registers that every CPU of the
/// compilation target has: 16 registers on x86-64 and 32 registers elsewhere, each of 128 bits.
const PORTABLE_ROWS: usize = if cfg!(target_arch = "x86_64") { 2 } else { 6 };
/// True if every CPU of the compilation target has fused multiply-add. If false, the portable kernel multiplies and
/// adds in two steps, because `mul_add` would be a slow call to libm.
const PORTABLE_FMA: bool = cfg!(any(target_feature = "fma", target_arch = "aarch64"));

/// Holds the weights packed for one kernel.
///
/// # Invariant
/// A variant can exist only if the CPU supports the variant's kernel. Only [`Model::load`] creates values of this type,
/// and [`Model::load`] refuses a kernel that the CPU does not support.
pub(crate) enum Model {
    #[cfg(target_arch = "x86_64")]
    Avx512(Network<WIDE>),
    #[cfg(target_arch = "x86_64")]
    Avx2(Network<NARROW>),
    Portable(Network<NARROW>),
}

impl Model {
    pub fn load(weights: &Path, config: &ConfigFile, kernel: Kernel) -> Result<Self, EncoderError> {
        if !kernel.is_available() {
            return Err(EncoderError::KernelUnavailable(kernel));
        }
        let file = WeightsFile::open(weights)?;
        match kernel {
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx512 => Ok(Model::Avx512(file.network(config)?)),
            #[cfg(target_arch = "x86_64")]
            Kernel::Avx2 => Ok(Model::Avx2(file.network(config)?)),
            _ => Ok(Model::Portable(file.network(config)?)),
        }
    }

    pub fn kernel(&self) -> Kernel {
        match self {
            #[cfg(target_arch = "x86_64")]
            Model::Avx512(_) => Kernel::Avx512,
            #[cfg(target_arch = "x86_64")]
            Model::Avx2(_) => Kernel::Avx2,
            Model::Portable(_) => Kernel::Portable,
        }
    }

    /// Returns the hidden size, the number of positions and the number of words.
    pub fn sizes(&self) -> (usize, usize, usize) {
        fn of<const L: usize>(network: &Network<L>) -> (usize, usize, usize) {
            (network.hidden, network.positions.len() / network.hidden, network.words.count())
        }
        match self {
            #[cfg(target_arch = "x86_64")]
            Model::Avx512(network) => of(network),
            #[cfg(target_arch = "x86_64")]
            Model::Avx2(network) => of(network),
            Model::Portable(network) => of(network),
        }
    }

    pub fn forward(&self, texts: &[&[u32]], scratch: &mut Scratch, out: &mut Vec<Vec<f32>>) {
        match self {
            // SAFETY: the variant exists, so `load` has found AVX-512F on this CPU.
            #[cfg(target_arch = "x86_64")]
            Model::Avx512(network) => unsafe { forward_avx512(network, texts, scratch, out) },
            // SAFETY: the variant exists, so `load` has found AVX2 and FMA on this CPU.
            #[cfg(target_arch = "x86_64")]
            Model::Avx2(network) => unsafe { forward_avx2(network, texts, scratch, out) },
            Model::Portable(network) => {
                forward::<PORTABLE_FMA, PORTABLE_ROWS, NARROW, NARROW>(network, texts, scratch, out);
            }
        }
    }
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx512f")]
fn forward_avx512(network: &Network<WIDE>, texts: &[&[u32]], scratch: &mut Scratch, out: &mut Vec<Vec<f32>>) {
    forward::<true, 6, WIDE, 2>(network, texts, scratch, out);
}

#[cfg(target_arch = "x86_64")]
#[target_feature(enable = "avx2,fma")]
fn forward_avx2(network: &Network<NARROW>, texts: &[&[u32]], scratch: &mut Scratch, out: &mut Vec<Vec<f32>>) {
    forward::<true, 6, NARROW, NARROW>(network, texts, scratch, out);
}
