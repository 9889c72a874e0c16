//! Calls endpoints with OpenAI's protocol.
//!
//! - [`options`] configures the endpoint, the model and the limits; [`tokens`] counts tokens as the models do
//! - [`client`] sends single calls to an `address`, over connections that `tls` secures
//! - `answer` and `wire` read the JSON; `call_error` classifies failed calls by status and `error_body`
//! - `excerpt` quotes an answer in a message; `issuer` names the issuer of a certificate
//! - [`embedder`] embeds texts: packs and admits requests, and halves refused requests; `blame` finds texts that make
//!   the server fail
//! - [`files`] and `download` transfer files; [`transfer`] holds their limits
//! - [`batches`] calls the Batch API; [`request_lines`] writes its input, [`results`] reads its output

mod address;
mod answer;
pub mod batches;
mod blame;
mod call_error;
pub mod client;
#[cfg(test)]
mod dialect_tests;
mod download;
pub mod embedder;
mod error_body;
mod excerpt;
pub mod files;
mod issuer;
pub mod options;
mod page;
pub mod request_lines;
mod result_line;
pub mod results;
mod tls;
pub mod tokens;
pub mod transfer;
mod wire;

pub use answer::Vectors;
pub use batches::{BatchObject, BatchProblem, RemoteBatchStatus, RequestCounts};
pub use call_error::CallError;
pub use client::Client;
pub use embedder::OpenAiEmbedder;
pub use options::{OpenAiOptions, OverLong};
pub use page::Page;
pub use request_lines::RequestLines;
pub use results::{Flaw, ItemResult, NO_BASE64, ReadOptions, open_results, read_results};
pub use transfer::{TransferError, TransferOptions};
