//! What each stage does to one document, with no actor, queue or store in sight.
//!
//! A stage is a function from one artefact to the next, behind a small trait where there is more than one way to do
//! it. Anything that can run a function can run a stage: the actor pools here, `docweir stage`, another engine.

pub mod chunk;
pub mod embed;
pub mod enrich;
pub mod in_flight;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
