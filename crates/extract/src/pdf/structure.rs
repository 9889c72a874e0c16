//! Finds headings and running heads, by comparing the pages of the whole document.
//!
//! Pages are kept as drafts in a window, so that memory does not grow with the document. When the window is full, its
//! pages are analysed with the statistics gathered so far. A document of up to [`WINDOW_PAGES`] pages is analysed as a
//! whole.

use std::collections::{HashMap, HashSet};

use docweir_core::model::BlockKind;

use super::blocks::{Content, Draft, DraftBlock, TextLine};
use super::words::join;

/// Number of pages that are analysed together.
pub(super) const WINDOW_PAGES: usize = 48;
/// Number of words at which a window counts as full, even if it has fewer than [`WINDOW_PAGES`] pages.
pub(super) const WINDOW_WORDS: usize = 60_000;
/// Minimum number of pages that must have the same text at the same position. Only then does the text count as page
/// furniture.
const REPEATS: u32 = 3;
/// Maximum number of distinct running heads that are counted.
const MAX_KEYS: usize = 20_000;
/// Maximum number of characters of a heading.
const HEADING_CHARS: usize = 200;

/// Holds statistics of all pages of the document so far.
#[derive(Default)]
pub(super) struct Structure {
    /// Number of characters by font size; the key is the size in half points.
    sizes: HashMap<u32, usize>,
    /// Number of characters by stroke weight; the key is a fifth of the weight, rounded.
    weights: HashMap<u32, usize>,
    /// Number of characters by font.
    fonts: HashMap<u16, usize>,
    furniture: HashMap<(bool, i32, String), u32>,
    /// Running heads and feet that were kept as text, as written and with their digits replaced.
    kept: HashSet<String>,
    /// Font sizes of headings in half points, largest first.
    levels: Vec<u32>,
    /// Titles of the outline, as [`fold`] returns them, with their levels.
    outline: HashMap<String, u8>,
}

/// Describes the style of most of the text.
struct Body {
    size: f32,
    weight: f32,
    font: Option<u16>,
}

/// Holds a block of a draft, and the kind that was determined for this block.
pub(super) struct Judged {
    pub block: DraftBlock,
    pub kind: BlockKind,
}

fn half_points(size: f32) -> u32 {
    (size * 2.0).round().clamp(0.0, 4000.0) as u32
}

fn chars(lines: &[TextLine]) -> usize {
    lines.iter().flat_map(|l| &l.words).map(|w| w.text.chars().count()).sum()
}

impl Structure {
    pub fn new(outline: impl IntoIterator<Item = (u8, String)>) -> Self {
        let outline = outline.into_iter().map(|(level, title)| (fold(&title), level)).filter(|(t, _)| t.len() > 2);
        Self { outline: outline.collect(), ..Default::default() }
    }

    /// Adds a page to the statistics. Must be called for every page of a window before [`Self::judge`] is called.
    pub fn learn(&mut self, page: &Draft) {
        let text = |block: &&DraftBlock| !matches!(block.content, Content::Comment(_));
        for block in page.blocks.iter().filter(text) {
            let n = chars(block.lines());
            *self.sizes.entry(half_points(block.size)).or_default() += n;
            if let Some(font) = block.font {
                *self.fonts.entry(font).or_default() += n;
            }
            if block.weight > 0.0 {
                *self.weights.entry((block.weight / 5.0).round() as u32).or_default() += n;
            }
        }
        for (line, key) in page.blocks.iter().flat_map(|b| b.lines()).filter_map(|l| Some((l, key(l, page)?))) {
            if self.furniture.len() < MAX_KEYS && !line.words.is_empty() {
                *self.furniture.entry(key).or_default() += 1;
            }
        }
    }

    fn body(&self) -> Body {
        let most =
            |m: &HashMap<u32, usize>| m.iter().max_by_key(|(k, n)| (**n, u32::MAX - **k)).map(|(k, _)| *k as f32);
        Body {
            size: most(&self.sizes).unwrap_or(20.0) / 2.0,
            weight: most(&self.weights).unwrap_or_default() * 5.0,
            font: self.fonts.iter().max_by_key(|(font, n)| (**n, u16::MAX - **font)).map(|(font, _)| *font),
        }
    }

    /// Determines the kind of each block of a window. [`Self::learn`] must have been called for all pages of the
    /// window.
    pub fn judge(&mut self, pages: Vec<Draft>) -> Vec<(Draft, Vec<Judged>)> {
        let body = self.body();
        let mut out: Vec<(Draft, Vec<Judged>)> = Vec::with_capacity(pages.len());
        for mut page in pages {
            let blocks = std::mem::take(&mut page.blocks);
            let parts = blocks.into_iter().flat_map(|b| self.part_furniture(b, &page)).collect::<Vec<_>>();
            let (parts, running) = self.keep_first(parts);
            let is_prose = |(block, furniture): &(DraftBlock, bool)| {
                let text = !furniture && !matches!(block.content, Content::Comment(_));
                text && block.lines().len() >= 2 && chars(block.lines()) >= 80
            };
            let first = parts.iter().position(is_prose).or_else(|| parts.iter().position(|(_, f)| !f).map(|i| i + 1));
            let last = parts.iter().rposition(is_prose).or_else(|| parts.iter().rposition(|(_, f)| !f)?.checked_sub(1));
            let named: Vec<bool> = (0..parts.len())
                .map(|i| {
                    let next = parts.get(i + 1).filter(|next| is_prose(next)).map(|(block, _)| block);
                    next.is_some_and(|next| names_paragraph(&parts[i].0, next, &body))
                })
                .collect();
            let judged = parts.into_iter().enumerate().map(|(i, (block, furniture))| {
                let at_end = first.is_some_and(|first| i < first) || last.is_some_and(|last| i > last);
                let kind = match &block.content {
                    _ if furniture => BlockKind::PageFurniture,
                    _ if running[i] => BlockKind::Paragraph,
                    Content::Table(_) => BlockKind::Table,
                    Content::Comment(_) => BlockKind::Quote,
                    _ if self.is_heading(&block, &page, &body, at_end) || named[i] => BlockKind::Heading { level: 0 },
                    Content::Item { .. } => BlockKind::ListItem,
                    Content::Paragraph(_) => BlockKind::Paragraph,
                };
                Judged { block, kind }
            });
            let judged = judged.collect();
            out.push((page, judged));
        }
        self.give_levels(&mut out, body.size);
        out
    }

    /// Keeps the first of equal running heads as text, so that its words can be found. Heads that differ only in a page
    /// number are equal; those with a longer number, such as that of an invoice, are not. Also keeps the heads of a page
    /// that has nothing else. Returns the parts, and for each part whether it is such a head.
    fn keep_first(&mut self, mut parts: Vec<(DraftBlock, bool)>) -> (Vec<(DraftBlock, bool)>, Vec<bool>) {
        let alone = parts.iter().all(|(_, furniture)| *furniture);
        let mut running = vec![false; parts.len()];
        for (i, (block, furniture)) in parts.iter_mut().enumerate().filter(|(_, (_, furniture))| *furniture) {
            let text = block.text();
            if (is_page_number(&text) && !alone) || self.kept.len() >= MAX_KEYS {
                continue;
            }
            let first = self.kept.insert(without_digits(&text));
            let counts = has_long_number(&text);
            let new = self.kept.insert(text);
            if first || (new && (alone || counts)) {
                (*furniture, running[i]) = (false, true);
            }
        }
        (parts, running)
    }

    /// Cuts a block where running heads or feet begin and end. Returns the parts, each with a flag that is true if
    /// the part is a running head or foot.
    fn part_furniture(&self, block: DraftBlock, page: &Draft) -> Vec<(DraftBlock, bool)> {
        let repeated = |line: &TextLine| {
            let often = |k| self.furniture.get(&k).is_some_and(|&n| n >= REPEATS);
            key(line, page).is_some_and(often) || is_lone_number(line, page)
        };
        if !block.lines().iter().any(repeated) {
            return vec![(block, false)];
        }
        let (size, weight, font) = (block.size, block.weight, block.font);
        let (lines, mut bullet) = match block.content {
            Content::Paragraph(lines) => (lines, None),
            Content::Item { lines, bullet } => (lines, Some(bullet)),
            Content::Table(_) | Content::Comment(_) => return vec![(block, false)],
        };
        let mut parts: Vec<(Vec<TextLine>, bool)> = Vec::new();
        for line in lines {
            let furniture = repeated(&line);
            match parts.last_mut().filter(|(_, f)| *f == furniture) {
                Some((lines, _)) => lines.push(line),
                None => parts.push((vec![line], furniture)),
            }
        }
        let parts = parts.into_iter().filter_map(|(lines, furniture)| {
            let bbox = lines.iter().map(|l| l.bbox).reduce(join)?;
            let content = match bullet.take().filter(|_| !furniture) {
                Some(bullet) => Content::Item { lines, bullet },
                None => Content::Paragraph(lines),
            };
            Some((DraftBlock { content, bbox, size, weight, font }, furniture))
        });
        parts.collect()
    }

    /// Returns whether a block is a heading. `at_end` says that the block is above or below all running text of the
    /// page: there, a line of capitals in the size of the body is more often a running head.
    fn is_heading(&self, block: &DraftBlock, page: &Draft, body: &Body, at_end: bool) -> bool {
        let (body, body_weight) = (body.size, body.weight);
        let lines = block.lines();
        let text = block.text();
        let letters = text.chars().filter(|c| c.is_alphabetic()).count();
        let n = text.chars().count();
        // The number of a chapter may stand alone, in large digits.
        let number = n <= 4 && text.chars().all(|c| c.is_ascii_digit() || c == '.') && block.size >= 2.0 * body;
        if number && lines.len() == 1 {
            return true;
        }
        if lines.is_empty() || lines.len() > 4 || n > HEADING_CHARS || letters < 3 || letters * 2 < n {
            return false;
        }
        if matches!(block.content, Content::Item { bullet: true, .. }) {
            return false;
        }
        if self.outline.contains_key(&fold(&text)) {
            return true;
        }
        let ends_like_prose = text.ends_with(['.', ',', ';', ':', '-']) && !text.ends_with("...");
        let starts_small = text.chars().next().is_some_and(char::is_lowercase);
        let margin = block.bbox[1] < 0.06 * page.height || block.bbox[3] > 0.95 * page.height;
        if block.size >= 1.17 * body {
            // The block is larger than the body text. A long text of that size is an introduction, not a heading.
            return !(margin && block.size < 1.3 * body)
                && (lines.len() <= 3 || block.size > 1.5 * body)
                && !(ends_like_prose && n > 80);
        }
        let bold = body_weight > 0.0 && block.weight >= 1.22 * body_weight;
        let alone = lines.len() <= 2 && n <= 120 && !ends_like_prose && !starts_small && !margin;
        (bold && alone && block.size >= 0.93 * body && !caption(&text))
            || (alone && !at_end && numbered_capitals(&text) && block.size >= 0.97 * body)
    }

    /// Assigns levels to headings. If the title of a heading is also in the outline, the heading gets the level of
    /// the outline entry. Any other heading gets a level by font size; level 1 is the largest size so far.
    fn give_levels(&mut self, pages: &mut [(Draft, Vec<Judged>)], body: f32) {
        let headings = pages.iter().flat_map(|(_, b)| b).filter(|j| matches!(j.kind, BlockKind::Heading { .. }));
        for size in headings.map(|j| half_points(j.block.size)).filter(|&s| s as f32 / 2.0 >= 1.1 * body) {
            // Sizes that are half a point apart count as equal.
            if !self.levels.iter().any(|l| l.abs_diff(size) <= 1) && self.levels.len() < 5 {
                self.levels.push(size);
            }
        }
        self.levels.sort_unstable_by(|a, b| b.cmp(a));
        for judged in pages.iter_mut().flat_map(|(_, b)| b) {
            if let BlockKind::Heading { level } = &mut judged.kind {
                let text = judged.block.text();
                let size = half_points(judged.block.size);
                let larger = self.levels.iter().filter(|&&l| l > size + 1).count();
                let by_size = u8::try_from(larger + 1).unwrap_or(6).min(6);
                *level = self.outline.get(&fold(&text)).copied().unwrap_or(by_size).clamp(1, 6);
            }
        }
    }
}

/// Returns whether a block is a heading by its font: a short line in a font of its own, such as italics, right above a
/// paragraph in the font of the body.
fn names_paragraph(block: &DraftBlock, next: &DraftBlock, body: &Body) -> bool {
    let [line] = block.lines() else { return false };
    let text = line.text();
    let own = block.font.is_some() && body.font.is_some() && block.font != body.font && block.font != next.font;
    let above = next.bbox[1] - block.bbox[3] < 1.5 * block.size && next.bbox[1] > block.bbox[3] - 0.3 * block.size;
    let aligned = (block.bbox[0] - next.bbox[0]).abs() < 2.0 * block.size;
    let short = block.bbox[2] - block.bbox[0] < 0.8 * (next.bbox[2] - next.bbox[0]);
    let words = line.words.len();
    own && above
        && aligned
        && short
        && (1..=10).contains(&words)
        && block.size >= 0.97 * body.size
        && matches!(block.content, Content::Paragraph(_))
        && text.starts_with(char::is_uppercase)
        && text.chars().filter(|c| c.is_alphabetic()).count() >= 4
        && !text.ends_with(['.', ',', ';', ':', '-'])
        && !caption(&text)
}

/// Returns a comparison key for a line near the top or bottom of a page, or `None` for any other line. The key
/// consists of the line's position and text. Digits are replaced, so that a running head with a page number has the
/// same key on every page.
fn key(line: &TextLine, page: &Draft) -> Option<(bool, i32, String)> {
    let middle = (line.bbox[1] + line.bbox[3]) / 2.0;
    let top = middle < 0.11 * page.height;
    if !top && middle < 0.89 * page.height {
        return None;
    }
    let mut text = String::new();
    for word in &line.words {
        let word: String = word.text.chars().take(100).collect();
        text.push_str(&without_digits(&word));
        text.push(' ');
    }
    // All page numbers in Roman numerals have the same key.
    if text.trim().len() <= 8 && text.trim().chars().all(|c| matches!(c, 'i' | 'v' | 'x' | 'l' | 'c')) {
        text = "#".into();
    }
    Some((top, (middle / 6.0).round() as i32, text.trim_end().to_owned()))
}

/// Returns whether a line is a page number at the edge of the page. It needs no repetition.
fn is_lone_number(line: &TextLine, page: &Draft) -> bool {
    let edge = line.bbox[3] < 0.07 * page.height || line.bbox[1] > 0.93 * page.height;
    edge && line.words.len() <= 4 && is_page_number(&line.text())
}

/// Replaces each run of digits by a sign, because a running head may contain a page number.
fn without_digits(text: &str) -> String {
    let mut out = String::new();
    for c in text.chars() {
        let c = if c.is_ascii_digit() { '#' } else { c };
        if !(c == '#' && out.ends_with('#')) {
            out.push(c);
        }
    }
    out
}

/// Returns whether a text has a number of more digits than those of pages have.
fn has_long_number(text: &str) -> bool {
    text.split(|c: char| !c.is_ascii_digit()).any(|digits| digits.len() > 3)
}

/// Returns whether a text is nothing but a page number, such as `12`, `- iv -` and `Page 3 of 7`. A date, a price or a
/// word is none.
fn is_page_number(text: &str) -> bool {
    let sign = |c: char| matches!(c, '-' | '–' | '—' | '|' | '[' | ']' | '(' | ')');
    let number = |word: &str| {
        let roman = word.chars().all(|c| matches!(c, 'i' | 'v' | 'x' | 'l'));
        (1..=3).contains(&word.len()) && word.bytes().all(|b| b.is_ascii_digit()) || (roman && word.len() <= 7)
    };
    let name =
        |word: &str| matches!(word.to_lowercase().as_str(), "page" | "p." | "pg" | "pg." | "of" | "seite" | "von");
    let words: Vec<&str> = text.split_whitespace().map(|w| w.trim_matches(sign)).filter(|w| !w.is_empty()).collect();
    let numbers = words.iter().filter(|word| number(word)).count();
    let named = words.len() > numbers;
    words.iter().all(|word| number(word) || name(word)) && (numbers == 1 || (numbers == 2 && named))
}

/// Returns the letters and digits of a title in lower case, because titles in an outline and on a page differ in spaces
/// and dots.
fn fold(text: &str) -> String {
    text.chars().filter(|c| c.is_alphanumeric()).flat_map(char::to_lowercase).collect()
}

fn caption(text: &str) -> bool {
    let first = text.split([' ', '.', ':']).next().unwrap_or_default().to_lowercase();
    let kind = matches!(first.as_str(), "figure" | "fig" | "table" | "exhibit" | "chart" | "source" | "box" | "photo");
    kind && text.chars().any(|c| c.is_ascii_digit())
}

/// Returns whether the text is a numbered section title or consists of capital letters. Examples are `2.1 Methods`,
/// `IV. RESULTS` and `INTRODUCTION`.
fn numbered_capitals(text: &str) -> bool {
    let mut words = text.split(' ').peekable();
    let number = words.peek().is_some_and(|w| {
        let w = w.trim_end_matches('.');
        !w.is_empty() && w.split('.').all(|p| !p.is_empty() && p.len() <= 2 && p.bytes().all(|b| b.is_ascii_digit()))
    });
    if number {
        words.next();
    }
    let rest: String = words.collect();
    let letters: Vec<char> = rest.chars().filter(|c| c.is_alphabetic()).collect();
    let capitals = letters.len() >= 5 && letters.iter().all(|c| c.is_uppercase()) && text.len() <= 80;
    // `2. Apples` may also be a list item; `2.1 Apples` is a section.
    let nested = text.split(' ').next().is_some_and(|w| w.trim_end_matches('.').contains('.'));
    let sectioned = number && nested && rest.starts_with(char::is_uppercase) && letters.len() >= 4 && text.len() <= 80;
    capitals || sectioned
}

#[cfg(test)]
mod tests {
    use super::super::blocks::Placed;
    use super::*;

    fn block(y: f32, size: f32, weight: f32, text: &str) -> DraftBlock {
        let bbox = [50.0, y, 300.0, y + size];
        let words = text.split(' ').map(|w| Placed { text: w.into(), bbox }).collect();
        DraftBlock { content: Content::Paragraph(vec![TextLine { words, bbox }]), bbox, size, weight, font: None }
    }

    fn judge(pages: Vec<Vec<DraftBlock>>) -> Vec<Vec<BlockKind>> {
        let mut structure = Structure::new([(2, "Out-lined title".to_owned())]);
        let drafts: Vec<Draft> = pages
            .into_iter()
            .zip(1..)
            .map(|(blocks, number)| Draft { number, width: 600.0, height: 800.0, blocks })
            .collect();
        drafts.iter().for_each(|d| structure.learn(d));
        structure.judge(drafts).into_iter().map(|(_, b)| b.into_iter().map(|j| j.kind).collect()).collect()
    }

    const PROSE: &str = "the quick brown fox jumps over the lazy dog and on and on until the line is full of words";

    #[test]
    fn headings_by_size_weight_number_and_outline() {
        let page = vec![
            block(100.0, 20.0, 80.0, "The Title"),
            block(140.0, 14.0, 80.0, "A section"),
            block(200.0, 10.0, 80.0, PROSE),
            block(300.0, 10.0, 120.0, "Bold heading"),
            block(320.0, 10.0, 120.0, "Bold end of a sentence."),
            block(340.0, 10.0, 80.0, PROSE),
            block(400.0, 10.0, 80.0, "2.1 Methods used"),
            block(420.0, 10.0, 80.0, "outlined TITLE"),
            block(440.0, 10.0, 80.0, "ordinary short line"),
            block(460.0, 10.0, 120.0, "Table 3: a caption"),
        ];
        let h = |level| BlockKind::Heading { level };
        let p = BlockKind::Paragraph;
        assert_eq!(judge(vec![page]), [[h(1), h(2), p, h(3), p, p, h(3), h(2), p, p]]);
    }

    #[test]
    fn a_page_with_nothing_but_a_running_head_keeps_what_is_new() {
        let page = |text: &str| vec![block(20.0, 10.0, 80.0, text)];
        let (p, f) = (BlockKind::Paragraph, BlockKind::PageFurniture);
        let pages = ["Label 1", "Label 2", "Label 3", "Label 3", "4"].map(page).to_vec();
        assert_eq!(judge(pages), [[p], [p], [p], [f], [p]]);
    }

    #[test]
    fn heads_with_long_numbers_are_all_kept() {
        let page = |n: u32| vec![block(20.0, 10.0, 80.0, &format!("Invoice No. {n}")), block(300.0, 10.0, 80.0, PROSE)];
        let p = BlockKind::Paragraph;
        assert_eq!(judge((1001..1005).map(page).collect()), [[p, p]; 4]);
    }

    #[test]
    fn page_numbers() {
        for yes in ["12", "- iv -", "Page 3 of 7", "p. 4", "| 3"] {
            assert!(is_page_number(yes), "{yes}");
        }
        for no in
            ["Annual report 3", "page turner", "CLI", "XL", "2026-12-01", "$ 12", "1,234", "12 13", "2026", "+49 30"]
        {
            assert!(!is_page_number(no), "{no}");
        }
    }

    #[test]
    fn what_stands_at_the_edge_of_three_pages_is_furniture() {
        let page = |n: u32| {
            vec![
                block(20.0, 10.0, 80.0, "Running head"),
                block(300.0, 10.0, 80.0, PROSE),
                block(770.0, 10.0, 80.0, &format!("page {n} of 12")),
            ]
        };
        let (p, f) = (BlockKind::Paragraph, BlockKind::PageFurniture);
        // The first running head stays text.
        assert_eq!(judge((9..13).map(page).collect()), [[p, p, f], [f, p, f], [f, p, f], [f, p, f]]);
        for kinds in judge((1..3).map(page).collect()) {
            assert_eq!(kinds, [p, p, f], "two pages prove nothing, but a page number needs no proof");
        }
    }
}
