//! A BERT-class sentence encoder: text in, unit-length vectors out, on any CPU.
//!
//! Loads a model such as all-MiniLM-L6-v2 from `model.safetensors`, `tokenizer.json` and `config.json`, tokenises
//! exactly as the reference library does, and runs the forward pass in f32. No native library, no thread of its own:
//! [`Encoder::encode`] takes `&self` and runs on the caller's thread, so that a pool may run several at once over
//! one set of weights.
//!
//! # Layout
//! - [`Encoder`] (`encoder.rs`): the public face; packs texts into groups and hands them to the forward pass.
//! - `tokenizer/`: BERT's uncased WordPiece.
//! - `weights.rs`, `config.rs`: reading and checking the model's files, laying the matrices out for the kernel.
//! - `forward.rs`: the network over one packed group. `math.rs`, `tile.rs`: what its time is spent in.
//! - `kernel.rs`: the same source compiled for several instruction sets, chosen at run time.
//!
//! # What holds
//! - A text's vector is the same, bit for bit, alone or in any batch, in any order, on any thread: rows never share
//!   an accumulator, and every sum has one fixed order, written in the source.
//! - Every kernel is compiled from the same source. Those with fused multiply-add agree bit for bit with each other;
//!   the portable one differs by rounding only (cosine above 0.999999).
//! - A text longer than [`Encoder::max_tokens`] is refused, never cut.
//!
//! # Trade-offs
//! f32 throughout: simple, portable and exact, at a quarter of the speed of int8 dot products. Tensors other than
//! f32, cased models and pooling other than the mean are refused with a message.

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
