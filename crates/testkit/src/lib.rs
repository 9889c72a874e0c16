//! Documents for tests and benchmarks.
//!
//! # Layout
//! - [`prose`]: sentences from a seed, and marker words that occur in one page of one document only;
//! - [`pdf`]: a writer of small, valid PDFs;
//! - [`generate`]: whole documents from a seed ([`two_pages`], [`pages`], [`with_text`], [`markdown`], [`plain_text`]);
//! - [`hostile`]: files that are damaged, locked, endless or not what their name says.
//!
//! Everything is a pure function of its arguments: the same seed gives the same bytes on every machine, so a test can
//! name the document that failed, and a benchmark reads the same corpus each time. Nothing here is part of the product,
//! and nothing here reads a PDF: what the product's parsers make of these files is for their tests to say.

#![forbid(unsafe_code)]

pub mod generate;
pub mod hostile;
pub mod pdf;
pub mod prose;

pub use generate::{markdown, pages, plain_text, two_pages, with_text};
pub use prose::marker;
