use docweir_core::model::{DocumentInfo, TextRange};

use super::*;

/// Returns a document of one page. Each block is its kind and its text.
fn document(kinds: &[(BlockKind, &str)]) -> ExtractedDocument {
    let (mut text, mut blocks) = (String::new(), Vec::new());
    for (kind, part) in kinds {
        if !text.is_empty() {
            text.push_str("\n\n");
        }
        let start = text.len() as u32;
        text.push_str(part);
        let range = TextRange { start, end: text.len() as u32 };
        blocks.push(Block { kind: *kind, range, bbox: Some([50.0, 100.0, 200.0, 120.0]) });
    }
    let page =
        Page { number: 1, width: 600.0, height: 800.0, text, blocks, lines: vec![], words: vec![], cells: vec![] };
    ExtractedDocument {
        media_type: MediaType::Pdf,
        pages: vec![page],
        info: DocumentInfo { title: Some("A <b> title".into()), ..DocumentInfo::default() },
        outline: vec![],
        notes: vec![],
    }
}

/// Returns a document with a table of two rows, whose first cell spans both columns if `spans` is true.
fn with_table(spans: bool) -> ExtractedDocument {
    let text = if spans {
        "| a \\| b & c | |\n| --- | --- |\n| d | e |"
    } else {
        "| a \\| b & c | x |\n| --- | --- |\n| d | e |"
    };
    let mut document = document(&[(BlockKind::PageFurniture, "Head"), (BlockKind::Table, text)]);
    let page = &mut document.pages[0];
    let range = |part: &str| {
        let start = page.text.find(part).unwrap() as u32;
        TextRange { start, end: start + part.len() as u32 }
    };
    let cell = |row, column, columns, part: &str| TableCell {
        block: 1,
        row,
        column,
        rows: 1,
        columns,
        range: range(part),
        bbox: Some([0.0, 0.0, 1.0, 1.0]),
    };
    let mut cells = vec![cell(0, 0, if spans { 2 } else { 1 }, "a \\| b & c")];
    if !spans {
        cells.push(cell(0, 1, 1, "x"));
    }
    cells.extend([cell(1, 0, 1, "d"), cell(1, 1, 1, "e")]);
    page.cells = cells;
    document
}

#[test]
fn markdown_has_whole_words_and_no_running_heads() {
    let document = document(&[
        (BlockKind::PageFurniture, "Running head"),
        (BlockKind::Heading { level: 2 }, "## Water"),
        (BlockKind::Paragraph, "the evapo-\ntranspiration of a price-\nDetermining well-\nKnown\nplace"),
        (BlockKind::ListItem, "- an item\nof two lines"),
        (BlockKind::Quote, "Comment by A: x < <b>"),
    ]);
    let expected = "## Water\n\nthe evapotranspiration of a price-Determining well-Known place\n\n- an item of two lines\n\n> Comment by A: x &lt; &lt;b>";
    assert_eq!(markdown(&document), expected);
    assert!(text(&document).starts_with("Water\n\nthe evapo"));
}

#[test]
fn a_table_is_markdown_unless_cells_span_others() {
    assert_eq!(markdown(&with_table(false)), "| a \\| b & c | x |\n| --- | --- |\n| d | e |");
    assert_eq!(
        markdown(&with_table(true)),
        "<table><tr><td colspan=\"2\">a | b &amp; c</td></tr><tr><td>d</td><td>e</td></tr></table>"
    );
    assert_eq!(text(&with_table(false)), "a | b & c\tx\nd\te");
}

#[test]
fn html_is_escaped_and_lists_are_closed() {
    let document = document(&[
        (BlockKind::ListItem, "- <one>"),
        (BlockKind::ListItem, "- two"),
        (BlockKind::Heading { level: 1 }, "# End"),
    ]);
    let out = html(&document);
    assert!(out.contains("<title>A &lt;b&gt; title</title>"), "{out}");
    let list =
        "<ul>\n<li data-page=\"1\">&lt;one&gt;</li>\n<li data-page=\"1\">two</li>\n</ul>\n<h1 data-page=\"1\">End</h1>";
    assert!(out.contains(list), "{out}");
    assert!(html(&with_table(true)).contains("<th colspan=\"2\">a | b &amp; c</th>"));
}

#[test]
fn the_docling_form_has_a_reference_for_every_item() {
    let document = document(&[
        (BlockKind::PageFurniture, "Head"),
        (BlockKind::Heading { level: 1 }, "# Title"),
        (BlockKind::ListItem, "- one"),
        (BlockKind::ListItem, "2. two"),
        (BlockKind::Code, "x = 1"),
    ]);
    let out = docling(&document, "name");
    assert_eq!(out["texts"][0]["content_layer"], "furniture");
    assert_eq!(out["texts"][1]["text"], "Title");
    assert_eq!(out["texts"][2]["parent"]["$ref"], "#/groups/0");
    assert_eq!(out["groups"][0]["children"].as_array().unwrap().len(), 2);
    assert_eq!(out["texts"][3]["enumerated"], true);
    let table = docling(&with_table(true), "name");
    assert_eq!(table["tables"][0]["data"]["num_cols"], 2);
    assert_eq!(table["tables"][0]["data"]["table_cells"][0]["col_span"], 2);
    assert_eq!(table["body"]["children"][1]["$ref"], "#/tables/0");
}
