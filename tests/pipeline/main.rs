//! Tests the real binary as its users run it, from ingesting files to searching them, with failures at every step.
//!
//! The tests use the hashed embedder, which gives equal words equal vectors and needs no model. Only `first_run` uses
//! the real model, if it is on this machine.

#![allow(clippy::disallowed_methods, reason = "tests of real processes wait in real time")]
#![allow(
    clippy::unwrap_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a failed unwrap is a failed test; clippy treats helpers outside of #[test] as production code"
)]

#[cfg(feature = "aws")]
mod account;
#[cfg(feature = "aws")]
mod audit_log;
#[cfg(feature = "aws")]
mod aws;
mod bad_input;
mod batch_faults;
mod batches;
#[cfg(feature = "aws")]
mod boto3;
#[cfg(feature = "aws")]
mod cloudwatch;
mod commands;
mod comprehend;
#[cfg(feature = "aws")]
mod comprehend_shared;
mod crash;
#[cfg(feature = "aws")]
mod denials;
mod dialects;
mod doctor;
#[cfg(feature = "aws")]
mod doctor_aws;
mod extract;
mod first_run;
mod folders;
#[cfg(feature = "aws")]
mod infra;
mod kit;
#[cfg(feature = "aws")]
mod ledger;
mod members;
mod model;
#[cfg(feature = "aws")]
mod network;
#[cfg(feature = "aws")]
mod outage;
#[cfg(feature = "aws")]
mod policies;
mod private;
mod provider;
mod python;
#[cfg(feature = "aws")]
mod queues;
mod read_only;
mod record_values;
mod records;
#[cfg(feature = "aws")]
mod replicas;
mod rerun;
mod running;
#[cfg(feature = "aws")]
mod secrets;
mod shop;
mod store;
#[cfg(feature = "aws")]
mod table;
#[cfg(feature = "aws")]
mod tables;
mod terminal;
mod texts;
mod watching;
