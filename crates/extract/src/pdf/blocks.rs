//! Groups segments (parts of a line of text) into blocks, and puts the blocks in reading order. The result is the
//! draft of a page.
//!
//! Lines that follow each other in one column and share one style form a block. The reading order is determined for
//! these blocks. Only then are the blocks cut into paragraphs and list items, by indents, gaps and bullets.

use hayro_interpret::kurbo::Rect;

use super::annotations::Comment;
use super::fonts::Fonts;
use super::glyphs::{PageGlyphs, count_chars};
use super::order::reading_order;
use super::tables::{self, Table};
use super::words::{Box4, Frame, Segment, Word, join, segments};
use super::{gutters, joins};

/// Holds the blocks of a page before rendering. Headings are determined later, from the whole document.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Draft {
    pub number: u32,
    pub width: f32,
    pub height: f32,
    /// Blocks in reading order.
    pub blocks: Vec<DraftBlock>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct DraftBlock {
    pub content: Content,
    /// Box around the block, in page coordinates.
    pub bbox: Box4,
    pub size: f32,
    pub weight: f32,
    /// Font of all words. `None` if they have several, and for a table.
    pub font: Option<u16>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) enum Content {
    Paragraph(Vec<TextLine>),
    /// A list item. If `bullet` is true, the first word of the item is a bullet, which is rendered as `- `.
    Item {
        lines: Vec<TextLine>,
        bullet: bool,
    },
    Table(TableCells),
    /// The comment of a reviewer, which stands beside the text.
    Comment(Vec<TextLine>),
}

/// Describes a table, in page coordinates.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TableCells {
    pub rows: usize,
    pub columns: usize,
    /// Cells by row and column, as [`tables::Table`] has them.
    pub cells: Vec<TableCell>,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct TableCell {
    pub row: usize,
    pub column: usize,
    /// Number of rows and columns that the cell spans.
    pub rows: usize,
    pub columns: usize,
    pub words: Vec<Placed>,
}

/// Describes a visual line, in page coordinates.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct TextLine {
    pub words: Vec<Placed>,
    pub bbox: Box4,
}

/// Describes a word, in page coordinates.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Placed {
    pub text: String,
    pub bbox: Box4,
}

impl TextLine {
    pub fn text(&self) -> String {
        let words: Vec<&str> = self.words.iter().map(|w| w.text.as_str()).collect();
        words.join(" ")
    }
}

impl Draft {
    /// Returns the number of characters of all words without white space.
    pub fn chars(&self) -> u32 {
        let texts = self.blocks.iter().map(|block| {
            let cells = match &block.content {
                Content::Table(table) => table.cells.as_slice(),
                _ => &[],
            };
            let words = block.lines().iter().flat_map(|l| &l.words).chain(cells.iter().flat_map(|c| &c.words));
            count_chars(words.map(|w| w.text.as_str()))
        });
        texts.sum()
    }
}

impl DraftBlock {
    pub fn lines(&self) -> &[TextLine] {
        match &self.content {
            Content::Paragraph(lines) | Content::Item { lines, .. } | Content::Comment(lines) => lines,
            Content::Table(_) => &[],
        }
    }

    /// Returns the text of all lines on one line. A table has none.
    pub fn text(&self) -> String {
        self.lines().iter().map(TextLine::text).collect::<Vec<_>>().join(" ")
    }

    pub fn words(&self) -> usize {
        match &self.content {
            Content::Table(table) => table.cells.iter().map(|cell| cell.words.len()).sum(),
            _ => self.lines().iter().map(|l| l.words.len()).sum(),
        }
    }
}

/// Returns the block of a comment. Its words have the box of the comment's mark on the page.
pub(super) fn comment(comment: &Comment) -> DraftBlock {
    let Rect { x0, y0, x1, y1 } = comment.rect;
    let bbox = [x0 as f32, y0 as f32, x1 as f32, y1 as f32];
    let kind = if comment.reply { "Reply" } else { "Comment" };
    let head = match comment.author.trim() {
        "" => format!("{kind}:"),
        author => format!("{kind} by {author}:"),
    };
    let text = format!("{head} {}", comment.text);
    let lines = text.split(['\n', '\r']).filter(|line| !line.trim().is_empty()).map(|line| TextLine {
        words: line.split_whitespace().map(|word| Placed { text: word.to_owned(), bbox }).collect(),
        bbox,
    });
    DraftBlock { content: Content::Comment(lines.collect()), bbox, size: 0.0, weight: 0.0, font: None }
}

/// Lays out one page. Text in the most frequent direction comes first, then text in each other direction.
pub(super) fn layout(page: &PageGlyphs, fonts: &Fonts, number: u32, width: f32, height: f32) -> Draft {
    let mut glyphs = [0usize; 360];
    for glyph in page.glyphs.iter().filter(|g| !g.space) {
        glyphs[usize::from(glyph.angle) % 360] += 1;
    }
    let mut angles: Vec<(usize, u16)> = glyphs.into_iter().zip(0u16..).filter(|(n, _)| *n > 0).collect();
    angles.sort_by_key(|&(n, angle)| (std::cmp::Reverse(n), angle));
    let mut blocks = Vec::new();
    for (_, angle) in angles {
        let frame = Frame::of(angle);
        let mut segments = segments(page, fonts, angle);
        gutters::split(&mut segments);
        let tables: Vec<Table> =
            if angle == 0 { tables::find(&mut segments, &page.rules, &page.fills) } else { Vec::new() };
        blocks.extend(flow(joins::labels(joins::justified(segments)), tables, frame));
    }
    Draft { number, width, height, blocks }
}

/// Returns the blocks of all text in one direction, in reading order.
fn flow(segments: Vec<Segment>, tables: Vec<Table>, frame: Frame) -> Vec<DraftBlock> {
    let line = usual_size(&segments) * 1.2;
    let stacks = stack(segments);
    let boxes: Vec<Box4> = stacks.iter().map(|s| bounds(s)).chain(tables.iter().map(|t| t.bbox)).collect();
    let mut stacks: Vec<Option<Vec<Segment>>> = stacks.into_iter().map(Some).collect();
    let mut tables: Vec<Option<Table>> = tables.into_iter().map(Some).collect();
    let mut blocks = Vec::new();
    for i in reading_order(&boxes, line) {
        if let Some(stack) = stacks.get_mut(i).and_then(Option::take) {
            blocks.extend(paragraphs(stack).into_iter().map(|lines| draft(lines, frame)));
        } else if let Some(table) = i.checked_sub(stacks.len()).and_then(|i| tables.get_mut(i)).and_then(Option::take) {
            let cell = |cell: tables::Cell| TableCell {
                row: cell.row,
                column: cell.column,
                rows: cell.rows,
                columns: cell.columns,
                words: cell.words.into_iter().map(|w| placed(w, frame)).collect(),
            };
            let cells = table.cells.into_iter().map(cell).collect();
            let cells = TableCells { rows: table.rows, columns: table.columns, cells };
            let bbox = frame.to_page(table.bbox);
            blocks.push(DraftBlock { content: Content::Table(cells), bbox, size: table.size, weight: 0.0, font: None });
        }
    }
    blocks
}

fn bounds(segments: &[Segment]) -> Box4 {
    segments.iter().map(|s| s.bbox).reduce(join).unwrap_or_default()
}

/// Returns the median font size of all characters in the segments.
fn usual_size(segments: &[Segment]) -> f32 {
    let mut sizes: Vec<(f32, usize)> = segments.iter().map(|s| (s.size, s.chars())).collect();
    sizes.sort_by(|a, b| a.0.total_cmp(&b.0));
    let half = sizes.iter().map(|s| s.1).sum::<usize>() / 2;
    let mut seen = 0;
    sizes
        .iter()
        .find(|s| {
            seen += s.1;
            seen > half
        })
        .map_or(10.0, |s| s.0)
}

/// Groups lines of one style that are directly below each other. Two lines side by side may both be directly below
/// (or above) a third line. Neither of the two lines then joins the third line's group, because columns begin or end
/// there.
fn stack(mut segments: Vec<Segment>) -> Vec<Vec<Segment>> {
    segments.sort_by(|a, b| a.bbox[1].total_cmp(&b.bbox[1]).then(a.bbox[0].total_cmp(&b.bbox[0])));
    let n = segments.len();
    let (mut below, mut above) = (vec![Neighbours::default(); n], vec![Neighbours::default(); n]);
    for (i, upper) in segments.iter().enumerate() {
        let limit = upper.bbox[3] + 1.1 * upper.size;
        let mut nearest = f32::MAX;
        for (j, lower) in segments.iter().enumerate().skip(i + 1) {
            if lower.bbox[1] > limit || lower.bbox[1] > nearest {
                break;
            }
            let overlap = upper.bbox[2].min(lower.bbox[2]) - upper.bbox[0].max(lower.bbox[0]);
            let under = lower.baseline - upper.baseline > 0.5 * upper.size.min(lower.size);
            if overlap > 0.0 && under {
                // The lower line hides any lines further below.
                nearest = nearest.min(lower.bbox[1] + 0.6 * lower.size);
                below[i].add(j);
                above[j].add(i);
            }
        }
    }
    let mut stacks: Vec<Vec<Segment>> = Vec::new();
    let mut stack_of: Vec<usize> = vec![usize::MAX; n];
    let mut taken: Vec<Option<Segment>> = segments.into_iter().map(Some).collect();
    for j in 0..n {
        let Some(lower) = taken[j].take() else { continue };
        let home = above[j].only().filter(|&i| below[i].only() == Some(j)).and_then(|i| {
            let stack = stack_of[i];
            let last = stacks.get(stack)?.last()?;
            fits_under(last, &lower).then_some(stack)
        });
        stack_of[j] = match home {
            Some(stack) => {
                stacks[stack].push(lower);
                stack
            }
            None => {
                stacks.push(vec![lower]);
                stacks.len() - 1
            }
        };
    }
    stacks
}

/// Counts a line's neighbours on one side (above or below), and holds the index of the last counted neighbour. The
/// index is used only if there is exactly one neighbour.
#[derive(Clone, Copy, Default)]
struct Neighbours {
    one: usize,
    count: usize,
}

impl Neighbours {
    fn add(&mut self, index: usize) {
        self.one = index;
        self.count += 1;
    }

    fn only(&self) -> Option<usize> {
        (self.count == 1).then_some(self.one)
    }
}

fn fits_under(upper: &Segment, lower: &Segment) -> bool {
    let size = upper.size.max(lower.size);
    let alike = upper.size.min(lower.size) > 0.88 * size;
    let weight = upper.weight == 0.0
        || lower.weight == 0.0
        || upper.weight.max(lower.weight) < 1.22 * upper.weight.min(lower.weight);
    // A short line in a font of its own is a heading, not the beginning of a paragraph.
    let width = |s: &Segment| s.bbox[2] - s.bbox[0];
    let own = matches!((upper.font, lower.font), (Some(a), Some(b)) if a != b) && width(upper) < 0.85 * width(lower);
    alike && weight && !own && lower.bbox[1] - upper.bbox[3] < 0.85 * size
}

/// Cuts a group of lines into paragraphs and list items.
fn paragraphs(stack: Vec<Segment>) -> Vec<Vec<Segment>> {
    let left = stack.iter().map(|s| s.bbox[0]).fold(f32::MAX, f32::min);
    let right = stack.iter().map(|s| s.bbox[2]).fold(f32::MIN, f32::max);
    let mut gaps: Vec<f32> = stack.windows(2).map(|w| w[1].baseline - w[0].baseline).collect();
    gaps.sort_by(f32::total_cmp);
    let usual = gaps.get(gaps.len() / 2).copied().unwrap_or_default();
    let mut out: Vec<Vec<Segment>> = Vec::new();
    for line in stack {
        let starts = out.last().and_then(|p| Some((p.first()?, p.last()?))).is_none_or(|(first, last)| {
            let size = line.size;
            let apart = line.baseline - last.baseline > usual + 0.3 * size;
            let indented = line.bbox[0] > left + 0.7 * size
                && last.bbox[0] < line.bbox[0] - 0.7 * size
                && line.bbox[0] < left + 4.0 * size
                && right - last.bbox[2] < 0.4 * (right - left)
                && !marked(first);
            apart || indented || marked(&line)
        });
        match out.last_mut().filter(|_| !starts) {
            Some(paragraph) => paragraph.push(line),
            None => out.push(vec![line]),
        }
    }
    out
}

/// Marker at the start of a list item.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Marker {
    Bullet,
    Number,
}

fn marker(word: &str) -> Option<Marker> {
    if matches!(
        word,
        "•" | "◦"
            | "▪"
            | "‣"
            | "●"
            | "○"
            | "■"
            | "□"
            | "➢"
            | "►"
            | "·"
            | "–"
            | "-"
            | "*"
            | "∙"
            | "✓"
            | "❖"
    ) {
        return Some(Marker::Bullet);
    }
    let body = word.strip_prefix('(').unwrap_or(word);
    let body = body.strip_suffix([')', '.'])?;
    let number = (1..=3).contains(&body.len()) && body.bytes().all(|b| b.is_ascii_digit());
    let letter = body.len() == 1 && body.bytes().all(|b| b.is_ascii_lowercase()) && word.ends_with(')');
    (number || letter).then_some(Marker::Number)
}

fn marked(line: &Segment) -> bool {
    line.words.len() > 1 && line.words.first().is_some_and(|w| marker(&w.text).is_some())
}

fn draft(segments: Vec<Segment>, frame: Frame) -> DraftBlock {
    let bbox = frame.to_page(bounds(&segments));
    let marker = segments.first().filter(|s| s.words.len() > 1).and_then(|s| marker(&s.words.first()?.text));
    let longest = segments.iter().max_by_key(|s| s.chars());
    let (size, weight) = longest.map_or((0.0, 0.0), |s| (s.size, s.weight));
    let font = segments.first().and_then(|s| s.font).filter(|&font| segments.iter().all(|s| s.font == Some(font)));
    let lines: Vec<TextLine> = segments
        .into_iter()
        .map(|s| TextLine {
            bbox: frame.to_page(s.bbox),
            words: s.words.into_iter().map(|w| placed(w, frame)).collect(),
        })
        .collect();
    let content = match marker {
        Some(marker) => Content::Item { lines, bullet: marker == Marker::Bullet },
        None => Content::Paragraph(lines),
    };
    DraftBlock { content, bbox, size, weight, font }
}

fn placed(word: Word, frame: Frame) -> Placed {
    Placed { bbox: frame.to_page(word.bbox), text: word.text }
}

#[cfg(test)]
mod tests {
    use super::super::words::tests::draw;
    use super::*;

    fn texts(page: &PageGlyphs) -> Vec<String> {
        let draft = layout(page, &Fonts::default(), 1, 600.0, 800.0);
        let text = |b: &DraftBlock| b.lines().iter().map(TextLine::text).collect::<Vec<_>>().join("\n");
        draft.blocks.iter().map(text).collect()
    }

    #[test]
    fn two_columns_are_read_one_after_the_other() {
        let mut page = PageGlyphs::default();
        draw(&mut page, 100.0, 50.0, 18.0, "a title over both of the columns");
        for row in 0..6 {
            // Draw the columns row by row, as some producers do.
            draw(
                &mut page,
                50.0,
                100.0 + 12.0 * row as f32,
                10.0,
                &format!("left column has the line number {row} of it"),
            );
            draw(
                &mut page,
                310.0,
                100.0 + 12.0 * row as f32,
                10.0,
                &format!("right column has the line number {row} too"),
            );
        }
        let found = texts(&page);
        assert_eq!(found.len(), 3, "{found:?}");
        assert!(found[1].starts_with("left") && !found[1].contains("right"), "{found:?}");
        assert!(found[2].starts_with("right") && !found[2].contains("left"), "{found:?}");
    }

    #[test]
    fn a_label_stands_before_its_value_and_a_colon_at_the_end_of_a_paragraph_is_none() {
        let mut page = PageGlyphs::default();
        for (y, label, value) in [(100.0, "Name:", "Maren Oldekop"), (130.0, "Number:", "HK-77-4410")] {
            draw(&mut page, 50.0, y, 10.0, label);
            draw(&mut page, 200.0, y, 10.0, value);
        }
        for (y, left) in [(200.0, "a paragraph of several words that ends"), (212.0, "like this:")] {
            draw(&mut page, 50.0, y, 10.0, left);
            draw(&mut page, 320.0, y, 10.0, "a column of other text");
        }
        let found = texts(&page);
        assert_eq!(found[..2], ["Name: Maren Oldekop", "Number: HK-77-4410"]);
        assert!(found.contains(&"a paragraph of several words that ends\nlike this:".to_owned()), "{found:?}");
    }

    #[test]
    fn paragraphs_part_at_gaps_indents_and_bullets() {
        let mut page = PageGlyphs::default();
        let lines = [
            (50.0, 100.0, "the first paragraph of this text fills its line"),
            (50.0, 112.0, "and goes on to the second line, which is full"),
            (60.0, 124.0, "an indent begins the second paragraph of it"),
            (50.0, 136.0, "which has two lines as well, both of them full"),
            (50.0, 153.0, "a gap begins the third paragraph of the text ok"),
            (50.0, 165.0, "• a bullet begins a list item"),
            (50.0, 177.0, "2. a number too"),
        ];
        for (x, y, text) in lines {
            draw(&mut page, x, y, 10.0, text);
        }
        let found = texts(&page);
        assert_eq!(found.len(), 5, "{found:#?}");
        assert!(found[1].starts_with("an indent") && found[2].starts_with("a gap"));
    }

    #[test]
    fn rotated_text_is_kept_apart() {
        let mut page = PageGlyphs::default();
        draw(&mut page, 50.0, 100.0, 10.0, "upright text stands here");
        draw(&mut page, 50.0, 112.0, 10.0, "and here");
        let from = page.glyphs.len();
        draw(&mut page, 0.0, 0.0, 10.0, "sideways stamp");
        for (i, g) in page.glyphs[from..].iter_mut().enumerate() {
            (g.angle, g.x, g.y) = (270, 60.0, 400.0 - 5.0 * i as f32);
        }
        assert_eq!(texts(&page), ["upright text stands here\nand here", "sideways stamp"]);
    }

    #[test]
    fn what_marks_a_list_item() {
        for yes in ["•", "-", "1.", "12)", "(3)", "a)", "(b)"] {
            assert!(marker(yes).is_some(), "{yes}");
        }
        for no in ["word", "1", "2024.", "A.", "e.g.", "(see", "1.2"] {
            assert!(marker(no).is_none(), "{no}");
        }
    }
}
