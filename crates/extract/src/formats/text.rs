//! Writes an extracted document as plain text.

use docweir_core::model::{BlockKind, ExtractedDocument};

use super::{blocks, cell_text, cells, plain};

/// Returns the text of a document without any marks: one paragraph, list item or row of a table on a line, and an empty
/// line between blocks. The cells of a row are parted by tabs.
pub fn text(document: &ExtractedDocument) -> String {
    let mut out = String::new();
    for (page, block, index) in blocks(document) {
        if !out.is_empty() {
            out.push_str("\n\n");
        }
        let cells = cells(page, index);
        if block.kind == BlockKind::Table && !cells.is_empty() {
            let row = |row: &[&_]| row.iter().map(|cell| cell_text(page, cell)).collect::<Vec<_>>().join("\t");
            let rows: Vec<String> = cells.chunk_by(|a, b| a.row == b.row).map(row).collect();
            out.push_str(&rows.join("\n"));
        } else {
            out.push_str(&plain(document, page, block));
        }
    }
    out
}
