//! Calls endpoints with OpenAI's protocol.
//!
//! - [`options`] configures the endpoint, the model and the limits; [`tokens`] counts tokens as the models do
//! - [`client`] sends single calls and classifies their outcome; `wire` defines the JSON
//! - [`embedder`] embeds texts: packs and admits requests, and halves refused requests
//! - [`files`] and `download` transfer files; [`transfer`] holds their limits
//! - [`batches`] calls the Batch API; [`request_lines`] writes its input, [`results`] reads its output

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
