//! Caches earlier results, so that nothing is embedded, requested or paid for twice. Vectors are cached by model and
//! text; a service's findings are cached by question and text.
//!
//! The loss of a cache costs time, but never a document. An unreadable cache is treated as empty, and a cache that
//! cannot be written stores nothing. A damaged file is moved aside and replaced. These events are logged, but not
//! recorded for any document. A full disk is also only logged: the document's artefact cannot be written either, and
//! that failure reports the full disk. Lookups and writes return errors only for mistakes of the caller.

mod sqlite;
#[cfg(test)]
mod tests;

pub use sqlite::{SqliteEmbeddingCache, SqliteFindingsCache};
