//! Stores all durable state except vectors and large objects: control records, the ledger, items and batches, caches,
//! artefacts of small documents, and the state folder.
//!
//! This crate does not depend on stages, actors or the command line. Each store consists of a trait, pure rules, an
//! implementation in SQLite, and a conformance suite (feature `testing`) that every implementation must pass.
//!
//! | module | content |
//! | --- | --- |
//! | [`control`] | control records: pending work, claims, progress |
//! | [`ledger`] | money that was reserved and spent |
//! | [`batches`] | items to embed or enrich, and the batches that carry them |
//! | [`cache`] | vectors and findings of earlier runs |
//! | [`queues`] | message queues that deliver documents |
//! | [`record_table`] | users' tables that contain records to embed |
//! | [`state`] | the state folder and its lock |
//! | [`paid`] | the SQLite file that holds the ledger and the batches |
//! | [`packed`] | small objects that can be rebuilt, together in one SQLite file |
//! | [`sqlite`] | code that all SQLite stores share |

pub mod batches;
pub mod cache;
pub mod control;
pub mod ledger;
pub mod packed;
pub mod paid;
pub mod queues;
pub mod record_table;
pub mod sqlite;
pub mod state;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
