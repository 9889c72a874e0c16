//! Wraps Docweir's calls to AWS in thin, typed functions, each with a timeout.
//!
//! This crate is the only one that uses the AWS SDKs. Its interface consists of plain types: bytes, keys,
//! [`dynamo::Item`]s, and one error type, [`Fault`]. A [`Fault`] says whether a failed call may have been carried
//! out. The crate knows nothing of documents or vectors.
//!
//! - [`Aws`] – region, credentials, endpoints and timeouts, from which all clients are built
//! - [`comprehend`] – detects languages, entities, key phrases, sentiment and personal data
//! - [`dynamo`] – items, conditional writes, transactions, queries
//! - [`s3`] – objects in buckets
//! - [`secrets`] – values of secrets
//! - [`cloudwatch`] – metrics
//! - [`identity`] – the account and ARN that the credentials belong to
//! - [`operations`] – all AWS operations that Docweir calls, and the IAM actions that they need
//! - [`sqs`] – messages in queues
//!
//! Credentials come from the default provider chain of AWS: environment, profile, SSO, web identity, container, instance.
//! They are read again when AWS refuses them.

#[cfg(feature = "clients")]
mod access;
#[cfg(feature = "clients")]
pub mod cloudwatch;
#[cfg(feature = "clients")]
pub mod comprehend;
#[cfg(feature = "clients")]
mod credentials;
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
