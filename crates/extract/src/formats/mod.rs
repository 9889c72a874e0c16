//! Writes an extracted document in the formats that people and other tools read.

mod markdown;

pub use self::markdown::markdown;
