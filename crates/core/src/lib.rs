//! Defines the vocabulary that all other crates of Docweir share.
//!
//! This crate does no I/O on documents and does not depend on stores, providers or actors. A type belongs in this crate
//! if two layers exchange values of the type, and neither layer may depend on the other.
//!
//! | module | content |
//! | --- | --- |
//! | [`documents`] | ids, versions, content hashes, the five stages, media types |
//! | [`member`] | names of documents within documents, such as attachments |
//! | [`model`] | the artefacts that one stage passes to the next, and the identity of an embedding model |
//! | [`error`] | failures of one stage on one document, and their classes |
//! | [`backoff`] | waits between attempts |
//! | [`cache`] | traits and options of two caches: of vectors, and of the answers of enrichment services |
//! | [`cancel`] | the token that cancels work |
//! | [`clock`] | the only access to the clock |
//! | [`money`] | exact amounts of money |
//! | [`number`] | numbers with their spelling, compared without rounding |
//! | [`files`] | safe opening of files that another program may have replaced |
//! | [`invisible`] | characters without a visible form, which texts and searches leave out |
//! | [`isolation`] | the isolation of processes from each other |
//! | [`memory`] | the memory use of this process |
//! | [`ranges`] | the check that the values of options are within their ranges |
//! | [`failpoint`] | named points in the code at which a test can make the process fail |

pub mod backoff;
pub mod cache;
pub mod cancel;
pub mod clock;
pub mod display;
pub mod documents;
pub mod error;
pub mod failpoint;
pub mod files;
pub mod invisible;
pub mod isolation;
pub mod member;
pub mod memory;
pub mod model;
pub mod money;
pub mod number;
pub mod ranges;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
