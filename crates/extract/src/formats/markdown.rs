//! Writes an extracted document as Markdown.

use docweir_core::documents::MediaType;
use docweir_core::model::{Block, BlockKind, ExtractedDocument, Page};

use super::{blocks, cells, html_table, unwrapped};

/// Returns a document as Markdown. Lines of a paragraph become one line, and words that were broken at their ends become
/// whole. A table with cells that span others becomes HTML, because Markdown has no such cells.
pub fn markdown(document: &ExtractedDocument) -> String {
    let mut out = String::new();
    for (page, block, index) in blocks(document) {
        if !out.is_empty() {
            out.push_str("\n\n");
        }
        match document.media_type {
            MediaType::Pdf => write_block(&mut out, page, block, index),
            MediaType::Markdown | MediaType::Text => out.push_str(block.range.of(&page.text)),
        }
    }
    out
}

fn write_block(out: &mut String, page: &Page, block: &Block, index: u32) {
    let text = block.range.of(&page.text);
    // A sign that could begin markup would hide the text after it.
    let text = &text.replace('<', "&lt;");
    match block.kind {
        BlockKind::Paragraph | BlockKind::ListItem => out.push_str(&unwrapped(text)),
        BlockKind::Quote => {
            out.push_str("> ");
            out.push_str(&unwrapped(text));
        }
        BlockKind::Table => {
            let cells = cells(page, index);
            if cells.iter().any(|cell| cell.rows > 1 || cell.columns > 1) {
                html_table(out, page, &cells, false);
            } else {
                out.push_str(text);
            }
        }
        BlockKind::Code => {
            out.push_str("```\n");
            out.push_str(block.range.of(&page.text));
            out.push_str("\n```");
        }
        BlockKind::Heading { .. } | BlockKind::Figure | BlockKind::PageFurniture => out.push_str(text),
    }
}
