//! What crosses a mailbox: jobs and commands go down (imperatives), facts come up (past tense).

pub mod commit;
pub mod compaction;
pub mod event;
pub mod job;
pub mod progress;
