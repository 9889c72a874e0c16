//! Encodes text into vectors of unit length with a BERT-class sentence encoder, on any CPU.
//!
//! The crate loads a model such as all-MiniLM-L6-v2 from `model.safetensors`, `tokenizer.json` and `config.json`. It
//! tokenises exactly as the reference library does, and runs the forward pass in f32. It uses no native library and
//! starts no thread. [`Encoder::encode`] takes `&self` and runs on the caller's thread, so a pool can run several
//! calls at once over one set of weights.
//!
//! # Layout
//! - [`Encoder`] (`encoder.rs`) is the public interface; it packs texts into groups and passes them to the forward
//!   pass.
//! - `tokenizer/` implements BERT's uncased WordPiece.
//! - `weights.rs` and `config.rs` read and check the model's files, and lay out the matrices for the kernel.
//! - `forward.rs` runs the network over one packed group; `math.rs` and `tile.rs` contain its time-consuming parts.
//! - `kernel.rs` compiles the same source for several instruction sets and selects one at run time.
//!
//! # Guarantees
//! - The vector of a text has the same bits whether the text is encoded alone or in a batch, in any order and on any
//!   thread. Rows never share an accumulator, and every sum is computed in one fixed order, written in the source.
//! - Every kernel is compiled from the same source. Kernels with fused multiply-add give identical bits; the portable
//!   kernel differs by rounding only (cosine above 0.999999).
//! - A text longer than [`Encoder::max_tokens`] is refused, never truncated.
//!
//! # Trade-offs
//! All arithmetic is in f32. This is simple, portable and exact, but has only a quarter of the speed of int8 dot
//! products. Tensors other than f32, cased models and pooling other than the mean are refused with a message.

#![deny(unsafe_op_in_unsafe_fn)]
#![warn(missing_docs)]

mod config;
mod encoder;
mod error;
mod forward;
mod kernel;
mod math;
mod tile;
mod tokenizer;
mod weights;

pub use encoder::{Encoder, EncoderFiles, LoadOptions};
pub use error::EncoderError;
pub use kernel::Kernel;
pub use tokenizer::Tokenizer;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
