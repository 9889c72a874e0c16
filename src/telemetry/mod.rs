//! Publishes the metrics of a run, and labels the log lines that belong to one document.
//!
//! - [`trace`] – the fields of every log line about a document; [`json`] – log lines as JSON objects
//! - [`documents`] – metrics of documents, counted from the events of a run
//! - [`actors`] – names of the metrics that actors count
//! - [`recorder`] – the destinations of the metrics; [`figures`] – their sums since they were last taken
//! - [`names`] – the names of the metrics in CloudWatch
//! - [`publisher`] – sends metrics to CloudWatch, and counts those that it could not send; [`emf`] – metrics as log lines
//!
//! The number of metrics that could not be sent is counted and reported; none is dropped silently.

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
