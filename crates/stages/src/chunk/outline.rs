//! Takes headings from the file's table of contents (its outline) if extraction found no heading in the text.
//!
//! If the first line of a block is the title of an outline entry for the same page, that line becomes a heading. If
//! the title of an entry is not in the text of the entry's page, the entry creates no heading. Its title is only
//! added to the heading path, from the start of that page. If the text has any heading of its own, the outline is
//! ignored. Two sources of structure that disagree would give worse heading paths than either source alone.

use std::collections::VecDeque;

use docweir_core::model::{BlockKind, ExtractedDocument, OutlineEntry, Page};

pub struct Outline<'a> {
    /// Outline entries with their page numbers, sorted by page. Empty if the text has headings of its own.
    entries: VecDeque<(u32, &'a OutlineEntry)>,
    /// Levels and titles of the entries whose titles are in the text of the current page, in order.
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

    /// Advances to `page` and takes the remaining entries up to that page. Entries whose titles are in the text of
    /// `page` are kept for [`Self::placed`]. Returns the levels and titles of all other entries that were taken.
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

    /// Returns a heading if the first line of the block is the title of an entry of the current page. Each entry
    /// matches once; entries may match in any order.
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

/// Returns the first line of a block as a comparison key, or `None` if this kind of block can't contain a heading.
fn first_line(kind: BlockKind, text: &str) -> Option<String> {
    let may_be = matches!(kind, BlockKind::Paragraph | BlockKind::ListItem);
    let line = text.trim_start().lines().next().filter(|l| l.len() <= 400)?;
    may_be.then(|| key(line))
}

/// Returns the letters and digits of a title in lower case, as a comparison key. The title in the outline and the line
/// in the text may differ in spaces, punctuation and case.
fn key(title: &str) -> String {
    title.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}
