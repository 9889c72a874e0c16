//! Writes an extracted document as HTML.

use std::fmt::Write as _;

use docweir_core::model::{BlockKind, ExtractedDocument};

use super::{blocks, cells, escaped, html_table, plain};

/// Returns a document as an HTML page. Each block has the number of its page in `data-page`.
pub fn html(document: &ExtractedDocument) -> String {
    let title = document.info.title.as_deref().unwrap_or("Document");
    let mut out = format!(
        "<!DOCTYPE html>\n<html>\n<head><meta charset=\"utf-8\"><title>{}</title></head>\n<body>\n",
        escaped(title)
    );
    let mut in_list = false;
    for (page, block, index) in blocks(document) {
        let item = block.kind == BlockKind::ListItem;
        if item != in_list {
            out.push_str(if item { "<ul>\n" } else { "</ul>\n" });
            in_list = item;
        }
        let text = escaped(&plain(document, page, block));
        let number = page.number;
        let cells = cells(page, index);
        let _ = match block.kind {
            BlockKind::Heading { level } => {
                let level = level.clamp(1, 6);
                write!(out, "<h{level} data-page=\"{number}\">{text}</h{level}>")
            }
            BlockKind::ListItem => write!(out, "<li data-page=\"{number}\">{text}</li>"),
            BlockKind::Code => write!(out, "<pre data-page=\"{number}\">{text}</pre>"),
            BlockKind::Quote => write!(out, "<blockquote data-page=\"{number}\">{text}</blockquote>"),
            BlockKind::Figure => write!(out, "<figure data-page=\"{number}\">{text}</figure>"),
            BlockKind::Table if !cells.is_empty() => {
                let _ = write!(out, "<div data-page=\"{number}\">");
                html_table(&mut out, page, &cells, true);
                write!(out, "</div>")
            }
            BlockKind::Table => write!(out, "<pre data-page=\"{number}\">{text}</pre>"),
            BlockKind::Paragraph | BlockKind::PageFurniture => write!(out, "<p data-page=\"{number}\">{text}</p>"),
        };
        out.push('\n');
    }
    if in_list {
        out.push_str("</ul>\n");
    }
    out.push_str("</body>\n</html>\n");
    out
}
