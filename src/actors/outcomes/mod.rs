//! Makes the outcome of every job durable before its pool releases the job, and forwards the document.
//!
//! The pool decides what happens to a job (done, retry, quarantine, park, release). [`StageOutcomes`] writes the
//! decision to the control store, in one transaction with the audit log, fenced by the claim's epoch. Results under a
//! void claim are dropped without an error; the holder of the newer claim reports the outcome.
//!
//! | file | contents |
//! | --- | --- |
//! | `children` | the documents that a document contains |
//! | `claims` | the claims that this process holds |
//! | `context` | the state that all stages share, and transitions under a claim |
//! | `stage` | outcomes of an attempt: done, retry, park, release |
//! | `quarantine` | quarantining a document |
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
