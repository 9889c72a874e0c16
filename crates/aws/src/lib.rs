//! Docweir's calls to AWS: thin, typed, and each with a limit.
//!
//! The one boundary behind which the SDKs lie. What crosses it are plain types: bytes, keys, [`dynamo::Item`]s, and one
//! error, [`Fault`], that says what a caller has to know of a failed call: whether it may have been carried out. Knows
//! nothing of documents or vectors.
//!
//! - [`Aws`] region, credentials, endpoints, time limits: what every client is made from
//! - [`comprehend`] languages, entities, key phrases, sentiment, personal data
//! - [`dynamo`] items, conditional writes, transactions, queries
//! - [`s3`] objects in buckets
//! - [`secrets`] values of secrets
//! - [`cloudwatch`] figures; [`identity`] who asks
//! - [`operations`] every call by its name, and what a policy has to allow for it
//! - [`sqs`] messages in queues
//!
//! Credentials come from where every tool of AWS looks for them: environment, profile, web identity, container, instance.

#[cfg(feature = "clients")]
mod access;
#[cfg(feature = "clients")]
pub mod cloudwatch;
#[cfg(feature = "clients")]
pub mod comprehend;
#[cfg(feature = "clients")]
pub mod dynamo;
#[cfg(feature = "clients")]
mod fault;
#[cfg(feature = "clients")]
pub mod identity;
pub mod operations;
mod options;
#[cfg(feature = "clients")]
pub mod s3;
#[cfg(feature = "clients")]
pub mod secrets;
#[cfg(feature = "clients")]
pub mod sqs;

#[cfg(feature = "clients")]
pub use access::Aws;
#[cfg(feature = "clients")]
pub use fault::{Fault, FaultKind};
pub use options::{AwsOptions, DynamoOptions, S3Options, is_table_name};
