//! Simulates an OpenAI-compatible provider and Amazon Comprehend for tests and benchmarks.
//!
//! The mock provider implements the wire format of embeddings, files, batches, models and a small part of chat, and
//! Comprehend's synchronous operations. It enforces the documented limits, records each charge, and fails on demand. A
//! test can therefore check how much a mistake in the tested program would cost.
//!
//! ```
//! use docweir_mock_provider::{Act, On, Options, Rule, MockProvider};
//!
//! let mock = MockProvider::start(Options::default())?;
//! mock.set_faults(vec![Rule::new(On::Embeddings, Act::Status).code(503).times(2)])?;
//! assert!(mock.base_url().ends_with("/v1"));
//! assert_eq!(mock.charges().live.tokens, 0);
//! # Ok::<(), docweir_mock_provider::MockProviderError>(())
//! ```
//!
//! # Layout
//! - [`MockProvider`] (`server.rs`) runs the server on its own thread. `world.rs` holds the state that all requests
//!   share.
//! - `route.rs` passes each request to the module that answers it, and applies faults. `control.rs` serves
//!   `/_mock/…`, which OpenAI does not have.
//! - `embeddings.rs`, `chat.rs`, `files.rs` and `batches/` serve one endpoint each. `vectors.rs` computes the
//!   vectors.
//! - `comprehend/` serves Comprehend on the same address. Requests to Comprehend name the operation in a header.
//! - `dialect.rs` changes replies into the forms that other servers send.
//! - `rates.rs` limits requests and tokens per minute. `faults.rs` selects failures.
//! - `ledger.rs` keeps the only persistent state: a journal of events, and their totals (`charges.rs`).
//!
//! # Guarantees
//! - A change is in the journal before its reply is sent, so a restarted mock provider continues where it was killed.
//! - A row of a batch is charged once, even across restarts.
//! - The same seed and the same requests in the same order cause the same faults.
//! - Equal texts have equal vectors in all requests, batches and processes (see [`vector`]).
//!
//! # Trade-offs One mutex protects the whole state, and the journal is never compacted. This is simple, and fast
//! enough for millions of rows. The journal is written but not synced, so it survives a crash of the process but not
//! of the machine. All keys belong to one organisation, so each key sees the files and batches of all keys.

mod arguments;
mod batches;
mod charges;
mod chat;
mod clock;
mod comprehend;
mod control;
mod dialect;
mod embeddings;
mod error;
mod faults;
mod files;
mod ledger;
mod options;
mod problem;
mod query;
mod rates;
mod reply;
mod route;
mod server;
mod vectors;
mod world;

pub use arguments::{Arguments, HELP};
pub use charges::{AnalysisCharges, BatchEntry, Charges, Paid, Split, Sum, Times, text_hash};
pub use comprehend::ComprehendLimits;
pub use dialect::{Dialect, UNEMBEDDABLE};
pub use error::MockProviderError;
pub use faults::{Act, On, Rule};
pub use options::{Limits, Model, Options, Pace, Rates};
pub use server::MockProvider;
pub use vectors::vector;
