//! Search as a service of the library: who asks (the command line, HTTP, another program) only translates.
//!
//! ```text
//! QueryOptions ─▶ SearchService ─▶ SearchSession (one version of one collection) ─▶ SearchResponse
//!                  │       └ LazyEmbedder: opened by the first query that needs a vector
//!                  └ collections: opened once, their views reused until the manifest changes
//! ```
//! - `query` the options and their limits; [`filter`] filters as they are typed
//! - `service` the collections; `session` the queries of one version
//! - `passage` what is found; `error` why nothing could be
//!
//! # Trade-offs
//! Each search of the newest version reads the manifest, so that it sees every commit that was acknowledged before.
//! A past version is opened anew for each session: what was erased from it must not live on in a cache.

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
