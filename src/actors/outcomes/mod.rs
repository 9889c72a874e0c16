//! Makes the outcome of every job durable before its pool lets go of it, and hands the document on.
//!
//! The pool decides what is to happen (done, retry, quarantine, park, release). [`StageOutcomes`] writes it to the
//! control store, in one transaction with the audit log, fenced by the claim's epoch. Work under a claim that is no
//! longer valid is dropped without an error: whoever holds the claim now answers for the document.
//!
//! | file | what is in it |
//! | --- | --- |
//! | `children` | the documents that a document contains |
//! | `claims` | the claims that this process holds |
//! | `context` | what all stages share, and transitions under a claim |
//! | `stage` | what becomes of an attempt: done, retry, park, release |
//! | `quarantine` | giving a document up |
//! | `removal` | removing a document's objects |
//! | `errors` | errors of the control store as errors of a stage |
//! | `job_spec` | how a pool accounts for a job |
//! | `log` | one log line for each outcome |

mod children;
mod claims;
mod context;
mod errors;
mod job_spec;
mod log;
mod quarantine;
mod removal;
mod stage;

pub use children::documents as child_documents;
pub use claims::Claims;
pub use context::StageContext;
pub use errors::{control, storage};
pub use job_spec::spec;
pub use stage::StageOutcomes;

#[cfg(test)]
mod family_tests;
#[cfg(test)]
mod tests;
