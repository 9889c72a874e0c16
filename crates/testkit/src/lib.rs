//! Documents for tests and benchmarks, and servers for tests.
//!
//! # Layout
//! - [`prose`]: sentences from a seed, and marker words that occur in one page of one document only;
//! - [`pdf`]: a writer of small, valid PDFs;
//! - [`generate`]: whole documents from a seed ([`two_pages`], [`pages`], [`with_text`], [`markdown`], [`plain_text`]);
//! - [`hostile`]: files that are damaged, locked, endless or not what their name says;
//! - [`servers`]: real servers of AWS's protocols, started on loopback and gone with the test;
//! - [`proxy`]: what stands between a client and a server, and fails;
//! - [`processes`]: a small disk, and processes that can be killed.
//!
//! Every document is a pure function of its arguments: the same seed gives the same bytes on every machine, so a test can
//! name the document that failed, and a benchmark reads the same corpus each time. Only [`servers`] and [`proxy`] touch the machine.
//! Nothing here is part of the product, and nothing here reads a PDF or calls a server's API: what the product makes of
//! them is for its tests to say.

#![forbid(unsafe_code)]

pub mod generate;
pub mod hostile;
pub mod pdf;
#[allow(clippy::unwrap_used, clippy::print_stderr, reason = "it is for tests")]
pub mod processes;
pub mod prose;
pub mod proxy;
pub mod servers;

pub use generate::{long_pages, markdown, pages, plain_text, two_pages, with_text};
pub use prose::marker;
