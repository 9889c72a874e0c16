//! Extracts Markdown: returns the text verbatim as one page, and divides it into blocks.
//!
//! As with plain text, line ends become `\n` and control characters are removed; the rest is unchanged. Front matter
//! and thematic breaks stay in the text. They are marked as page furniture (text that is not part of the content), so
//! that searches ignore them.

use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd};
use std::ops::Range;

use docweir_core::documents::MediaType;
use docweir_core::error::StageError;
use docweir_core::model::{Block, BlockKind, DocumentInfo, ExtractedDocument};

use super::ExtractOptions;
use super::encoding::Decoded;
use super::text;

/// Extracts Markdown. The title comes from the front matter, or else from the first heading of level 1.
pub(super) fn extract(bytes: &[u8], options: &ExtractOptions) -> Result<ExtractedDocument, StageError> {
    let Decoded { text, notes } = text::decode(bytes, options)?;
    let text = text.replace('\u{c}', "\n");
    let (blocks, title) = blocks(&text);
    let document = ExtractedDocument {
        media_type: MediaType::Markdown,
        pages: vec![text::page(1, text, blocks)],
        info: DocumentInfo { title, ..Default::default() },
        outline: Vec::new(),
        notes,
    };
    super::refuse_without_text(document, options)
}

fn blocks(text: &str) -> (Vec<Block>, Option<String>) {
    let extensions = Options::ENABLE_TABLES
        | Options::ENABLE_FOOTNOTES
        | Options::ENABLE_STRIKETHROUGH
        | Options::ENABLE_TASKLISTS
        | Options::ENABLE_YAML_STYLE_METADATA_BLOCKS;
    let mut found: Vec<(BlockKind, Range<usize>)> = Vec::new();
    // Whole blocks (tables, quotes, …) are not divided further; `inside` counts the whole blocks around the current
    // event.
    let mut inside = 0usize;
    let mut items: Vec<Range<usize>> = Vec::new();
    let mut heading: Option<String> = None;
    let (mut first_heading, mut front_title) = (None, None);
    for (event, range) in Parser::new_ext(text, extensions).into_offset_iter() {
        match event {
            Event::Start(_) if inside > 0 => inside += 1,
            Event::End(_) if inside > 1 => inside -= 1,
            Event::End(TagEnd::Heading(HeadingLevel::H1)) => {
                inside = 0;
                first_heading = first_heading.or(heading.take());
            }
            Event::End(_) if inside == 1 => {
                inside = 0;
                heading = None;
            }
            Event::Start(Tag::List(_)) => {
                // A nested list ends the text of the item that contains it.
                if let Some(item) = items.last_mut().filter(|i| i.start < range.start) {
                    found.push((BlockKind::ListItem, item.start..range.start));
                    item.start = range.end;
                }
            }
            Event::Start(Tag::Item) => items.push(range),
            Event::End(TagEnd::Item) => {
                found.extend(items.pop().filter(|i| i.start < i.end).map(|i| (BlockKind::ListItem, i)));
            }
            Event::Start(tag) if items.is_empty() => {
                let kind = match tag {
                    Tag::Heading { level, .. } => {
                        heading = Some(String::new());
                        BlockKind::Heading { level: level as u8 }
                    }
                    Tag::BlockQuote(_) => BlockKind::Quote,
                    Tag::CodeBlock(_) => BlockKind::Code,
                    Tag::Table(_) => BlockKind::Table,
                    Tag::MetadataBlock(_) => {
                        front_title = text.get(range.clone()).and_then(title_of_front_matter);
                        BlockKind::PageFurniture
                    }
                    _ => BlockKind::Paragraph,
                };
                inside = 1;
                found.push((kind, range));
            }
            Event::Rule if inside == 0 && items.is_empty() => found.push((BlockKind::PageFurniture, range)),
            Event::Text(t) | Event::Code(t) => {
                if let Some(heading) = &mut heading {
                    heading.push_str(&t);
                }
            }
            Event::SoftBreak | Event::HardBreak => {
                if let Some(heading) = &mut heading {
                    heading.push(' ');
                }
            }
            _ => {}
        }
    }
    (cover(text, found), front_title.or(first_heading).filter(|t| !t.trim().is_empty()))
}

/// Sorts and trims the blocks and makes them disjoint. Text that no block covers (link definitions) becomes
/// paragraphs.
fn cover(text: &str, mut found: Vec<(BlockKind, Range<usize>)>) -> Vec<Block> {
    found.sort_by_key(|(_, r)| (r.start, std::cmp::Reverse(r.end)));
    let mut blocks = Vec::with_capacity(found.len());
    let mut at = 0;
    let mut push = |kind, range: Range<usize>| {
        let Some(part) = text.get(range.clone()) else { return };
        let skipped = part.len() - part.trim_start_matches(['\n', ' ', '\t']).len();
        let end = range.start + part.trim_end().len();
        if range.start + skipped < end {
            // An indented block begins at the start of its line, so that code keeps its indentation.
            let line = text[..range.start + skipped].rfind('\n').map_or(0, |n| n + 1).max(range.start);
            blocks.push(text::block(kind, line, end));
        }
    };
    for (kind, range) in found {
        let start = range.start.max(at);
        push(BlockKind::Paragraph, at..start);
        if start < range.end {
            push(kind, start..range.end);
            at = range.end;
        }
    }
    push(BlockKind::Paragraph, at..text.len());
    blocks
}

fn title_of_front_matter(block: &str) -> Option<String> {
    let value = block.lines().find_map(|l| l.strip_prefix("title:"))?.trim();
    let unquoted = ['"', '\''].iter().find_map(|&q| value.strip_prefix(q)?.strip_suffix(q)).unwrap_or(value);
    (!unquoted.is_empty()).then(|| unquoted.to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn kinds(text: &str) -> Vec<(BlockKind, String)> {
        let document = extract(text.as_bytes(), &ExtractOptions::default()).unwrap();
        let page = &document.pages[0];
        page.blocks.iter().map(|b| (b.kind, b.range.of(&page.text).to_owned())).collect()
    }

    #[test]
    fn every_kind_of_block_with_its_exact_range() {
        let text = "---\ntitle: \"Front\"\n---\n\n# Top *one*\n\nPara\nline two\n\nSetext\n---\n\n- a\n- b\n  - c\n\n> quote\n\n```rust\nlet x;\n```\n\n| a | b |\n|---|---|\n| 1 | 2 |\n\n***\n\n[x]: http://y\n";
        let found = kinds(text);
        let expected: Vec<(BlockKind, &str)> = vec![
            (BlockKind::PageFurniture, "---\ntitle: \"Front\"\n---"),
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
        let found: Vec<(BlockKind, &str)> = found.iter().map(|(k, t)| (*k, t.as_str())).collect();
        assert_eq!(found, expected);
    }

    #[test]
    fn the_title_is_the_front_matters_or_the_first_top_heading() {
        let title = |t: &str| extract(t.as_bytes(), &ExtractOptions::default()).unwrap().info.title;
        assert_eq!(title("---\ntitle: 'F'\n---\n# H\n").as_deref(), Some("F"));
        assert_eq!(title("## sub\n\n# The `one`\n\n# two\n").as_deref(), Some("The one"));
        assert_eq!(title("no heading"), None);
    }

    proptest! {
        #[test]
        fn blocks_are_sorted_disjoint_and_cover_all_but_white_space(text in "([-#>*|`a-z0-9 \t\\[\\]:.é]{0,12}\n){0,24}") {
            let (blocks, _) = blocks(&text);
            let mut at = 0usize;
            for b in &blocks {
                let (start, end) = (b.range.start as usize, b.range.end as usize);
                prop_assert!(at <= start && start < end && end <= text.len());
                prop_assert!(text[at..start].trim().is_empty(), "uncovered: {:?}", &text[at..start]);
                prop_assert!(!b.range.of(&text).trim().is_empty());
                at = end;
            }
            prop_assert!(text[at..].trim().is_empty());
        }
    }
}
