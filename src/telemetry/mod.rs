//! Publishes the metrics of a run, and labels the log lines that belong to one document.
//!
//! - [`trace`] – the fields of every log line about a document; [`json`] – log lines as JSON objects
//! - [`documents`] – metrics of documents, counted from the events of a run
//! - [`actors`] – names of the metrics that actors count
//! - [`recorder`] – passes metrics to the `/metrics` page and to the publisher; [`figures`] – collects metrics for
//!   the publisher
//! - [`names`] – the names of the metrics in CloudWatch
//! - [`publisher`] – sends metrics to CloudWatch; [`emf`] – writes metrics as log lines
//!
//! Metrics that could not be sent are counted and reported, so no metric is lost silently.

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
