//! Provides documents for tests and benchmarks, and servers for tests.
//!
//! # Layout
//! - [`prose`] – sentences from a seed, and marker words that occur on one page of one document only;
//! - [`pdf`] – a writer of small, valid PDFs;
//! - [`generate`] – whole documents from a seed ([`two_pages`], [`pages`], [`with_text`], [`markdown`], [`plain_text`]);
//! - [`hostile`] – files that are damaged, encrypted, endless, or of another type than the file name says;
//! - [`fuzz`](mod@fuzz) – mutations of valid files, for readers that must survive them;
//! - [`servers`] – real servers of AWS's protocols, started on loopback and removed with the test;
//! - [`proxy`] – a proxy between a client and a server that loses, cuts or delays requests;
//! - [`encrypted`] – a server whose certificate no machine trusts;
//! - [`processes`] – a small disk, and processes that can be killed.
//!
//! Every document is a pure function of its arguments: the same seed gives the same bytes on every machine. A test
//! can therefore name the document that failed, and a benchmark always reads the same corpus. Only [`servers`],
//! [`proxy`], [`encrypted`] and [`processes`] use the network, processes or mounts. Nothing here is part of the product. Nothing
//! here reads a PDF or calls a server's API; the product's tests do.

#![forbid(unsafe_code)]

pub mod encrypted;
#[allow(clippy::print_stdout, clippy::panic, clippy::disallowed_methods, reason = "only tests use this module")]
pub mod fuzz;
pub mod generate;
pub mod hostile;
pub mod pdf;
#[allow(clippy::unwrap_used, clippy::print_stderr, reason = "only tests use this module")]
pub mod processes;
pub mod prose;
pub mod proxy;
pub mod servers;

pub use generate::{long_pages, markdown, pages, plain_text, two_pages, with_text};
pub use prose::marker;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
