//! Writes an extracted document as Markdown.

use std::fmt::Write as _;

use docweir_core::documents::MediaType;
use docweir_core::model::{Block, BlockKind, ExtractedDocument, Page, TableCell};

use super::super::hyphens;

/// Returns a document as Markdown without running heads, feet and page numbers. Lines of a paragraph become one line, and
/// words that were broken at their ends become whole. A table with cells that span others becomes HTML, because Markdown
/// has no such cells.
pub fn markdown(document: &ExtractedDocument) -> String {
    let mut out = String::new();
    for page in &document.pages {
        for (block, index) in page.blocks.iter().zip(0u32..).filter(|(b, _)| b.kind != BlockKind::PageFurniture) {
            if !out.is_empty() {
                out.push_str("\n\n");
            }
            match document.media_type {
                MediaType::Pdf => write_block(&mut out, page, block, index),
                MediaType::Markdown | MediaType::Text => out.push_str(block.range.of(&page.text)),
            }
        }
    }
    out
}

fn write_block(out: &mut String, page: &Page, block: &Block, index: u32) {
    let text = block.range.of(&page.text);
    match block.kind {
        BlockKind::Paragraph | BlockKind::ListItem | BlockKind::Quote => unwrap_lines(out, text),
        BlockKind::Table => {
            let cells: Vec<&TableCell> = page.cells.iter().filter(|cell| cell.block == index).collect();
            if cells.iter().any(|cell| cell.rows > 1 || cell.columns > 1) {
                html_table(out, page, &cells);
            } else {
                out.push_str(text);
            }
        }
        BlockKind::Heading { .. } | BlockKind::Code | BlockKind::Figure | BlockKind::PageFurniture => {
            out.push_str(text)
        }
    }
}

/// Writes lines as one, and joins the words that are broken at their ends.
fn unwrap_lines(out: &mut String, text: &str) {
    let mut lines = text.split('\n').peekable();
    while let Some(line) = lines.next() {
        let last = line.rsplit(' ').next().unwrap_or(line);
        let next = lines.peek().map(|next| next.split(' ').next().unwrap_or(next));
        match next.and_then(|next| hyphens::joined(last, next)) {
            Some(part) => {
                out.push_str(&line[..line.len() - last.len()]);
                out.push_str(part);
            }
            None => {
                out.push_str(line);
                // A hyphen that belongs to a word has no space after it.
                let hyphen = last.chars().count() > 1 && last.ends_with('-') && !last.ends_with("--");
                if next.is_some() && !hyphen {
                    out.push(' ');
                }
            }
        }
    }
}

fn html_table(out: &mut String, page: &Page, cells: &[&TableCell]) {
    out.push_str("<table>");
    for row in cells.chunk_by(|a, b| a.row == b.row) {
        out.push_str("<tr>");
        for cell in row {
            out.push_str("<td");
            for (name, span) in [("colspan", cell.columns), ("rowspan", cell.rows)] {
                if span > 1 {
                    let _ = write!(out, " {name}=\"{span}\"");
                }
            }
            out.push('>');
            let text = cell.range.of(&page.text).replace("\\|", "|");
            out.push_str(&text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;"));
            out.push_str("</td>");
        }
        out.push_str("</tr>");
    }
    out.push_str("</table>");
}
