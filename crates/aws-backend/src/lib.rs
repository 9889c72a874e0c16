//! State, queues and providers in AWS, behind the traits of `docweir-objects`, `docweir-stores` and `docweir-providers`.
//!
//! The only crate that knows both AWS's calls (`docweir-aws`) and what Docweir keeps. A program that is built without it
//! has no other difference.
//!
//! | module | what it implements |
//! | --- | --- |
//! | [`s3`], [`dynamo_objects`] | `ObjectStore` in a bucket; for small objects in a table |
//! | [`control`] | `ControlStore` |
//! | [`ledger`] | `Ledger` |
//! | [`batches`] | `Batches` |
//! | [`record_table`] | `RecordTable` |
//! | [`queues`] | `Queue` |
//! | [`comprehend`] | `Remote` of Comprehend |
//! | [`secrets`] | `Vault` |

pub mod batches;
pub mod comprehend;
pub mod control;
pub mod dynamo_objects;
pub mod ledger;
pub mod queues;
pub mod record_table;
pub mod s3;
pub mod secrets;

#[cfg(test)]
mod comprehend_tests;
#[cfg(test)]
mod index_replicas_tests;
#[cfg(test)]
mod index_s3_tests;
#[cfg(test)]
mod record_table_tests;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
