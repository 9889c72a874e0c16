//! Implements what each stage does to one document, without actors, queues or stores.
//!
//! A stage is a function from one artefact to the next. Where several implementations exist, the function is behind a
//! small trait. Anything that can call a function can run a stage: Docweir's actor pools, `docweir stage`, or another
//! engine.

pub mod chunk;
pub mod embed;
pub mod enrich;
pub mod in_flight;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
