//! Holds what a page draws: glyphs with their positions, ruled lines and filled rectangles.
//!
//! Positions are in points, with the origin at the top left of the page as displayed. A glyph records the direction of its
//! text, so that the layout can turn rotated text upright first. Invisible text (the text layer of a scan) is collected
//! like visible text.

use std::collections::HashMap;

/// Describes one glyph that the page draws.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Glyph {
    /// Byte offset of the glyph's text in [`PageGlyphs::text`].
    pub start: u32,
    pub len: u8,
    pub space: bool,
    /// True for the first glyph of a text that the page draws at once.
    pub starts: bool,
    /// True for a glyph that the page does not draw, of a text that the PDF gives.
    pub given: bool,
    /// Direction of the text in degrees clockwise on the page as displayed, 0 to 359.
    pub angle: u16,
    /// Index of the glyph's font in [`Fonts`].
    pub font: u16,
    /// Position of the glyph's origin on the baseline, in points.
    pub x: f32,
    pub y: f32,
    /// Advance along the direction of the text, in points.
    pub advance: f32,
    /// Font size, in points.
    pub size: f32,
}

/// Describes a horizontal or vertical ruled line, in points.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Rule {
    pub x0: f32,
    pub y0: f32,
    pub x1: f32,
    pub y1: f32,
}

impl Rule {
    pub fn horizontal(&self) -> bool {
        self.x1 - self.x0 >= self.y1 - self.y0
    }

    /// Returns the position of the line: its `y` if it is horizontal, or else its `x`.
    pub fn at(&self) -> f32 {
        if self.horizontal() { (self.y0 + self.y1) / 2.0 } else { (self.x0 + self.x1) / 2.0 }
    }
}

/// Holds the glyphs, the text and the ruled lines of one page.
#[derive(Default, Debug)]
pub(super) struct PageGlyphs {
    pub text: String,
    pub glyphs: Vec<Glyph>,
    pub rules: Vec<Rule>,
    /// Boxes of filled rectangles, such as the shading of a table's rows.
    pub fills: Vec<Rule>,
    /// Number of glyphs that the page draws.
    pub drawn: u32,
    pub omitted: Omitted,
}

/// Counts characters without white space.
pub(super) fn count_chars<'t>(texts: impl Iterator<Item = &'t str>) -> u32 {
    texts.map(|t| t.chars().filter(|c| !c.is_whitespace()).count()).sum::<usize>().try_into().unwrap_or(u32::MAX)
}

/// Counts the glyphs of a page that its text does not contain, by reason.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Omitted {
    /// No Unicode character is known for the glyph.
    pub unmapped: u32,
    /// The glyph is outside the visible part of the page.
    pub outside: u32,
    /// The same glyph was drawn at the same place before.
    pub overprinted: u32,
    /// The glyph has no size or no place.
    pub unplaced: u32,
    /// The PDF gives another text for the glyph.
    pub replaced: u32,
    /// Number of characters that the layout lost. Any is a defect.
    pub lost: u32,
}

/// Limits the work that one page may cause.
#[derive(Clone, Copy, Debug)]
pub(super) struct PageLimits {
    pub glyphs: usize,
    /// Maximum number of calls of the interpreter to the [`Collector`]. A form that is drawn counts each time.
    pub operations: u32,
    /// Maximum size of the text of the page, in bytes.
    pub text_bytes: u64,
}

/// Names the limit that a page exceeded. The collector unwinds with this value, because the interpreter has no other way
/// to be stopped. A page of a few kilobytes may otherwise run for hours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Excess {
    Glyphs,
    Operations,
    Text,
}

impl Excess {
    /// Unwinds to the caller of the interpreter, without a message on standard error.
    pub fn stop(self) -> ! {
        std::panic::resume_unwind(Box::new(self))
    }
}

impl PageGlyphs {
    pub fn text_of(&self, glyph: &Glyph) -> &str {
        self.text.get(glyph.start as usize..glyph.start as usize + usize::from(glyph.len)).unwrap_or_default()
    }

    /// Returns the number of characters of the glyphs without white space.
    pub fn chars(&self) -> u32 {
        let texts = self.glyphs.iter().filter(|g| !g.space).map(|g| self.text_of(g));
        count_chars(texts)
    }
}

/// Drops a glyph if the same glyph was already drawn at the same position (as a shadow, to look bold, or as fill and
/// stroke). If most glyphs are inside the page, also drops the glyphs outside the page.
pub(super) fn clean(page: &mut PageGlyphs, width: f32, height: f32) {
    let on_page =
        |g: &Glyph| (-0.02 * width..1.02 * width).contains(&g.x) && (-0.02 * height..1.02 * height).contains(&g.y);
    let inside = page.glyphs.iter().filter(|g| on_page(g)).count();
    if inside * 2 > page.glyphs.len() {
        let before = page.glyphs.len();
        page.glyphs.retain(on_page);
        page.omitted.outside = u32::try_from(before - page.glyphs.len()).unwrap_or(u32::MAX);
    }
    let mut seen: HashMap<(u64, i32, i32), (f32, f32)> = HashMap::with_capacity(page.glyphs.len());
    let text = std::mem::take(&mut page.text);
    let before = page.glyphs.len();
    page.glyphs.retain(|g| {
        // The glyphs of a given text may be so narrow that equal ones seem to be drawn twice.
        if g.space || g.given {
            return true;
        }
        let tolerance = 0.12 * g.size;
        let bytes = text.get(g.start as usize..g.start as usize + usize::from(g.len)).unwrap_or_default();
        let letter = bytes.bytes().take(8).fold(u64::from(g.angle), |h, b| h << 8 | u64::from(b));
        let cell = |v: f32| (v / tolerance).floor() as i32;
        let (cx, cy) = (cell(g.x), cell(g.y));
        for dx in -1..=1 {
            for dy in -1..=1 {
                let near = seen.get(&(letter, cx.saturating_add(dx), cy.saturating_add(dy)));
                if near.is_some_and(|(x, y)| (x - g.x).abs() < tolerance && (y - g.y).abs() < tolerance) {
                    return false;
                }
            }
        }
        seen.insert((letter, cx, cy), (g.x, g.y));
        true
    });
    page.omitted.overprinted = u32::try_from(before - page.glyphs.len()).unwrap_or(u32::MAX);
    page.text = text;
}
