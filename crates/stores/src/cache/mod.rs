//! Caches earlier results: vectors by model and text, and a service's findings by question and text. So nothing is
//! embedded, requested or paid for twice.
//!
//! Losing a cache costs time, never a document. An unreadable cache is treated as empty, and a cache that cannot be
//! written stores nothing. A damaged file is moved aside and replaced. These events are logged and appear in no
//! document's record. A full disk is handled in the same way: writing the document's artefact will meet it too, and
//! reports it. The only errors are mistakes of the caller.

mod sqlite;
#[cfg(test)]
mod tests;

pub use sqlite::{SqliteEmbeddingCache, SqliteFindingsCache};
