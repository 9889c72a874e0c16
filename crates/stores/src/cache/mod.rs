//! What was made before: vectors by model and text, and a service's findings by question and text, so that nothing is
//! embedded, asked or paid for twice.
//!
//! They are caches in the strict sense: whatever happens to one costs time and never a document. A cache that can't be
//! read has nothing, one that can't be written forgets, a damaged one is set aside and begun anew; all of that is in
//! the log and in no document's record. A full disk is no exception: what follows, the document's artefact, meets it
//! too, in a place that knows what to do about it. The only errors are mistakes of the caller.

mod sqlite;
#[cfg(test)]
mod tests;

pub use sqlite::{SqliteEmbeddingCache, SqliteFindingsCache};
