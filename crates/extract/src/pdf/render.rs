//! Renders a page as Markdown text, and records which range of this text every block, line and word takes.
//!
//! Headings become one line with `#` marks, bullets become `- `, and tables become pipe tables. Paragraphs keep their
//! visual lines. Only pipes inside table cells are escaped, because the text is for search and display and should match
//! the page.

use docweir_core::model::{self, Block, BlockKind, Page, Placed, TextRange};

use super::super::hyphens;
use super::blocks::{Content, Draft, TableCell, TableCells, TextLine};
use super::structure::Judged;
use super::words::{Box4, join};

/// Rounds a box to hundredths of a point. Artefacts store boxes in this precision, so the boxes have the same values
/// when a page is read back.
pub(super) fn rounded(b: Box4) -> [f32; 4] {
    b.map(hundredths)
}

pub(crate) fn hundredths(v: f32) -> f32 {
    let clamped = if v.is_finite() { v.clamp(-1e6, 1e6) } else { 0.0 };
    ((f64::from(clamped) * 100.0).round() / 100.0) as f32
}

struct TextBuilder {
    text: String,
    words: Vec<Placed>,
    lines: Vec<Placed>,
    cells: Vec<model::TableCell>,
}

impl TextBuilder {
    fn at(&self) -> u32 {
        u32::try_from(self.text.len()).unwrap_or(u32::MAX)
    }

    fn word(&mut self, text: &str, bbox: Box4) {
        let start = self.at();
        self.text.push_str(text);
        self.words.push(Placed { range: TextRange { start, end: self.at() }, bbox: rounded(bbox) });
    }

    /// Writes the words of a line, starting with the word at index `skip`.
    fn line(&mut self, line: &TextLine, skip: usize) {
        let start = self.at();
        for (i, word) in line.words.iter().skip(skip).enumerate() {
            if i > 0 {
                self.text.push(' ');
            }
            self.word(&word.text, word.bbox);
        }
        if self.at() > start {
            self.lines.push(Placed { range: TextRange { start, end: self.at() }, bbox: rounded(line.bbox) });
        }
    }

    fn lines(&mut self, lines: &[TextLine], skip: usize, between: char) {
        for (i, line) in lines.iter().enumerate() {
            if i > 0 {
                self.text.push(between);
            }
            self.line(line, if i == 0 { skip } else { 0 });
        }
    }

    /// Writes a table whose block has the index `block`.
    fn table(&mut self, table: &TableCells, block: u32) {
        let mut cells = table.cells.iter().peekable();
        for row in 0..table.rows {
            let start = self.at();
            let mut bbox: Option<Box4> = None;
            self.text.push('|');
            for column in 0..table.columns {
                // A cell that spans others is written once, at its first row and column.
                if let Some(cell) = cells.next_if(|cell| (cell.row, cell.column) == (row, column)) {
                    let written = self.cell(cell, block);
                    bbox = bbox.into_iter().chain(written).reduce(join);
                }
                self.text.push_str(" |");
            }
            if let Some(bbox) = bbox {
                self.lines.push(Placed { range: TextRange { start, end: self.at() }, bbox: rounded(bbox) });
            }
            if row == 0 {
                self.text.push_str("\n|");
                (0..table.columns).for_each(|_| self.text.push_str(" --- |"));
            }
            if row + 1 < table.rows {
                self.text.push('\n');
            }
        }
    }

    fn cell(&mut self, cell: &TableCell, block: u32) -> Option<Box4> {
        let mut range = TextRange { start: self.at(), end: self.at() };
        let mut bbox: Option<Box4> = None;
        let mut words = cell.words.iter().peekable();
        let mut broken = false;
        while let Some(word) = words.next() {
            if !broken {
                self.text.push(' ');
            }
            if bbox.is_none() {
                range.start = self.at();
            }
            let text = word.text.replace('|', "\\|");
            // A table row has no line ends at which a word could be broken.
            let whole = words.peek().and_then(|next| hyphens::joined(&text, &next.text).filter(|_| below(word, next)));
            broken = whole.is_some();
            self.word(whole.unwrap_or(&text), word.bbox);
            range.end = self.at();
            bbox = Some(bbox.map_or(word.bbox, |b| join(b, word.bbox)));
        }
        let index = |n: usize| u32::try_from(n).unwrap_or(u32::MAX);
        self.cells.push(model::TableCell {
            block,
            row: index(cell.row),
            column: index(cell.column),
            rows: index(cell.rows),
            columns: index(cell.columns),
            range,
            bbox: bbox.map(rounded),
        });
        bbox
    }
}

/// Returns whether a word is on a later line than another.
fn below(word: &super::blocks::Placed, next: &super::blocks::Placed) -> bool {
    next.bbox[1] > (word.bbox[1] + word.bbox[3]) / 2.0
}

/// Renders one page. `blocks` contains the blocks of the page with their kinds.
pub(super) fn render(draft: &Draft, blocks: Vec<Judged>) -> Page {
    let mut out = TextBuilder { text: String::new(), words: Vec::new(), lines: Vec::new(), cells: Vec::new() };
    let mut done: Vec<Block> = Vec::with_capacity(blocks.len());
    for Judged { block, kind } in blocks {
        if block.words() == 0 {
            continue;
        }
        if !out.text.is_empty() {
            out.text.push_str("\n\n");
        }
        let start = out.at();
        match (&block.content, kind) {
            (Content::Table(table), _) => out.table(table, u32::try_from(done.len()).unwrap_or(u32::MAX)),
            (Content::Comment(lines), _) => out.lines(lines, 0, '\n'),
            (Content::Paragraph(lines) | Content::Item { lines, .. }, BlockKind::Heading { level }) => {
                (0..level).for_each(|_| out.text.push('#'));
                out.text.push(' ');
                out.lines(lines, 0, ' ');
            }
            (Content::Item { lines, bullet: true }, _) => {
                out.text.push_str("- ");
                out.lines(lines, 1, '\n');
            }
            (Content::Paragraph(lines) | Content::Item { lines, .. }, _) => out.lines(lines, 0, '\n'),
        }
        let range = TextRange { start, end: out.at() };
        done.push(Block { kind, range, bbox: Some(rounded(block.bbox)) });
    }
    Page {
        number: draft.number,
        width: hundredths(draft.width),
        height: hundredths(draft.height),
        text: out.text,
        blocks: done,
        lines: out.lines,
        words: out.words,
        cells: out.cells,
    }
}
