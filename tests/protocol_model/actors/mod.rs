//! Defines the actors, one per file: the steps that each can take, and the effect of each step.

mod collector;
mod compactor;
mod reader;
mod writer;

pub use compactor::Lease;
pub use reader::{Pin, Unpinned};
pub use writer::WriterActor;
