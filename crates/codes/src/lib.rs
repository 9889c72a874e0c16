//! Codes of one bit a dimension for unit vectors, and a flat scan that compares a query with a million of them in
//! milliseconds.
//!
//! A code keeps the signs of a rotated vector and one factor: 52 bytes instead of 1536 at 384 dimensions. From it
//! comes an estimate of the dot product that is right on average and errs by about 0.75/√d ([RaBitQ]). A scan keeps
//! the rows whose estimates are best, and the caller computes the exact scores of those few.
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
//! let codes = writer.finish(); // what a file holds
//!
//! let question = [0.8, 0.6, 0.0];
//! let query = codec.query(&question)?;
//! let mut candidates = Candidates::new(codec.candidates(1, vectors.len()));
//! query.scan(&codes, 0..vectors.len(), None, 0, &mut candidates)?;
//! let exact = |row: u32| vectors[row as usize].iter().zip(&question).map(|(a, b)| a * b).sum();
//! let nearest = query.nearest(1, candidates, exact);
//! assert_eq!(nearest.len(), 1);
//! # Ok::<(), docweir_codes::CodesError>(())
//! ```
//!
//! # Layout
//! - [`Codec`] (`codec.rs`): the public face; a dimension and a seed, and from a vector to its code.
//! - `rotation.rs`: what makes every coordinate worth the same bit. `sum.rs`: sums of one fixed order.
//! - `layout.rs`: where a row's bits lie in a block. [`BlockWriter`] (`writer.rs`): rows appended, encoded or copied.
//! - [`Query`] (`query.rs`): tables from a query's vector, and the scan. [`Candidates`]: the best rows so far.
//! - `rerank.rs`: how many candidates, and when a search has looked at enough of them.
//! - [`Kernel`] (`kernel.rs`, `kernel/`): the same for several instruction sets, chosen at run time.
//!
//! # What holds
//! - Codes and estimates are the same, bit for bit, with every kernel and on every machine. They depend on the
//!   dimension, the seed and the vector alone: a row can be copied anywhere.
//! - Candidates depend on the set of rows that were offered: not on their order, their files or the threads.
//! - A filter costs nothing: blocks without an allowed row are skipped, and no row that is not allowed comes out.
//!
//! # Trade-offs
//! One bit, and not two or four: they need fewer exact scores for the same recall (50 and 20 where one bit needs
//! 100), but the scan is what a search waits for, and it grows with the bytes: from a hundred thousand rows two bits cost
//! at least twice the time. Where exact scores are dear, because vectors come from a slow disk, this would be
//! different.
//!
//! The portable kernel is thirty times slower than AVX2: a lookup in sixteen bytes needs a shuffle of bytes, which
//! no compiler finds. It is right everywhere and fast enough for a hundred thousand rows; ARM deserves one with
//! `vqtbl1q_u8`.
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
pub use rerank::Neighbour;
pub use writer::BlockWriter;
