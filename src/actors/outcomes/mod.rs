//! Makes the outcome of every job durable before the pool releases the job, and then forwards the document to the
//! next pool.
//!
//! The pool decides what happens to a job (done, retry, quarantine, park, release). [`StageOutcomes`] writes this
//! decision to the control store, in one transaction with the audit log. The write is fenced by the claim's epoch. If
//! the claim is no longer valid, the result is dropped without an error, and the process with the newer claim reports
//! the outcome.
//!
//! | file | contents |
//! | --- | --- |
//! | `children` | the documents that a document contains |
//! | `claims` | the claims that this process holds |
//! | `context` | the stores and tables that all stages share; changes of control records |
//! | `stage` | outcomes of an attempt: done, retry, park, release |
//! | `quarantine` | quarantining a document |
//! | `removal` | deletion of the objects of a deleted document |
//! | `errors` | errors of the control store as errors of a stage |
//! | `job_spec` | id, weight and lane of a job in a pool |
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
