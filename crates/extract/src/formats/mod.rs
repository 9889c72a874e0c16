//! Writes an extracted document in the formats that people and other tools read.
//!
//! Running heads, feet and page numbers are left out of all of them but the Docling form, which has a place for them.

mod docling;
mod html;
mod markdown;
mod text;

use docweir_core::documents::MediaType;
use docweir_core::model::{Block, BlockKind, ExtractedDocument, Page, TableCell};

use super::hyphens;

pub use self::docling::docling;
pub use self::html::html;
pub use self::markdown::markdown;
pub use self::text::text;

/// Returns the blocks of a document that are not running heads or feet, with their pages and their indices there.
fn blocks(document: &ExtractedDocument) -> impl Iterator<Item = (&Page, &Block, u32)> {
    document.pages.iter().flat_map(|page| {
        let shown = page.blocks.iter().zip(0u32..).filter(|(block, _)| block.kind != BlockKind::PageFurniture);
        shown.map(move |(block, index)| (page, block, index))
    })
}

/// Returns the cells of a table.
fn cells(page: &Page, block: u32) -> Vec<&TableCell> {
    page.cells.iter().filter(|cell| cell.block == block).collect()
}

/// Returns the text of a cell without the escapes of Markdown.
fn cell_text(page: &Page, cell: &TableCell) -> String {
    cell.range.of(&page.text).replace("\\|", "|")
}

/// Returns the text of a block without the marks of Markdown. The lines of a PDF's paragraph become one.
fn plain(document: &ExtractedDocument, page: &Page, block: &Block) -> String {
    let text = block.range.of(&page.text);
    let text = match block.kind {
        BlockKind::Heading { .. } => text.trim_start_matches('#').trim_start(),
        BlockKind::ListItem => text.strip_prefix("- ").unwrap_or(text),
        _ => text,
    };
    match (document.media_type, block.kind) {
        (MediaType::Pdf, BlockKind::Code) | (MediaType::Markdown | MediaType::Text, _) => text.to_owned(),
        (MediaType::Pdf, _) => unwrapped(text),
    }
}

/// Returns lines as one, with the words joined that are broken at their ends.
fn unwrapped(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
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
    out
}

/// Writes a table as HTML. `head` says whether the cells of the first row are heads.
fn html_table(out: &mut String, page: &Page, cells: &[&TableCell], head: bool) {
    use std::fmt::Write as _;
    out.push_str("<table>");
    for row in cells.chunk_by(|a, b| a.row == b.row) {
        out.push_str("<tr>");
        for cell in row {
            let name = if head && cell.row == 0 { "th" } else { "td" };
            let _ = write!(out, "<{name}");
            for (attribute, span) in [("colspan", cell.columns), ("rowspan", cell.rows)] {
                if span > 1 {
                    let _ = write!(out, " {attribute}=\"{span}\"");
                }
            }
            let _ = write!(out, ">{}</{name}>", escaped(&cell_text(page, cell)));
        }
        out.push_str("</tr>");
    }
    out.push_str("</table>");
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

#[cfg(test)]
mod tests;
