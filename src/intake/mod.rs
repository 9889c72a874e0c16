//! From paths on the command line to files that are to be documents.

pub mod bucket_events;
pub mod originals;
pub mod source;
pub mod walk;

pub use walk::{IntakeOptions, Walk, WalkEntry};
