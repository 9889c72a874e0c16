use proptest::prelude::*;

use super::*;

fn document(text: &str) -> ExtractedDocument {
    extract(text.as_bytes(), &ExtractOptions::default()).unwrap()
}

fn kinds(text: &str) -> Vec<(BlockKind, String)> {
    let document = document(text);
    let page = &document.pages[0];
    page.blocks.iter().map(|b| (b.kind, b.range.of(&page.text).to_owned())).collect()
}

fn shown(found: &[(BlockKind, String)]) -> Vec<(BlockKind, &str)> {
    found.iter().map(|(k, t)| (*k, t.as_str())).collect()
}

#[test]
fn every_kind_of_block_with_its_exact_range() {
    let text = "---\ntitle: \"Front\"\ndraft: false\n---\n\n# Top *one*\n\nPara\nline two\n\nSetext\n---\n\n- a\n- b\n  - c\n\n> quote\n\n```rust\nlet x;\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n***\n\n[x]: http://y\n";
    let found = kinds(text);
    let expected: Vec<(BlockKind, &str)> = vec![
        (BlockKind::Paragraph, "Front\ndraft: false"),
        (BlockKind::Heading { level: 1 }, "# Top *one*"),
        (BlockKind::Paragraph, "Para\nline two"),
        (BlockKind::Heading { level: 2 }, "Setext\n---"),
        (BlockKind::ListItem, "- a"),
        (BlockKind::ListItem, "- b"),
        (BlockKind::ListItem, "- c"),
        (BlockKind::Quote, "> quote"),
        (BlockKind::Code, "```rust\nlet x;\n```"),
        (BlockKind::Table, "| a | b |\n|---|---|\n| 1 | 2 |"),
        (BlockKind::PageFurniture, "***"),
        (BlockKind::Paragraph, "[x]: http://y"),
    ];
    assert_eq!(shown(&found), expected);
}

#[test]
fn the_title_is_the_front_matters_or_the_first_top_heading() {
    let title = |t: &str| document(t).info.title;
    assert_eq!(title("---\ntitle: 'F'\n---\n# H\n").as_deref(), Some("F"));
    assert_eq!(title("---\nowner: x\n---\n# H\n").as_deref(), Some("H"));
    assert_eq!(title("## sub\n\n# The `one`\n\n# two\n").as_deref(), Some("The one"));
    assert_eq!(title("no heading"), None);
}

#[test]
fn text_between_thematic_breaks_is_no_front_matter() {
    let found = kinds("First.\n\n---\nKept: yes\n---\n\nLast.");
    assert!(found.contains(&(BlockKind::Heading { level: 2 }, "Kept: yes\n---".into())), "{found:?}");
    let found = kinds("---\nJust a line.\n---\n\nLast.");
    assert!(found.contains(&(BlockKind::Heading { level: 2 }, "Just a line.\n---".into())), "{found:?}");
}

#[test]
fn character_references_become_characters_outside_code() {
    let table = [
        ("Caf&eacute; &#233;&#xE9;&#XE9; R&amp;D", "Café ééé R&D"),
        ("5&nbsp;000&thinsp;&euro; &copy;&nbsp;1999 &NotEqualTilde;", "5\u{a0}000\u{2009}€ ©\u{a0}1999 ≂̸"),
        ("`&eacute;` and ``a `&lt;` b``", "`&eacute;` and ``a `&lt;` b``"),
        ("```\n&eacute;\n```", "```\n&eacute;\n```"),
        ("    &eacute; indented", "    &eacute; indented"),
        ("\\&amp; &nosuch; &eacute &; & AT&T;", "\\&amp; &nosuch; &eacute &; & AT&T;"),
        ("# K&uuml;ste &amp; Meer", "# Küste & Meer"),
        ("a&#10;b&NewLine;c&Tab;d&#0;e&#7;f", "a b c d\u{fffd}ef"),
        ("&#42;not bold&#42; &#35; &lt;b&gt;", "*not bold* # <b>"),
        ("![caf&eacute;](a.png \"t\")", "![café](a.png \"t\")"),
        ("<p title=\"&eacute;\">stra&szlig;e</p>", "<p title=\"é\">straße</p>"),
        ("1 < 2 &lt; 3", "1 < 2 < 3"),
    ];
    for (text, expected) in table {
        assert_eq!(document(text).pages[0].text, expected, "{text}");
    }
    assert_eq!(document("# Gro&szlig;e K&uuml;ste").info.title.as_deref(), Some("Große Küste"));
}

#[test]
fn references_never_change_the_blocks() {
    let text = "&#35; no heading\n\n&gt; no quote\n\n| a | b |\n|---|---|\n| x &#124; y &vert; z | &lt;&nbsp;w |\n\n&nbsp;\n\n&#45; no item\n\n- it&eacute;m\n\nend&#10;&#10;of it";
    let found = kinds(text);
    let expected: Vec<(BlockKind, &str)> = vec![
        (BlockKind::Paragraph, "# no heading"),
        (BlockKind::Paragraph, "> no quote"),
        (BlockKind::Table, "| a | b |\n|---|---|\n| x \\| y \\| z | <\u{a0}w |"),
        (BlockKind::Paragraph, "- no item"),
        (BlockKind::ListItem, "- itém"),
        (BlockKind::Paragraph, "end  of it"),
    ];
    assert_eq!(shown(&found), expected);
}

#[test]
fn an_embedded_image_is_a_figure_with_its_place() {
    let payload = "iVBORw0KGgo9".repeat(30);
    let lines = payload.as_bytes().chunks(60).map(|l| std::str::from_utf8(l).unwrap()).collect::<Vec<_>>().join("\n");
    let text = format!(
        "# Pump\n\n## Wiring\n\n![The pump](data:image/png;base64,{payload})\n\nThe blue lead.\n\nSee ![in text](data:image/png;base64,{lines}) there.\n\n\
         <img alt=\"Valve\" src=\"data:image/gif;base64,{lines}\">\n\n![ref][p] \n![two](data:image/png;base64,{payload})\n\n\
         - ![item](data:image/png;base64,{payload})\n\n<svg><image href=\"data:image/png;base64,{payload}\"/></svg>\n\n\
         ![file](pump.png)\n\n[p]: data:image/png;base64,{payload}\n\n## Next\n\nLast."
    );
    let document = document(&text);
    let page = &document.pages[0];
    assert!(!page.text.contains("iVBOR"), "{}", page.text);
    let found: Vec<(BlockKind, &str)> = page.blocks.iter().map(|b| (b.kind, b.range.of(&page.text))).collect();
    let expected: Vec<(BlockKind, &str)> = vec![
        (BlockKind::Heading { level: 1 }, "# Pump"),
        (BlockKind::Heading { level: 2 }, "## Wiring"),
        (BlockKind::Figure, "![The pump](data:image/png)"),
        (BlockKind::Paragraph, "The blue lead."),
        (BlockKind::Paragraph, "See ![in text](data:image/png) there."),
        (BlockKind::Figure, "<img alt=\"Valve\" src=\"data:image/gif\">"),
        (BlockKind::Figure, "![ref][p] \n![two](data:image/png)"),
        (BlockKind::ListItem, "- ![item](data:image/png)"),
        (BlockKind::Figure, "<svg><image href=\"data:image/png\"/></svg>"),
        (BlockKind::Paragraph, "![file](pump.png)"),
        (BlockKind::Paragraph, "[p]: data:image/png"),
        (BlockKind::Heading { level: 2 }, "## Next"),
        (BlockKind::Paragraph, "Last."),
    ];
    assert_eq!(found, expected);
    assert_eq!(document.notes.len(), 1);
    assert!(document.notes[0].contains("7 with"), "{:?}", document.notes);
}

#[test]
fn an_image_without_its_end_costs_no_heading() {
    let payload = "iVBORw0KGgo9".repeat(30);
    let found = kinds(&format!("# A\n\n![x](data:image/png;base64,{payload}\n\n## B\n\nText."));
    let expected: Vec<(BlockKind, &str)> = vec![
        (BlockKind::Heading { level: 1 }, "# A"),
        (BlockKind::Figure, "![x](data:image/png)"),
        (BlockKind::Heading { level: 2 }, "## B"),
        (BlockKind::Paragraph, "Text."),
    ];
    assert_eq!(shown(&found), expected);
}

#[test]
fn guesses_and_images_are_noted_on_the_document() {
    let document = extract(b"# Caf\xe9 au lait \xe0 emporter\n\nD\xe9j\xe0 vu.", &ExtractOptions::default()).unwrap();
    assert!(document.notes[0].contains("windows-1252"), "{:?}", document.notes);
    assert_eq!(document.info.title.as_deref(), Some("Café au lait à emporter"));
}

proptest! {
    #[test]
    fn blocks_are_sorted_disjoint_and_cover_all_but_white_space(
        text in "(---\n|\\+\\+\\+\n|a: b\n)?([-#>*|`a-z0-9 \t\\[\\]:.é&;<!\\(\\)\"]{0,12}(&(eacute|nbsp|lt|#10|#124|vert);)?\n){0,24}"
    ) {
        let document = extract(text.as_bytes(), &ExtractOptions { accept_textless: true, ..Default::default() }).unwrap();
        let page = &document.pages[0];
        let mut at = 0usize;
        for b in &page.blocks {
            let (start, end) = (b.range.start as usize, b.range.end as usize);
            prop_assert!(at <= start && start < end && end <= page.text.len());
            prop_assert!(page.text[at..start].trim().is_empty(), "uncovered: {:?}", &page.text[at..start]);
            prop_assert!(!b.range.of(&page.text).trim().is_empty());
            at = end;
        }
        prop_assert!(page.text[at..].trim().is_empty());
    }

    #[test]
    fn any_bytes_are_read_or_refused(bytes in proptest::collection::vec(any::<u8>(), 0..400)) {
        let _ = extract(&bytes, &ExtractOptions::default());
    }
}
