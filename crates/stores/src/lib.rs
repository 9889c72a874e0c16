//! What lasts, beside objects and vectors: control records, the ledger, items and batches, caches, the state folder.
//!
//! Knows nothing of stages, actors or the command line. Each store is a trait, pure rules, an implementation in SQLite, and a
//! conformance suite (feature `testing`) that every other implementation has to pass.
//!
//! | module | what is in it |
//! | --- | --- |
//! | [`control`] | what is to be done, by whom, and how far it is |
//! | [`ledger`] | what was reserved and paid |
//! | [`batches`] | items that a vector is wanted for, and the batches that they are sent in |
//! | [`cache`] | vectors and findings that were made before |
//! | [`queues`] | queues that messages come from |
//! | [`record_table`] | tables of the user's that records come from |
//! | [`state`] | the state folder and its lock |
//! | [`paid`], [`sqlite`] | the file of the ledger and the batches; what all SQLite stores share |

pub mod batches;
pub mod cache;
pub mod control;
pub mod ledger;
pub mod paid;
pub mod queues;
pub mod record_table;
pub mod sqlite;
pub mod state;

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}
