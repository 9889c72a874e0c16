//! Provides search as a service of the library. The callers (the command line, HTTP, other programs) only translate
//! requests and results.
//!
//! ```text
//! QueryOptions ─▶ SearchService ─▶ SearchSession (one version of one collection) ─▶ SearchResponse
//!                  │       └ LazyEmbedder: opened by the first query that needs a vector
//!                  └ collections: opened once, their views reused until the manifest changes
//! ```
//! - `query` holds the options and their limits; [`filter`] parses typed filters.
//! - `service` opens the collections; `session` answers the queries of one version.
//! - `passage` holds the results; `error` holds the errors.
//!
//! # Trade-offs
//! A search of the newest version always reads the manifest first, so the search sees every commit that was
//! acknowledged before. Past versions are not cached, because erased content must not survive in a cache. Each
//! session therefore opens its past version again.

mod embedder;
mod error;
pub mod filter;
mod passage;
mod query;
mod service;
mod session;
#[cfg(test)]
mod tests;

pub use embedder::LazyEmbedder;
pub use error::{Cause, SearchError};
pub use filter::{Filter, FilterError};
pub use passage::{Passage, SearchResponse};
pub use query::{Mode, QueryOptions};
pub use service::{SearchService, ServiceOptions};
pub use session::SearchSession;
