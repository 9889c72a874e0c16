//! Encodes unit vectors as one bit per dimension, and compares a query with a million such codes in milliseconds.
//!
//! A code holds the signs of a rotated vector and one factor. At 384 dimensions, a code takes 52 bytes, and the vector
//! takes 1,536 bytes. A scan computes an estimate of the dot product from each code. The estimate is unbiased, with a
//! standard deviation of about 0.75/√d ([RaBitQ]). The scan keeps the rows with the best estimates, and the caller
//! computes the exact scores of those few rows.
//!
//! ```
//! use docweir_codes::{Candidates, Codec};
//!
//! let vectors = [[0.6, 0.8, 0.0], [0.0, 0.6, 0.8], [1.0, 0.0, 0.0]];
//! let codec = Codec::new(3, 7)?; // three dimensions, seed 7
//! let mut writer = codec.writer();
//! for vector in &vectors {
//!     writer.push(vector)?;
//! }
//! let codes = writer.finish(); // the bytes to store in a file
//!
//! let question = [0.8, 0.6, 0.0];
//! let query = codec.query(&question)?;
//! let mut candidates = Candidates::new(codec.candidates(1, vectors.len()));
//! query.scan(&codes, 0..vectors.len(), None, 0, &mut candidates)?;
//! let exact = |row: u32| vectors[row as usize].iter().zip(&question).map(|(a, b)| a * b).sum();
//! let nearest = query.nearest(1, 1, candidates, exact);
//! assert_eq!(nearest.neighbours.len(), 1);
//! # Ok::<(), docweir_codes::CodesError>(())
//! ```
//!
//! # Layout
//! - [`Codec`] (`codec.rs`): the entry point. A codec has a dimension and a seed, and encodes vectors.
//! - `rotation.rs`: the rotation that spreads a vector evenly over its coordinates. `sum.rs`: sums in one fixed
//!   order.
//! - `layout.rs`: the position of a row's bits in a block. [`BlockWriter`] (`writer.rs`): appends rows, encoded or
//!   copied.
//! - [`Query`] (`query.rs`): the lookup tables of a query vector, and the scan. [`Candidates`]: the best rows so far.
//! - `rerank.rs`: the number of candidates, and the condition that ends the exact scoring. [`Nearest`] says when it is
//!   not met.
//! - [`Kernel`] (`kernel.rs`, `kernel/`): implementations for several instruction sets, chosen at run time.
//!
//! # Guarantees
//! - Codes and estimates are identical, bit for bit, with every kernel and on every machine. They depend only on the
//!   dimension, the seed and the vector, so a row can be copied between files.
//! - Candidates depend only on the set of offered rows, not on their order, their files or the number of threads.
//! - A filter does not slow a scan down: blocks without an allowed row are skipped. Only allowed rows are returned.
//!
//! # Trade-offs
//! Codes have one bit per dimension instead of two or four. With more bits, the same recall needs fewer exact scores:
//! 100 with one bit, 50 with two bits and 20 with four bits. But most of the latency of a search is the scan, and the
//! duration of the scan grows with the number of bytes. For a hundred thousand rows and more, a scan with two bits
//! takes at least twice as long. If exact scores were expensive, for example with vectors on a slow disk, more bits
//! would be better.
//!
//! The portable kernel is thirty times slower than the AVX2 kernel. A lookup in a table of sixteen bytes needs a byte
//! shuffle, which compilers do not generate. The portable kernel runs on every machine and is fast enough for a
//! hundred thousand rows. On ARM, a kernel with `vqtbl1q_u8` would be worthwhile, but does not exist yet.
//!
//! [RaBitQ]: https://arxiv.org/abs/2405.12497

#![deny(unsafe_op_in_unsafe_fn)]
#![warn(missing_docs)]

mod candidates;
mod codec;
mod error;
mod kernel;
mod layout;
mod query;
mod rerank;
mod rotation;
mod sum;
mod writer;

pub use candidates::{BestFirst, Candidate, Candidates};
pub use codec::{Codec, MAX_DIMENSION};
pub use error::CodesError;
pub use kernel::Kernel;
pub use layout::BLOCK_ROWS;
pub use query::Query;
pub use rerank::{Nearest, Neighbour};
pub use writer::BlockWriter;
