//! Finds the files and objects that become documents, and opens them.

pub mod bucket_events;
pub mod judged;
pub mod left_alone;
pub mod originals;
pub mod source;
pub mod walk;

pub use walk::{IntakeOptions, Walk, WalkEntry};
