//! Defines the messages that actors exchange. Jobs and commands (imperatives) go down the tree; facts (past tense) go
//! up.

pub mod commit;
pub mod compaction;
pub mod event;
pub mod job;
pub mod progress;
