//! Endpoints that speak OpenAI's protocol.
//!
//! - [`options`] where, which model, which limits; [`tokens`] how its models count
//! - [`client`] one call each, and what its end means; `wire` the JSON
//! - [`embedder`] texts to vectors: packed, admitted, halved where one of them is refused
//! - [`files`], `download` files up and down, [`transfer`] their limits
//! - [`batches`] the Batch API's calls; [`request_lines`] what is sent, [`results`] what comes back

pub mod batches;
pub mod client;
mod download;
pub mod embedder;
pub mod files;
pub mod options;
mod page;
pub mod request_lines;
mod result_line;
pub mod results;
pub mod tokens;
pub mod transfer;
mod wire;

pub use batches::{BatchObject, BatchProblem, RemoteBatchStatus, RequestCounts};
pub use client::{CallError, Client};
pub use embedder::OpenAiEmbedder;
pub use options::{OpenAiOptions, OverLong};
pub use page::Page;
pub use request_lines::RequestLines;
pub use results::{Flaw, ItemResult, ReadOptions, read_results};
pub use transfer::{TransferError, TransferOptions};
