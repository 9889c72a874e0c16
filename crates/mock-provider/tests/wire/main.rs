//! Tests the mock provider over HTTP, as a client uses it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::panic, reason = "a failed unwrap is a failed test")]

mod batches;
mod charges;
mod client;
mod comprehend;
mod embeddings;
mod faults;
mod files;
mod model;
mod outcomes;
mod process;
mod rates;
mod restart;
