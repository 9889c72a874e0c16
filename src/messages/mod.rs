//! Defines the messages that actors exchange. Commands, named in the imperative, go down the supervision tree. Facts,
//! named in the past tense, go up.

pub mod commit;
pub mod compaction;
pub mod event;
pub mod job;
pub mod progress;
