//! Divides pages into runs of blocks, and determines the heading path of each block. No chunk crosses the border
//! between two runs.
//!
//! A run ends at page furniture such as a running foot. A chunk is a verbatim, contiguous slice without furniture, so a
//! paragraph that continues after a running foot is cut there. A run also ends at a change of the top heading, and
//! around figures and large tables. A heading belongs to the text after it. Where the top heading changes, all headings
//! directly before it therefore move to the new run. A heading's own text is content; the path of a block holds the
//! headings above it.

use docweir_core::cancel::Cancel;
use docweir_core::error::StageError;
use docweir_core::model::{BlockKind, ExtractedDocument, PAGE_SEPARATOR, Page};

use super::ChunkOptions;
use super::context::{PathId, Paths, clipped};
use super::outline::{Outline, Placement};
use super::text::Text;

/// Locates a block in the extracted text, in bytes and without white space at its ends.
#[derive(Clone, Debug)]
pub struct Piece {
    pub kind: BlockKind,
    pub start: usize,
    pub end: usize,
    /// Index of the page that contains the block.
    pub page: usize,
    pub path: PathId,
    /// True if the piece is a caption or lead-in that belongs to the next piece.
    pub glued: bool,
}

/// Divides the document into runs of pieces, in document order.
pub fn runs(
    doc: &ExtractedDocument,
    text: &Text,
    paths: &mut Paths<'_>,
    options: &ChunkOptions,
    cancel: &Cancel,
) -> Result<Vec<Vec<Piece>>, StageError> {
    let mut outline = Outline::of(doc);
    let mut walk =
        Walk { text, paths, options, stack: Vec::new(), path: None, run: Vec::new(), runs: Vec::new(), seen: 0 };
    let mut offset = 0;
    for (index, page) in doc.pages.iter().enumerate() {
        cancel.check()?;
        walk.page_starts(outline.at_start_of(page));
        for (kind, start, end) in blocks(page) {
            let (start, end) = (offset + start, offset + end);
            if kind == BlockKind::PageFurniture {
                walk.close();
                continue;
            }
            let Some((start, end)) = text.trimmed(start, end) else {
                continue;
            };
            match outline.placed(kind, text.slice(start, end)) {
                Placement::Heading { level, bytes } => {
                    walk.block(BlockKind::Heading { level }, start, start + bytes, index);
                    if let Some((start, end)) = text.trimmed(start + bytes, end) {
                        walk.block(kind, start, end, index);
                    }
                }
                Placement::None => walk.block(kind, start, end, index),
            }
        }
        offset += page.text.len() + PAGE_SEPARATOR.len();
    }
    walk.close();
    Ok(walk.runs)
}

/// Returns the kind and range of each block of a page, in bytes of the page's text. The ranges are in order and
/// disjoint. Text that no block covers counts as paragraphs, so that gaps in the extraction lose nothing.
fn blocks(page: &Page) -> Vec<(BlockKind, usize, usize)> {
    let mut order: Vec<_> = page.blocks.iter().collect();
    order.sort_by_key(|b| b.range.start);
    let mut found = Vec::with_capacity(order.len());
    let mut cursor = 0;
    for block in order {
        let (start, end) = ((block.range.start as usize).max(cursor), block.range.end as usize);
        if start < end && page.text.get(start..end).is_some() {
            paragraphs(&page.text, cursor, start, &mut found);
            found.push((block.kind, start, end));
            cursor = end;
        }
    }
    paragraphs(&page.text, cursor, page.text.len(), &mut found);
    found
}

fn paragraphs(text: &str, start: usize, end: usize, out: &mut Vec<(BlockKind, usize, usize)>) {
    let mut at = start;
    for part in text.get(start..end).unwrap_or_default().split_inclusive("\n\n") {
        if !part.trim().is_empty() {
            out.push((BlockKind::Paragraph, at, at + part.len()));
        }
        at += part.len();
    }
}

struct Heading {
    level: u8,
    title: String,
    /// Number of the heading in the document. This number distinguishes headings with the same title.
    serial: usize,
}

struct Walk<'a, 'b, 'c> {
    text: &'a Text,
    paths: &'b mut Paths<'c>,
    options: &'a ChunkOptions,
    stack: Vec<Heading>,
    /// Heading path made of the headings in `stack`, or `None` if `stack` has changed since the path was stored.
    path: Option<PathId>,
    run: Vec<Piece>,
    runs: Vec<Vec<Piece>>,
    seen: usize,
}

impl Walk<'_, '_, '_> {
    fn close(&mut self) {
        if !self.run.is_empty() {
            self.runs.push(std::mem::take(&mut self.run));
        }
    }

    /// Closes the run before its last `keep` pieces. These pieces begin the next run.
    fn close_before(&mut self, keep: usize) {
        let tail = self.run.split_off(self.run.len().saturating_sub(keep));
        self.close();
        self.run = tail;
    }

    fn top(&self) -> Option<usize> {
        self.stack.first().map(|h| h.serial)
    }

    /// Adds headings from the file's outline to the heading path at the start of a page. The titles of these headings
    /// are not in the text of the page.
    fn page_starts(&mut self, headings: Vec<(u8, String)>) {
        for (level, title) in headings {
            let before = self.top();
            self.pop_to(level);
            self.push(level, &title);
            if self.top() != before {
                self.close();
            }
        }
    }

    fn pop_to(&mut self, level: u8) {
        self.stack.retain(|h| h.level < level);
        self.path = None;
    }

    fn push(&mut self, level: u8, title: &str) {
        let title = clipped(title, self.options.heading_max_chars);
        if !title.is_empty() {
            self.seen += 1;
            self.stack.push(Heading { level, title, serial: self.seen });
            self.path = None;
        }
    }

    fn path(&mut self) -> PathId {
        if let Some(id) = self.path {
            return id;
        }
        let id = self.paths.intern(self.stack.iter().map(|h| h.title.clone()).collect());
        self.path = Some(id);
        id
    }

    fn block(&mut self, kind: BlockKind, start: usize, end: usize, page: usize) {
        let piece = Piece { kind, start, end, page, path: 0, glued: false };
        if let BlockKind::Heading { level } = kind {
            let before = self.top();
            self.pop_to(level);
            let path = self.path();
            self.push(level, &title_of(self.text.slice(start, end)));
            if self.top() != before {
                let led = self.run.iter().rev().take_while(|p| is_heading(p.kind)).count();
                self.close_before(led);
            }
            self.run.push(Piece { path, ..piece });
            return;
        }
        let piece = Piece { path: self.path(), ..piece };
        if !matches!(kind, BlockKind::Figure | BlockKind::Table | BlockKind::ListItem) {
            self.run.push(piece);
            return;
        }
        let lead = self.lead(kind);
        if lead && let Some(caption) = self.run.last_mut() {
            caption.glued = true;
        }
        if !self.stands_alone(&piece) {
            self.run.push(piece);
            return;
        }
        let headings = self.run.iter().rev().skip(usize::from(lead)).take_while(|p| is_heading(p.kind)).count();
        self.close_before(headings + usize::from(lead));
        self.run.push(piece);
        self.close();
    }

    /// Returns whether the last piece belongs to the next block. This is so if the piece is the block's caption, or
    /// if the piece ends with a colon and thus introduces the block.
    fn lead(&self, next: BlockKind) -> bool {
        let Some(last) = self.run.last().filter(|p| p.kind == BlockKind::Paragraph) else {
            return false;
        };
        let text = self.text.slice(last.start, last.end);
        text.len() <= 400 && (text.ends_with(':') || (next != BlockKind::ListItem && is_caption(text)))
    }

    fn stands_alone(&self, piece: &Piece) -> bool {
        let slice = self.text.slice(piece.start, piece.end);
        match piece.kind {
            BlockKind::Figure => true,
            BlockKind::Table => {
                let chars = self.text.chars_in(piece.start, piece.end);
                let room = self.paths.room(piece.path);
                // Check the characters first: the token counter must not receive a table of unlimited size.
                chars > self.options.min_chars || self.paths.tokens_of(slice) * 2 > room
            }
            _ => false,
        }
    }
}

fn is_heading(kind: BlockKind) -> bool {
    matches!(kind, BlockKind::Heading { .. })
}

/// Returns whether the text is a numbered caption such as `Figure 3: …` or `Table IV …`, in English or German.
fn is_caption(text: &str) -> bool {
    const WORDS: [&str; 9] = ["exhibit", "figure", "fig.", "chart", "source", "table", "tab.", "abbildung", "tabelle"];
    let text = text.trim_start_matches(['*', '_']);
    let mut words = text.split_whitespace();
    let (first, second) = (words.next().unwrap_or_default().to_lowercase(), words.next().unwrap_or_default());
    let numbered = second.starts_with(|c: char| c.is_ascii_digit() || c.is_ascii_uppercase());
    WORDS.contains(&first.trim_end_matches(':')) && numbered
}

/// Returns a heading's words, without markdown marks and line ends.
fn title_of(text: &str) -> String {
    let mut lines: Vec<&str> = text.lines().collect();
    if lines.len() > 1
        && lines.last().is_some_and(|l| !l.trim().is_empty() && l.trim().chars().all(|c| matches!(c, '=' | '-')))
    {
        lines.pop();
    }
    let joined = lines.iter().flat_map(|l| l.split_whitespace()).collect::<Vec<_>>().join(" ");
    let bare = if joined.starts_with('#') { joined.trim_matches('#').trim() } else { joined.as_str() };
    let plain = bare.trim_matches(['*', '_', '`']).trim();
    if plain.is_empty() { bare.to_owned() } else { plain.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn titles_lose_their_marks() {
        let cases = [
            ("## Leases and *fences*", "Leases and *fences"),
            ("# **Bold** #", "Bold"),
            ("Title\n=====", "Title"),
            ("Two\nlines", "Two lines"),
            ("#", ""),
            ("C#", "C#"),
        ];
        for (text, title) in cases {
            assert_eq!(title_of(text), title, "{text:?}");
        }
    }

    #[test]
    fn captions_are_numbered() {
        for yes in ["Figure 3: rates", "Table IV shows", "**Exhibit 12** x", "Fig. 2", "Source: 4 banks", "Abbildung 1"]
        {
            assert!(is_caption(yes), "{yes}");
        }
        for no in ["Figures show", "Table of contents", "Sourcing 3", "", "The table 3"] {
            assert!(!is_caption(no), "{no}");
        }
    }
}
