//! Uses the file's own table of contents if extraction found no heading.
//!
//! If an entry's title is the first line of a block on its page, that line becomes a heading. An entry that is not
//! found takes effect at the start of its page, as context only. If the text has any heading of its own, the outline
//! is ignored: two sources of structure that disagree make worse paths than either.

use std::collections::VecDeque;

use docweir_core::model::{BlockKind, ExtractedDocument, OutlineEntry, Page};

pub struct Outline<'a> {
    /// Entries with their pages, sorted by page; empty if the text has headings of its own.
    entries: VecDeque<(u32, &'a OutlineEntry)>,
    /// Entries of the current page that its text shows, in order.
    here: VecDeque<(u8, String)>,
}

pub enum Placement {
    /// The first `bytes` bytes of the block are a heading.
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

    /// Moves to a page. Returns the entries up to it that no page's text shows.
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

    /// Decides whether the block's first line is an entry of the current page. Each entry matches once, in any order.
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

/// Returns the key of the first line, for kinds of block that may contain a heading.
fn first_line(kind: BlockKind, text: &str) -> Option<String> {
    let may_be = matches!(kind, BlockKind::Paragraph | BlockKind::ListItem);
    let line = text.trim_start().lines().next().filter(|l| l.len() <= 400)?;
    may_be.then(|| key(line))
}

/// Keeps only letters and digits, in lower case: titles differ from the text in spaces, punctuation and case.
fn key(title: &str) -> String {
    title.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}
