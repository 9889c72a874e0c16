//! Extracts Markdown: returns the text as one page, and divides it into blocks.
//!
//! The text stays as it was written, except that line ends become `\n`, control characters are removed, character
//! references outside code become characters, and data URIs lose their payload. Front matter becomes a paragraph with
//! one line for each field, so that searches find it. Thematic breaks stay in the text. They are marked as page furniture
//! (text that is not part of the content), so that searches ignore them.

use pulldown_cmark::{Event, HeadingLevel, Options, Parser, Tag, TagEnd};
use std::ops::Range;

use docweir_core::documents::MediaType;
use docweir_core::error::StageError;
use docweir_core::model::{Block, BlockKind, DocumentInfo, ExtractedDocument};

use super::ExtractOptions;
use super::encoding::Decoded;
use super::front_matter::{self, FrontMatter};
use super::references::Replacements;
use super::text;

/// Text between the front matter and the rest of the page.
const AFTER_FRONT_MATTER: &str = "\n\n";

/// Extracts Markdown. The title comes from the front matter, or else from the first heading of level 1.
pub(super) fn extract(bytes: &[u8], options: &ExtractOptions) -> Result<ExtractedDocument, StageError> {
    let Decoded { text, mut notes } = text::decode(bytes, options)?;
    let text = text.replace('\u{c}', "\n");
    let FrontMatter { end, text: front, info, notes: more } = front_matter::read(&text).unwrap_or_default();
    notes.extend(more);
    let body = text.get(end..).unwrap_or_default();
    let Body { mut found, replacements, title } = body_of(body);
    let body = replacements.apply(body, found.iter_mut().map(|(_, range)| range));
    let mut blocks = Vec::new();
    let mut page = String::with_capacity(front.len() + AFTER_FRONT_MATTER.len() + body.len());
    if !front.is_empty() {
        blocks.push(text::block(BlockKind::Paragraph, 0, front.len()));
        page.push_str(&front);
        page.push_str(AFTER_FRONT_MATTER);
    }
    blocks.extend(cover(&body, found, page.len()));
    page.push_str(&body);
    let document = ExtractedDocument {
        media_type: MediaType::Markdown,
        pages: vec![text::page(1, page, blocks)],
        info: DocumentInfo { title: info.title.or(title), ..info },
        outline: Vec::new(),
        notes,
    };
    super::refuse_without_text(document, options)
}

/// Holds what the parser has found in a text without front matter.
#[derive(Default)]
struct Body {
    /// Blocks in any order, which may overlap.
    found: Vec<(BlockKind, Range<usize>)>,
    replacements: Replacements,
    /// First heading of level 1.
    title: Option<String>,
}

fn body_of(text: &str) -> Body {
    let extensions =
        Options::ENABLE_TABLES | Options::ENABLE_FOOTNOTES | Options::ENABLE_STRIKETHROUGH | Options::ENABLE_TASKLISTS;
    let mut body = Body::default();
    // Whole blocks (tables, quotes, …) are not divided further; `inside` counts the whole blocks around the current
    // event.
    let mut inside = 0usize;
    let mut items: Vec<Range<usize>> = Vec::new();
    let mut heading: Option<String> = None;
    let mut figure = FigureWatch::default();
    let mut in_table = false;
    for (event, range) in Parser::new_ext(text, extensions).into_offset_iter() {
        figure.see(&event);
        match &event {
            Event::Start(Tag::Table(_)) => in_table = true,
            Event::End(TagEnd::Table) => in_table = false,
            Event::Html(html) => body.replacements.add_html(html, range.start),
            Event::Text(meaning) => {
                let written = text.get(range.clone()).unwrap_or_default();
                if written.starts_with('&') && written.ends_with(';') && **meaning != *written {
                    body.replacements.add(range.clone(), meaning, in_table);
                }
            }
            _ => {}
        }
        match event {
            Event::Start(_) if inside > 0 => inside += 1,
            Event::End(_) if inside > 1 => inside -= 1,
            Event::End(TagEnd::Heading(HeadingLevel::H1)) => {
                inside = 0;
                body.title = body.title.or(heading.take().filter(|t| !t.trim().is_empty()));
            }
            Event::End(_) if inside == 1 => {
                inside = 0;
                heading = None;
                let watched = std::mem::take(&mut figure);
                if let Some((kind @ BlockKind::Paragraph, _)) = body.found.last_mut()
                    && watched.is_figure()
                {
                    *kind = BlockKind::Figure;
                }
            }
            Event::Start(Tag::List(_)) => {
                // A nested list ends the text of the item that contains it.
                if let Some(item) = items.last_mut().filter(|i| i.start < range.start) {
                    body.found.push((BlockKind::ListItem, item.start..range.start));
                    item.start = range.end;
                }
            }
            Event::Start(Tag::Item) => items.push(range),
            Event::End(TagEnd::Item) => {
                body.found.extend(items.pop().filter(|i| i.start < i.end).map(|i| (BlockKind::ListItem, i)));
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
                    _ => BlockKind::Paragraph,
                };
                inside = 1;
                body.found.push((kind, range));
            }
            Event::Rule if inside == 0 && items.is_empty() => body.found.push((BlockKind::PageFurniture, range)),
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
    body
}

/// Recognises a paragraph, or a block of HTML, that consists of embedded images.
#[derive(Default)]
struct FigureWatch {
    images: usize,
    other: bool,
    /// Number of images around the current event, whose text is a description.
    inside: usize,
    /// HTML of the block that has not been judged yet.
    html: String,
}

impl FigureWatch {
    fn see(&mut self, event: &Event<'_>) {
        match event {
            Event::Start(Tag::Paragraph | Tag::HtmlBlock) => *self = Self::default(),
            Event::Start(Tag::Image { dest_url, .. }) => {
                self.inside += 1;
                self.image(dest_url);
            }
            Event::End(TagEnd::Image) => self.inside = self.inside.saturating_sub(1),
            Event::Html(html) | Event::InlineHtml(html) => self.html.push_str(html),
            Event::Text(text) if self.inside == 0 => self.other |= !text.trim().is_empty(),
            Event::Code(_) | Event::FootnoteReference(_) | Event::TaskListMarker(_) => self.other = true,
            _ => {}
        }
    }

    fn image(&mut self, address: &str) {
        if is_data(address) {
            self.images += 1;
        } else {
            self.other = true;
        }
    }

    fn is_figure(&self) -> bool {
        let html = is_data_html(&self.html);
        !self.other && (self.images > 0 || html) && (self.html.is_empty() || html)
    }
}

fn is_data(address: &str) -> bool {
    address.get(..5).is_some_and(|scheme| scheme.eq_ignore_ascii_case("data:"))
}

/// Returns whether a piece of HTML has an embedded image, and no text between its tags.
fn is_data_html(html: &str) -> bool {
    let mut in_tag = false;
    let outside = html.chars().any(|c| {
        match c {
            '<' => in_tag = true,
            '>' => in_tag = false,
            c => return !in_tag && !c.is_whitespace(),
        }
        false
    });
    let embedded = ["\"data:", "'data:", "=data:", "(data:"].iter().any(|mark| html.contains(mark));
    embedded && !outside
}

/// Sorts and trims the blocks and makes them disjoint. Text that no block covers (link definitions) becomes
/// paragraphs. The ranges of the result begin at `offset`.
fn cover(text: &str, mut found: Vec<(BlockKind, Range<usize>)>, offset: usize) -> Vec<Block> {
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
            blocks.push(text::block(kind, offset + line, offset + end));
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

#[cfg(test)]
#[path = "markdown_tests.rs"]
mod tests;
