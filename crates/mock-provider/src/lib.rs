//! A mock provider for the OpenAI-compatible API and for Amazon Comprehend, for tests and benchmarks.
//!
//! It speaks the wire format of embeddings, files, batches, models and (barely) chat, and of Comprehend's calls that
//! answer at once, enforces the documented limits,
//! writes down everything that it charges, and goes wrong on demand. A test that runs against it learns what a
//! mistake would have cost.
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
//! - [`MockProvider`] (`server.rs`): a thread with the server on it. `world.rs`: what all requests share.
//! - `route.rs`: from a request to its reply, faults included. `control.rs`: `/_mock/…`, which OpenAI does not have.
//! - `embeddings.rs`, `chat.rs`, `files.rs`, `batches/`: one endpoint each; `vectors.rs`: what is returned.
//! - `comprehend/`: the same of Comprehend, on the same address: its requests name their target in a header.
//! - `rates.rs`: requests and tokens a minute. `faults.rs`: which request goes wrong, and how.
//! - `ledger.rs`: the only state that lasts: a journal of events, and what they add up to (`charges.rs`).
//!
//! # What holds
//! - What a client was told is in the journal before the reply leaves, so a killed mock provider goes on where it was.
//! - A row of a batch is charged once, also over a restart.
//! - The same seed and the same requests in the same order meet the same faults.
//! - Equal texts have equal vectors, in whichever request, batch or process: see [`vector`].
//!
//! # Trade-offs
//! State is one mutex and one journal that is never compacted: plain, and fast enough for millions of rows. The
//! journal is written, not synced: it outlives the process, not the machine. Keys share one organisation: files and
//! batches of one are seen by all.

mod arguments;
mod batches;
mod charges;
mod chat;
mod clock;
mod comprehend;
mod control;
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
pub use error::MockProviderError;
pub use faults::{Act, On, Rule};
pub use options::{Limits, Model, Options, Pace, Rates};
pub use server::MockProvider;
pub use vectors::vector;
