//! Who does what, one file an actor: the steps that are open to it, and what each of them does.

mod collector;
mod compactor;
mod reader;
mod writer;

pub use compactor::Lease;
pub use reader::{Pin, Unpinned};
pub use writer::WriterActor;
