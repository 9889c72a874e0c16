//! Implements state, queues and providers in AWS, behind the traits of `docweir-objects`, `docweir-stores` and
//! `docweir-providers`.
//!
//! This crate is the only one that depends on both the AWS calls (`docweir-aws`) and Docweir's stores. A program that
//! is built without this crate lacks AWS support and is otherwise the same.
//!
//! | module | implemented trait |
//! | --- | --- |
//! | [`s3`] | `ObjectStore` in a bucket |
//! | [`dynamo_objects`] | `ObjectStore` in a table, for small objects |
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
