//! Extracts PDFs: the interpreter passes over each page once, then the layout is determined from the positions of
//! glyphs.
//!
//! ```text
//! page ─glyphs─▶ glyphs, rules ─words─▶ words, segments ─tables, blocks, order─▶ draft ─structure─▶ kinds ─render─▶ Page
//! ```
//! Drafts of pages wait in a window of limited size. When the window is full, the document's body text and running
//! heads are determined from the pages read so far. The pages then leave the window in order. Memory and the time to
//! the first page therefore depend on the window's size and not on the document's size. If the interpreter panics on
//! a page, only that page is lost, and a note on the document names the page.

mod annotations;
mod attached;
mod blocks;
mod device;
mod fonts;
mod glyphs;
mod gutters;
mod joins;
pub(crate) mod order;
pub(super) mod render;
mod replaced;
mod structure;
mod tables;
mod unicode;
mod words;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;

use docweir_core::error::StageError;
use hayro_interpret::hayro_syntax::object::Dict;
use hayro_interpret::hayro_syntax::{LoadPdfError, Pdf};
use hayro_interpret::kurbo::{Affine, Rect};
use hayro_interpret::{Context, InterpreterCache, InterpreterSettings, interpret_page};

use self::annotations::Annotations;
use self::attached::Attached;
use self::blocks::{Draft, layout};
use self::device::Collector;
use self::fonts::Fonts;
use self::glyphs::{Excess, Omitted, PageGlyphs, PageLimits, clean};
use self::structure::{Structure, WINDOW_PAGES, WINDOW_WORDS};
use super::{ExtractLimits, ExtractOptions, Sink, too_many_pages};

/// Number of pages after which the interpreter's caches (fonts, colour spaces, forms) are dropped, to limit their
/// size.
const CACHE_PAGES: usize = 200;

/// Amount of text, in bytes, that a PDF of any size may contain. The limit on text per input byte applies beyond it.
const FREE_TEXT_BYTES: u64 = 1 << 20;

type HayroPage<'a> = hayro_interpret::hayro_syntax::page::Page<'a>;

/// Passes all pages to `sink` and returns the notes about the pages.
pub(super) fn extract(
    bytes: &Arc<Vec<u8>>,
    options: &ExtractOptions,
    sink: &mut dyn Sink,
) -> Result<Vec<String>, StageError> {
    let pdf = Pdf::new(bytes.clone()).map_err(|e| refusal(e, bytes))?;
    let pages = pdf.pages();
    if pages.is_empty() {
        return Err(StageError::permanent("no_pages", "the PDF has no pages"));
    }
    if pages.len() as u64 > u64::from(options.limits.pages) {
        return Err(too_many_pages(pages.len(), options.limits.pages));
    }
    let mut reader = Reader {
        options,
        sink,
        structure: Structure::new(outline_titles(&pdf, options.limits.outline_entries)),
        window: Vec::new(),
        words: 0,
        fonts: Fonts::default(),
        text_bytes: FREE_TEXT_BYTES + bytes.len() as u64 * u64::from(options.limits.text_per_input_byte),
        totals: PageTotals::default(),
        attached: Attached::of(&pdf),
    };
    let form = attached::form(&pdf);
    let mut cache = InterpreterCache::new();
    for (i, (page, number)) in pages.iter().zip(1u32..).enumerate() {
        if i % CACHE_PAGES == CACHE_PAGES - 1 {
            cache = InterpreterCache::new();
        }
        if reader.page(&pdf, page, number, form.as_ref(), &cache)? {
            cache = InterpreterCache::new();
        }
    }
    reader.flush()?;
    let mut notes = reader.totals.notes(pages.len(), options)?;
    notes.extend(reader.attached.notes());
    Ok(notes)
}

fn refusal(error: LoadPdfError, bytes: &[u8]) -> StageError {
    match error {
        LoadPdfError::Decryption(_) => {
            let message = "the PDF is encrypted and needs a password; remove the password and submit the PDF again";
            StageError::permanent("encrypted", message)
        }
        LoadPdfError::Invalid if !bytes.windows(5).take(1024).any(|w| w == b"%PDF-") => {
            StageError::permanent("not_a_pdf", "the file is not a PDF: its first 1024 bytes do not contain `%PDF-`")
        }
        LoadPdfError::Invalid => {
            let message = "the PDF is unreadable (truncated, or without a page tree); repair it or export it again";
            StageError::permanent("damaged_pdf", message)
        }
    }
}

fn too_much(excess: Excess, page: u32, limits: &ExtractLimits) -> StageError {
    let too_large = |what: String, key: &str| {
        let message =
            format!("page {page} draws more than {what}: raise `extract.options.limits.{key}` or remove the page");
        StageError::permanent("page_too_large", message)
    };
    match excess {
        Excess::Glyphs => too_large(format!("{} glyphs", limits.glyphs_per_page), "glyphs_per_page"),
        Excess::Operations => too_large(
            format!("{} glyph runs, paths, images and forms", limits.operations_per_page),
            "operations_per_page",
        ),
        Excess::Text => {
            let message = format!(
                "the PDF contains more text than is plausible for its size, up to page {page}: more than \
                 {FREE_TEXT_BYTES} bytes plus {} for each of its own; if the PDF is genuine, raise \
                 `extract.options.limits.text_per_input_byte`",
                limits.text_per_input_byte
            );
            StageError::permanent("too_much_text", message)
        }
    }
}

struct Reader<'o> {
    options: &'o ExtractOptions,
    sink: &'o mut dyn Sink,
    structure: Structure,
    window: Vec<Draft>,
    words: usize,
    fonts: Fonts,
    /// Size of the text that the remaining pages may contain, in bytes.
    text_bytes: u64,
    totals: PageTotals,
    attached: Attached,
}

impl Reader<'_> {
    /// Reads one page. Returns true if the interpreter panicked. The interpreter's caches must then be dropped.
    fn page<'a>(
        &mut self,
        pdf: &'a Pdf,
        page: &HayroPage<'a>,
        number: u32,
        form: Option<&Dict<'a>>,
        cache: &InterpreterCache<'a>,
    ) -> Result<bool, StageError> {
        let (width, height) = page.render_dimensions();
        let limits = PageLimits {
            glyphs: self.options.limits.glyphs_per_page as usize,
            operations: self.options.limits.operations_per_page,
            text_bytes: self.text_bytes,
        };
        let fonts = &mut self.fonts;
        let read = catch_unwind(AssertUnwindSafe(|| {
            let (mut drawn, annotations) = draw(pdf, page, form, cache, fonts, limits);
            let comments: usize = annotations.comments.iter().map(|c| c.text.len() + c.author.len()).sum();
            let text_bytes = (drawn.text.len() + comments) as u64;
            if text_bytes > limits.text_bytes {
                Excess::Text.stop();
            }
            clean(&mut drawn, width, height);
            let mut draft = layout(&drawn, fonts, number, width, height);
            // The layout moves characters; it must not lose any.
            drawn.omitted.lost = drawn.chars().saturating_sub(draft.chars());
            draft.blocks.extend(annotations.comments.iter().map(blocks::comment));
            (draft, drawn.omitted, annotations, text_bytes)
        }));
        let panicked = read.is_err();
        let draft = match read {
            Ok((draft, omitted, annotations, text_bytes)) => {
                self.text_bytes = self.text_bytes.saturating_sub(text_bytes);
                self.totals.count(number, &draft, omitted);
                self.totals.secret.count(number, annotations.secret);
                self.attached.files.extend(annotations.files);
                draft
            }
            Err(panic) => {
                if let Some(excess) = panic.downcast_ref::<Excess>() {
                    return Err(too_much(*excess, number, &self.options.limits));
                }
                self.totals.broken.push(number);
                Draft { number, width, height, blocks: Vec::new() }
            }
        };
        self.structure.learn(&draft);
        self.words += draft.blocks.iter().map(|b| b.words()).sum::<usize>();
        self.window.push(draft);
        self.sink.progress(number)?;
        if self.window.len() >= WINDOW_PAGES || self.words >= WINDOW_WORDS {
            self.flush()?;
        }
        Ok(panicked)
    }

    fn flush(&mut self) -> Result<(), StageError> {
        self.words = 0;
        for (draft, judged) in self.structure.judge(std::mem::take(&mut self.window)) {
            self.sink.page(render::render(&draft, judged))?;
        }
        Ok(())
    }
}

fn draw<'a>(
    pdf: &'a Pdf,
    page: &HayroPage<'a>,
    form: Option<&Dict<'a>>,
    cache: &InterpreterCache<'a>,
    fonts: &mut Fonts,
    limits: PageLimits,
) -> (PageGlyphs, Annotations) {
    let (width, height) = page.render_dimensions();
    let transform = Affine::new(page.initial_transform(true).as_coeffs());
    let bounds = Rect::new(0.0, 0.0, width.into(), height.into());
    let mut context = Context::new(transform, bounds, cache, pdf.xref(), InterpreterSettings::default());
    let mut collector = Collector::new(fonts, page.resources(), limits);
    interpret_page(page, &mut context, &mut collector);
    let annotations = annotations::read(page, form, transform, limits.text_bytes);
    annotations.values.iter().for_each(|value| collector.value(value));
    (collector.finish(), annotations)
}

/// Collects the page numbers and counts that the notes report.
#[derive(Default)]
struct PageTotals {
    textless: Vec<u32>,
    broken: Vec<u32>,
    unmapped: Left,
    outside: Left,
    unplaced: Left,
    lost: Left,
    /// Fields whose values are not read.
    secret: Left,
}

/// Counts what was left out, and names the pages.
#[derive(Default)]
struct Left {
    count: u64,
    pages: Vec<u32>,
}

impl Left {
    fn count(&mut self, page: u32, count: u32) {
        if count > 0 {
            self.count += u64::from(count);
            self.pages.push(page);
        }
    }
}

impl PageTotals {
    fn count(&mut self, number: u32, draft: &Draft, omitted: Omitted) {
        if draft.blocks.is_empty() {
            self.textless.push(number);
        }
        self.unmapped.count(number, omitted.unmapped);
        self.unplaced.count(number, omitted.unplaced);
        self.lost.count(number, omitted.lost);
        self.outside.count(number, omitted.outside);
    }

    fn notes(self, pages: usize, options: &ExtractOptions) -> Result<Vec<String>, StageError> {
        if self.broken.len() == pages {
            let message =
                format!("the interpreter failed on each of the PDF's {pages} pages; repair the PDF or export it again");
            return Err(StageError::permanent("damaged_pdf", message));
        }
        if self.textless.len() + self.broken.len() == pages && !options.accept_textless {
            let message = format!(
                "none of the PDF's {pages} pages has a text layer (a scan?); run the PDF through OCR first, or set \
                 `extract.options.accept_textless` to accept PDFs without text"
            );
            return Err(StageError::permanent("no_text", message));
        }
        let mut notes = Vec::new();
        if !self.broken.is_empty() {
            notes.push(format!("could not read {}; left out", page_list(&self.broken)));
        }
        if !self.textless.is_empty() {
            notes.push(format!("text layer missing on {}", page_list(&self.textless)));
        }
        for (left, what) in [
            (self.unmapped, "glyphs without a Unicode mapping"),
            (self.outside, "glyphs outside the visible page"),
            (self.unplaced, "glyphs without a size or a place"),
            (self.lost, "characters that could not be put in order (a defect; please report the file)"),
            (self.secret, "hidden values, hidden comments and passwords"),
        ] {
            if left.count > 0 {
                notes.push(format!("{} {what} left out: {}", left.count, page_list(&left.pages)));
            }
        }
        Ok(notes)
    }
}

/// Formats a list of pages: `page 3`, `pages 1, 2, 7`, `pages 1, 2, 3, 4, 5, … (120 in all)`.
fn page_list(pages: &[u32]) -> String {
    const SHOWN: usize = 5;
    let shown: Vec<String> = pages.iter().take(SHOWN).map(u32::to_string).collect();
    match pages.len() {
        1 => format!("page {}", shown.join("")),
        n if n <= SHOWN => format!("pages {}", shown.join(", ")),
        n => format!("pages {}, … ({n} in all)", shown.join(", ")),
    }
}

/// Returns the titles of the outline with their levels, so that headings can be recognised while pages are read. The
/// module `info` reads the complete outline, with destinations, at the end.
fn outline_titles(pdf: &Pdf, max: u32) -> Vec<(u8, String)> {
    let mut titles = Vec::new();
    let Some(catalog) = attached::catalog(pdf) else { return titles };
    fn first<'a>(dict: &Dict<'a>) -> Option<Dict<'a>> {
        dict.get(b"First".as_slice())
    }
    let Some(outlines) = catalog.get::<Dict<'_>>(b"Outlines".as_slice()) else { return titles };
    let mut stack: Vec<(u8, Dict<'_>)> = first(&outlines).map(|d| (1, d)).into_iter().collect();
    // The links of a hostile outline may form a ring, so the number of steps is limited.
    let mut steps = 0;
    while let Some((level, entry)) = stack.pop() {
        steps += 1;
        if steps > max {
            break;
        }
        if let Some(title) = entry.get::<hayro_interpret::hayro_syntax::object::String<'_>>(b"Title".as_slice()) {
            titles.push((level, super::info::text_string(title.as_bytes())));
        }
        stack.extend(entry.get::<Dict<'_>>(b"Next".as_slice()).map(|d| (level, d)));
        stack.extend(first(&entry).filter(|_| level < 6).map(|d| (level + 1, d)));
    }
    titles
}
