//! Defines the actors, one in each file. Each file lists the steps that its actor can take, and applies them.

mod collector;
mod compactor;
mod reader;
mod writer;

pub use compactor::Lease;
pub use reader::{Pin, Unpinned};
pub use writer::WriterActor;
