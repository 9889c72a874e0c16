//! The file's own table of contents, for documents whose extraction found no heading.
//!
//! An entry whose title is the first line of a block on its page makes that line a heading; one that is not found
//! takes effect at the page's start, as context only. With any heading found in the text itself, the outline is left
//! alone: two sources of structure that disagree make worse paths than either.

use std::collections::VecDeque;

use docweir_core::model::{BlockKind, ExtractedDocument, OutlineEntry, Page};

pub struct Outline<'a> {
    /// By page, in order; empty where it does not apply.
    entries: VecDeque<(u32, &'a OutlineEntry)>,
    /// Of the current page, found in its text, in order.
    here: VecDeque<(u8, String)>,
}

pub enum Placement {
    /// The block's first `bytes` are a heading.
    Heading {
        level: u8,
        bytes: usize,
    },
    None,
}

impl<'a> Outline<'a> {
    pub fn of(doc: &'a ExtractedDocument) -> Self {
        let found = doc.pages.iter().flat_map(|p| &p.blocks).any(|b| matches!(b.kind, BlockKind::Heading { .. }));
        let mut entries: Vec<_> = doc.outline.iter().filter_map(|e| Some((e.page?, e))).collect();
        entries.sort_by_key(|(page, _)| *page);
        if found {
            entries.clear();
        }
        Self { entries: entries.into(), here: VecDeque::new() }
    }

    /// Moves to a page: the entries up to it that its text does not show.
    pub fn at_start_of(&mut self, page: &Page) -> Vec<(u8, String)> {
        self.here.clear();
        let mut unplaced = Vec::new();
        while let Some((number, entry)) = self.entries.front().copied().filter(|(n, _)| *n <= page.number) {
            self.entries.pop_front();
            let title = key(&entry.title);
            let level = entry.level.max(1);
            let shown = number == page.number
                && page.blocks.iter().any(|b| first_line(b.kind, b.range.of(&page.text)) == Some(title.clone()));
            if shown && !title.is_empty() {
                self.here.push_back((level, title));
            } else if !title.is_empty() {
                unplaced.push((level, entry.title.split_whitespace().collect::<Vec<_>>().join(" ")));
            }
        }
        unplaced
    }

    /// Whether the block's first line is one of the page's entries. Takes them in any order, each once.
    pub fn placed(&mut self, kind: BlockKind, text: &str) -> Placement {
        if self.here.is_empty() {
            return Placement::None;
        }
        let Some(line) = first_line(kind, text) else {
            return Placement::None;
        };
        let Some(at) = self.here.iter().position(|(_, title)| *title == line) else {
            return Placement::None;
        };
        let level = self.here.remove(at).map_or(1, |(level, _)| level);
        Placement::Heading { level, bytes: text.lines().next().map_or(0, str::len) }
    }
}

/// The first line's key, for kinds that may be a heading in disguise.
fn first_line(kind: BlockKind, text: &str) -> Option<String> {
    let may_be = matches!(kind, BlockKind::Paragraph | BlockKind::ListItem);
    let line = text.trim_start().lines().next().filter(|l| l.len() <= 400)?;
    may_be.then(|| key(line))
}

/// Letters and digits only, in lower case: titles differ from the text in spaces, marks and case.
fn key(title: &str) -> String {
    title.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}
