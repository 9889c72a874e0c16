//! What a run tells those who watch it: figures, and lines of the log that belong together.
//!
//! - [`trace`] what every line about a document carries; [`json`] lines as JSON objects
//! - [`documents`] figures of documents, from the events of a run
//! - [`actors`] names of the metrics that actors count
//! - [`recorder`] where the process's figures go; [`figures`] their sums since they were last looked at
//! - [`names`] figures under the names that CloudWatch knows them by
//! - [`publisher`] sends them, and counts what it could not send; [`emf`] the same as lines of a log
//!
//! Figures are counted, sent and given up by the number: what could not be sent is said, never dropped in silence.

pub mod actors;
pub mod documents;
pub mod emf;
pub mod figures;
pub mod json;
pub mod names;
pub mod options;
pub mod publisher;
pub mod recorder;
pub mod trace;

pub use options::{CloudWatchMode, CloudWatchOptions};
