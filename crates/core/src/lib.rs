//! The vocabulary that every other crate of Docweir speaks.
//!
//! Nothing here does I/O on a document or knows of a store, a provider or an actor. A type belongs here when at least two
//! layers that must not know each other exchange it.
//!
//! | module | what is in it |
//! | --- | --- |
//! | [`documents`] | ids, versions, content hashes, the five stages, media types |
//! | [`member`] | sources of documents within documents |
//! | [`model`] | the artefacts that pass from stage to stage, and the identity of an embedding model |
//! | [`error`] | a failure of one stage on one document, and its class |
//! | [`backoff`] | waits between attempts |
//! | [`cache`] | caches of vectors and findings: what a store of them does |
//! | [`cancel`] | the token that ends work |
//! | [`clock`] | the only place that reads a clock |
//! | [`money`] | exact amounts |
//! | [`memory`] | how much memory this process has |
//! | [`failpoint`] | places where a test can make the process fail |

pub mod backoff;
pub mod cache;
pub mod cancel;
pub mod clock;
pub mod documents;
pub mod error;
pub mod failpoint;
pub mod member;
pub mod memory;
pub mod model;
pub mod money;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
