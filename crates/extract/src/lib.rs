//! Extracts the text and layout of a file into an [`ExtractedDocument`].
//!
//! Parsers of hostile input run in child processes of this binary. The parent sends a child one open file at a time and
//! receives a stream of small messages. Both sides limit the memory, time and output of a child. The death of a child
//! counts as one attempt of the document that the child was reading.
//!
//! ```text
//! parent: Extractor ── request + file descriptor ──▶ child: worker_main
//!                   ◀── progress, page, …, pages done, information, end │ refusal ──
//! ```
//! - [`detect()`] determines the type of a file from its first bytes;
//! - `text`, `markdown` and `pdf` are pure functions from bytes to pages, one file or folder per format;
//! - `encoding`, `plausible` and `utf16` find out how the characters of a text are encoded;
//! - `data_uris`, `references` and `front_matter` are parts of Markdown that are not read as they are written;
//! - `info` reads a PDF's information and outline. It runs last, because a failure there must not cost the document its
//!   text;
//! - `protocol` defines the messages, `worker` is the child's side, `process` is the parent's view of a child, and
//!   `pool` is the service;
//! - `objects` writes the result as the objects of `extracted/{document_id}/` and reads them back.
//!
//! Trade-offs: the input is read into memory and not mapped, because the system kills a process that reads a mapped
//! file after the file has shrunk. A child is reused for many documents, because starting a child costs more than
//! reading a small document.

mod data_uris;
pub mod detect;
mod encoding;
pub mod formats;
mod front_matter;
mod hyphens;
mod info;
mod markdown;
mod objects;
mod options;
mod pdf;
mod plausible;
mod pool;
mod process;
mod protocol;
mod references;
mod text;
mod utf16;
mod worker;

pub use self::detect::{HEAD_BYTES, detect};
pub use self::objects::{ArtefactError, from_objects, to_objects};
pub use self::options::{ExtractLimits, ExtractOptions};
pub use self::pool::{ChildProgram, Extractor, ExtractorStats, InputHint};
pub use self::worker::worker_main;

use std::sync::Arc;

use docweir_core::documents::MediaType;
use docweir_core::error::StageError;
use docweir_core::model::{DocumentInfo, ExtractedDocument, OutlineEntry, Page};

/// Receives the results of extraction as soon as they are available.
trait Sink {
    /// Receives the next page, in order.
    fn page(&mut self, page: Page) -> Result<(), StageError>;
    /// Reports that one more page was read. [`Sink::page`] may receive that page later, because pages are analysed
    /// together before they are passed on.
    fn progress(&mut self, page: u32) -> Result<(), StageError>;
    /// Reports that all pages were passed on. A failure after this call does not fail the document.
    fn pages_done(&mut self, notes: Vec<String>) -> Result<(), StageError>;
    fn tail(&mut self, info: DocumentInfo, outline: Vec<OutlineEntry>, notes: Vec<String>) -> Result<(), StageError>;
}

/// Extracts a document in this process, without a child's limits. This is meant for the child process itself, for tests
/// and for trusted files.
///
/// # Errors
/// Returns a permanent error with one of these codes: `not_a_pdf`, `damaged_pdf`, `encrypted`, `no_pages`, `no_text`,
/// `too_many_pages`, `page_too_large`, `too_much_text`, `text_too_large`, `not_text`, `unknown_encoding`,
/// `input_too_large`.
pub fn extract_in_process(
    bytes: Vec<u8>,
    media_type: MediaType,
    options: &ExtractOptions,
) -> Result<ExtractedDocument, StageError> {
    let mut whole = Whole(ExtractedDocument {
        media_type,
        pages: Vec::new(),
        info: DocumentInfo::default(),
        outline: Vec::new(),
        notes: Vec::new(),
    });
    extract_into(bytes, media_type, options, &mut whole)?;
    Ok(whole.0)
}

fn extract_into(
    bytes: Vec<u8>,
    media_type: MediaType,
    options: &ExtractOptions,
    sink: &mut dyn Sink,
) -> Result<(), StageError> {
    check_size(bytes.len() as u64, options)?;
    let document = match media_type {
        MediaType::Pdf => {
            let bytes = Arc::new(bytes);
            let notes = pdf::extract(&bytes, options, sink)?;
            sink.pages_done(notes)?;
            let found = if options.document_info { info::read(&bytes, options) } else { info::Info::default() };
            return sink.tail(found.info, found.outline, found.notes);
        }
        MediaType::Markdown => markdown::extract(&bytes, options)?,
        MediaType::Text => text::extract(&bytes, options)?,
    };
    for page in document.pages {
        sink.page(page)?;
    }
    sink.pages_done(document.notes)?;
    sink.tail(document.info, document.outline, Vec::new())
}

struct Whole(ExtractedDocument);

impl Sink for Whole {
    fn page(&mut self, page: Page) -> Result<(), StageError> {
        self.0.pages.push(page);
        Ok(())
    }

    fn progress(&mut self, _: u32) -> Result<(), StageError> {
        Ok(())
    }

    fn pages_done(&mut self, notes: Vec<String>) -> Result<(), StageError> {
        self.0.notes = notes;
        Ok(())
    }

    fn tail(&mut self, info: DocumentInfo, outline: Vec<OutlineEntry>, notes: Vec<String>) -> Result<(), StageError> {
        (self.0.info, self.0.outline) = (info, outline);
        self.0.notes.extend(notes);
        Ok(())
    }
}

fn check_size(bytes: u64, options: &ExtractOptions) -> Result<(), StageError> {
    let limit = options.limits.input_bytes;
    if bytes == 0 {
        return Err(StageError::permanent("empty_file", "the file is empty: it has zero bytes"));
    }
    if bytes > limit {
        let message = format!(
            "the file has {bytes} bytes, more than the limit of {limit}: raise `extract.options.limits.input_bytes` or split the file"
        );
        return Err(StageError::permanent("input_too_large", message));
    }
    Ok(())
}

fn too_many_pages(pages: usize, limit: u32) -> StageError {
    let message = format!(
        "the document has {pages} pages, more than the limit of {limit}: raise `extract.options.limits.pages` or split the document"
    );
    StageError::permanent("too_many_pages", message)
}

/// Refuses a text or Markdown file that contains only white space, unless `accept_textless` is set. The PDF reader
/// applies the same rule to PDFs.
fn refuse_without_text(document: ExtractedDocument, options: &ExtractOptions) -> Result<ExtractedDocument, StageError> {
    if !options.accept_textless && document.pages.iter().all(|p| p.blocks.is_empty()) {
        return Err(StageError::permanent("no_text", "the file contains only white space"));
    }
    Ok(document)
}

#[cfg(doctest)]
#[doc = include_str!("../README.md")]
mod readme {}

#[cfg(test)]
mod tests;
