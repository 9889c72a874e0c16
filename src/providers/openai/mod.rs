//! Endpoints that speak OpenAI's protocol.
//!
//! - [`options`] where, which model, which limits; [`tokens`] how its models count
//! - [`client`] one call each, and what its end means; `wire` the JSON
//! - [`embedder`] texts to vectors: packed, admitted, halved where one of them is refused

pub mod client;
pub mod embedder;
pub mod options;
pub mod tokens;
mod wire;

pub use client::{CallError, Client};
pub use embedder::OpenAiEmbedder;
pub use options::{OpenAiOptions, OverLong};
