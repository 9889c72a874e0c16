//! Divides a document into passages that can be embedded, found and shown.
//!
//! ```text
//! pages ─sections─▶ runs of blocks ─units─▶ sentences, rows, whole blocks ─pack─▶ ranges ─place─▶ chunks
//! ```
//! * `sections` finds the heading paths, and the borders that no chunk crosses (top heading, furniture, figures,
//!   large tables);
//! * `units` divides blocks into units, the smallest parts; a chunk ends only at the end of a unit;
//! * `pack` finds the best partition under the size limits and the embedder's window, and counts each chunk exactly;
//! * `place` adds id, span, pages and boxes;
//! * `artefact` is the JSON form.
//!
//! Every result has these properties. Contents are verbatim, disjoint, increasing slices of the extracted text.
//! Everything except page furniture and white space is in exactly one chunk. No chunk has more characters than
//! `max_chars`, nor more tokens than the window, heading path included. The same input gives the same chunks.
//!
//! Trade-offs. Contents are strictly contiguous, so a running foot in the middle of a paragraph cuts the paragraph
//! there. A heading directly before a running foot ends a chunk; the heading's text is also in the next chunk's heading
//! path. A table that must be split can't repeat its header row in the content. The header row becomes part of the
//! heading path of the later parts instead. Consecutive headings without text between them are never separated, even if
//! the top heading changes among them, because a search can't find a heading without text.

pub mod artefact;
mod context;
mod options;
mod outline;
mod pack;
mod place;
mod sections;
pub mod sentences;
#[cfg(test)]
mod tests;
mod text;
mod units;

pub use options::ChunkOptions;

use docweir_core::cancel::Cancel;
use docweir_core::documents::DocumentId;
use docweir_core::error::StageError;
use docweir_core::model::{Chunks, ExtractedDocument};

use context::Paths;
use text::Text;

/// Counts tokens with the embedder's tokenizer.
pub trait TokenCounter: Send + Sync {
    /// Counts the tokens of `text` as the model receives it, special tokens included.
    fn count(&self, text: &str) -> usize;
    /// Returns the maximum number of tokens of one text, special tokens included.
    fn window(&self) -> usize;
    /// Returns the text length, in tokens, at which the model works best, special tokens included. Chunks aim at this
    /// length.
    fn best(&self) -> usize {
        self.window()
    }
}

/// Minimum size of the embedder's window, in tokens. A smaller window may have no room for text in addition to the
/// special tokens.
const MIN_WINDOW: usize = 16;

/// Divides a document into chunks. A document without text has no chunks.
pub fn chunk_document(
    doc: &ExtractedDocument,
    document: &DocumentId,
    tokens: &dyn TokenCounter,
    options: &ChunkOptions,
    cancel: &Cancel,
) -> Result<Chunks, StageError> {
    if let Some((field, problem)) = options.problems().first() {
        let message = format!("can't chunk {document}: `chunk.{field}` {problem}; correct the configuration");
        return Err(StageError::permanent("bad_chunk_options", message));
    }
    if tokens.window() < MIN_WINDOW {
        let window = tokens.window();
        let message = format!(
            "can't chunk {document}: the embedder's window of {window} tokens is too small; use a model with at least {MIN_WINDOW}"
        );
        return Err(StageError::permanent("window_too_small", message));
    }
    cancel.check()?;
    let text = Text::new(doc.text());
    let mut paths = Paths::new(tokens);
    let runs = sections::runs(doc, &text, &mut paths, options, cancel)?;
    let mut tools = units::Units { text: &text, paths: &mut paths, options, split_tables: 0 };
    let mut placer = place::Placer::new(doc, document, &text);
    let mut chunks = Vec::new();
    for run in runs {
        cancel.check()?;
        let units = tools.of_run(&run, cancel)?;
        let mut cuts = Vec::new();
        pack::pack(&units, &tools, cancel, &mut cuts)?;
        for cut in cuts {
            let path = cut.path.map_or(&[][..], |id| tools.paths.path(id));
            chunks.push(placer.chunk(&cut, path.to_vec()));
        }
    }
    let mut notes = Vec::new();
    if tools.split_tables > 0 {
        notes.push(format!("tables too large for one chunk, split at rows: {}", tools.split_tables));
    }
    Ok(Chunks { chunks, notes, fields: doc.info.metadata(), ..Chunks::default() })
}
