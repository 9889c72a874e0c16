//! Collects the glyphs of a page with their positions, and the ruled lines of its tables.
//!
//! The interpreter calls [`Collector`] in one pass over a page. Positions are in points, with the origin at the top
//! left of the page as displayed. A glyph records the direction of its text, so that the layout can turn rotated text
//! upright first. Invisible text (the text layer of a scan) is collected like visible text.

use std::hash::{Hash, Hasher};

use hayro_interpret::font::{Glyph as Drawn, GlyphRun, OutlineGlyph};
use hayro_interpret::hayro_cmap::{BfString, WritingMode};
use hayro_interpret::kurbo::{Affine, BezPath, PathEl, Point, Rect, Shape, Vec2};
use hayro_interpret::{BlendMode, ClipPath, Device, DrawMode, DrawProps, Image, ImageDrawProps, SoftMask};
use std::collections::HashMap;
use unicode_normalization::UnicodeNormalization;

/// Maximum number of ruled lines that are kept for one page; further lines are ignored. Pages with tables have fewer
/// lines. Only drawings such as maps have more.
const MAX_RULES: usize = 4000;
/// Maximum number of filled rectangles that are kept for one page.
const MAX_FILLS: usize = 1500;
/// Maximum thickness, in points, up to which a filled rectangle counts as a line.
const RULE_WIDTH: f64 = 2.5;
/// Maximum number of letters that are measured to determine the weight of a font.
const WEIGHT_SAMPLES: u32 = 12;

/// Describes one glyph that the page draws.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Glyph {
    /// Byte offset of the glyph's text in [`PageGlyphs::text`].
    pub start: u32,
    pub len: u8,
    pub space: bool,
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
}

/// Holds the glyphs, the text and the ruled lines of one page.
#[derive(Default, Debug)]
pub(super) struct PageGlyphs {
    pub text: String,
    pub glyphs: Vec<Glyph>,
    pub rules: Vec<Rule>,
    /// Boxes of filled rectangles, such as the shading of a table's rows.
    pub fills: Vec<Rule>,
    /// Number of glyphs that were left out because no Unicode character is known for them.
    pub unmapped: u32,
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
    fn stop(self) -> ! {
        std::panic::resume_unwind(Box::new(self))
    }
}

impl PageGlyphs {
    pub fn text_of(&self, glyph: &Glyph) -> &str {
        self.text.get(glyph.start as usize..glyph.start as usize + usize::from(glyph.len)).unwrap_or_default()
    }
}

/// Records the fonts of a document and their stroke weights.
#[derive(Default)]
pub(super) struct Fonts {
    index: HashMap<u128, u16>,
    weights: Vec<Weight>,
}

/// Adds up the stroke thickness of a few letters of a font, in thousandths of the font size. A font's name is often
/// missing or wrong, so boldness is measured from outlines. For any letter, the stroke thickness is about
/// `2 · area / perimeter` of the letter's outline.
#[derive(Clone, Copy, Default)]
struct Weight {
    sum: f32,
    letters: u32,
    count: u32,
}

impl Fonts {
    fn of(&mut self, key: u128) -> u16 {
        let next = u16::try_from(self.index.len()).unwrap_or(u16::MAX);
        if next == u16::MAX {
            return self.index.get(&key).copied().unwrap_or_default();
        }
        let index = *self.index.entry(key).or_insert(next);
        if usize::from(index) == self.weights.len() {
            self.weights.push(Weight::default());
        }
        index
    }

    fn sample(&mut self, font: u16, letter: char, glyph: &OutlineGlyph) {
        let Some(weight) = self.weights.get_mut(usize::from(font)) else { return };
        let bit = match letter {
            'a'..='z' => 1u32 << (letter as u32 - 'a' as u32),
            'A'..='E' => 1 << (26 + letter as u32 - 'A' as u32),
            _ => return,
        };
        if weight.count >= WEIGHT_SAMPLES || weight.letters & bit != 0 {
            return;
        }
        weight.letters |= bit;
        let outline = glyph.outline();
        let perimeter = outline.perimeter(5.0);
        let thickness = 2.0 * outline.area().abs() / perimeter;
        if thickness.is_finite() && perimeter > 0.0 {
            weight.sum += thickness as f32;
            weight.count += 1;
        }
    }

    /// Returns the stroke thickness of a font in thousandths of the font size, or `None` if no letter could be
    /// measured.
    pub fn weight(&self, font: u16) -> Option<f32> {
        self.weights.get(usize::from(font)).filter(|w| w.count > 0).map(|w| w.sum / w.count as f32)
    }
}

/// Extracts the font's key from a glyph identifier, which exposes the key only through its `Hash` implementation. The
/// first `u128` that the identifier writes is the font's key; this hasher keeps that value and ignores the rest. The
/// interpreter offers no other key that is the same on all pages.
#[derive(Default)]
struct ProgramKey(Option<u128>);

impl Hasher for ProgramKey {
    fn finish(&self) -> u64 {
        self.0.unwrap_or_default() as u64
    }
    fn write(&mut self, _: &[u8]) {}
    fn write_u128(&mut self, key: u128) {
        self.0.get_or_insert(key);
    }
}

/// Acts as the device on which the interpreter draws a page. The device records the drawn glyphs and lines.
pub(super) struct Collector<'f> {
    pub page: PageGlyphs,
    fonts: &'f mut Fonts,
    limits: PageLimits,
    operations: u32,
}

impl<'f> Collector<'f> {
    pub fn new(fonts: &'f mut Fonts, limits: PageLimits) -> Self {
        Self { page: PageGlyphs::default(), fonts, limits, operations: 0 }
    }

    /// Counts one call of the interpreter.
    fn count(&mut self) {
        self.operations += 1;
        if self.operations > self.limits.operations {
            Excess::Operations.stop();
        }
    }

    fn push(&mut self, placed: &Placed, font: u16, unicode: Option<BfString>) {
        let start = self.page.text.len();
        match unicode {
            Some(BfString::Char(c)) => push_char(&mut self.page.text, c),
            Some(BfString::String(s)) => s.chars().take(32).for_each(|c| push_char(&mut self.page.text, c)),
            None => {}
        }
        let text = &self.page.text[start..];
        let Ok(len) = u8::try_from(text.len()) else {
            self.page.text.truncate(start);
            return;
        };
        if len == 0 {
            self.page.unmapped += 1;
            return;
        }
        let space = text.chars().all(char::is_whitespace);
        let glyph = Glyph {
            start: u32::try_from(start).unwrap_or(u32::MAX),
            len,
            space,
            angle: placed.angle,
            font,
            x: placed.at.x as f32,
            y: placed.at.y as f32,
            advance: placed.advance as f32,
            size: placed.size as f32,
        };
        self.page.glyphs.push(glyph);
    }

    fn rule(&mut self, transform: Affine, a: Point, b: Point, width: f64) {
        let (a, b) = (transform * a, transform * b);
        let (x0, x1) = (a.x.min(b.x), a.x.max(b.x));
        let (y0, y1) = (a.y.min(b.y), a.y.max(b.y));
        let straight = (x1 - x0).min(y1 - y0) <= width && (x1 - x0).max(y1 - y0) >= 4.0;
        if straight && [x0, y0, x1, y1].iter().all(|v| v.abs() < 1e6) && self.page.rules.len() < MAX_RULES {
            self.page.rules.push(Rule { x0: x0 as f32, y0: y0 as f32, x1: x1 as f32, y1: y1 as f32 });
        }
    }

    fn rectangle(&mut self, transform: Affine, r: &Rect, stroked: bool, filled: bool) {
        let corners = [(r.x0, r.y0), (r.x1, r.y0), (r.x1, r.y1), (r.x0, r.y1)].map(Point::from);
        let shown = transform.transform_rect_bbox(*r);
        if shown.width().min(shown.height()) <= RULE_WIDTH {
            self.rule(transform, corners[0], corners[2], RULE_WIDTH);
            return;
        }
        if stroked {
            for i in 0..4 {
                self.rule(transform, corners[i], corners[(i + 1) % 4], 0.5);
            }
        }
        let edges = [shown.x0, shown.y0, shown.x1, shown.y1];
        if filled && edges.iter().all(|v| v.abs() < 1e6) && self.page.fills.len() < MAX_FILLS {
            let [x0, y0, x1, y1] = edges.map(|v| v as f32);
            self.page.fills.push(Rule { x0, y0, x1, y1 });
        }
    }
}

/// Describes the position, direction, advance and size of a glyph.
struct Placed {
    at: Point,
    angle: u16,
    advance: f64,
    size: f64,
}

fn place(transform: Affine, advance: f64, vertical: bool, stretched: bool) -> Option<Placed> {
    let [a, b, c, d, x, y] = transform.as_coeffs();
    if ![a, b, c, d, x, y].iter().all(|v| v.is_finite()) || x.abs() > 1e6 || y.abs() > 1e6 {
        return None;
    }
    let (along, across) = (Vec2::new(a, b), Vec2::new(c, d));
    let size = 1000.0 * across.hypot();
    // A stretched font has the stretch in its transform, which must not scale the advance.
    let scale = if stretched { across.hypot() } else { along.hypot() };
    if !(size > 0.05 && size < 1e5 && scale > 0.0) {
        return None;
    }
    if vertical {
        // Treat vertical text as turned by a quarter: it runs downwards, lines go from right to left, and the middle
        // of the column is the baseline.
        let down = transform * Point::new(0.0, -120.0);
        return Some(Placed { at: down, angle: 90, advance: size, size });
    }
    let degrees = along.y.atan2(along.x).to_degrees().round().rem_euclid(360.0);
    // Treat a tiny deviation from a right angle as a right angle.
    let near = (degrees / 90.0).round() * 90.0;
    let angle = if (degrees - near).abs() <= 2.0 { near.rem_euclid(360.0) } else { degrees };
    Some(Placed { at: Point::new(x, y), angle: angle as u16, advance: (advance * scale).abs(), size })
}

fn push_char(out: &mut String, c: char) {
    match c {
        '\u{ad}' => out.push('-'),
        '\u{a0}' | '\u{2000}'..='\u{200a}' | '\u{202f}' | '\u{3000}' | '\t' | '\n' | '\r' => out.push(' '),
        // Bullets of the symbol fonts.
        '\u{f0b7}' | '\u{f0a7}' | '\u{f0d8}' | '\u{f0fc}' | '\u{f076}' => out.push('•'),
        '\u{feff}' | '\u{fffd}' | '\u{fffe}' | '\u{ffff}' | '\u{200b}'..='\u{200f}' | '\u{202a}'..='\u{202e}' => {}
        // Ligatures and presentation forms represent plain letters.
        '\u{fb00}'..='\u{fb4f}' | '\u{fb50}'..='\u{fdff}' | '\u{fe70}'..='\u{fefe}' => {
            out.extend(std::iter::once(c).nfkc())
        }
        c if c.is_control() => {}
        c => out.push(c),
    }
}

impl Device<'_> for Collector<'_> {
    fn draw_glyph_run(&mut self, run: &GlyphRun<'_, '_>, props: DrawProps<'_>, _: &DrawMode) {
        let glyphs = run.glyphs();
        self.count();
        if self.page.glyphs.len() + glyphs.len() > self.limits.glyphs {
            Excess::Glyphs.stop();
        }
        let Some(first) = glyphs.first() else { return };
        let vertical = run.writing_mode() == WritingMode::Vertical;
        let mut key = ProgramKey::default();
        let mut type3_size = None;
        match &**first {
            Drawn::Outline(o) => o.identifier().hash(&mut key),
            Drawn::Type3(_) => {
                type3_size = type3_scale(glyphs.iter().map(|g| match &**g {
                    Drawn::Type3(t) => f64::from(t.advance_width().unwrap_or_default()),
                    Drawn::Outline(_) => 0.0,
                }))
            }
        }
        let font = self.fonts.of(key.0.unwrap_or(1));
        let ratio = |g: Affine| {
            let [a, b, c, d, ..] = g.as_coeffs();
            a.hypot(b) / c.hypot(d)
        };
        let stretched = match glyphs.last() {
            Some(last) => (ratio(first.transform()) - ratio(last.transform())).abs() > 1e-4,
            None => false,
        };
        for glyph in glyphs {
            let unicode = glyph.as_unicode().filter(|u| !matches!(u, BfString::Char('\0')));
            let (advance, unicode) = match &**glyph {
                Drawn::Outline(o) => {
                    if let Some(BfString::Char(c)) = unicode {
                        self.fonts.sample(font, c, o);
                    }
                    (o.advance_width().unwrap_or(500.0), unicode)
                }
                // The codes of bitmap fonts without a map are usually ASCII.
                Drawn::Type3(t) => {
                    let code = char::from_u32(t.char_code()).filter(char::is_ascii_graphic);
                    (t.advance_width().unwrap_or_default(), unicode.or(code.map(BfString::Char)))
                }
            };
            let Some(mut placed) = place(props.transform * glyph.transform(), f64::from(advance), vertical, stretched)
            else {
                continue;
            };
            if let Some(scale) = type3_size {
                placed.size *= scale;
            }
            self.push(&placed, font, unicode);
        }
        if self.page.text.len() as u64 > self.limits.text_bytes {
            Excess::Text.stop();
        }
    }

    fn draw_path(&mut self, path: &BezPath, props: DrawProps<'_>, mode: &DrawMode) {
        self.count();
        if !matches!(mode, DrawMode::Stroke(_) | DrawMode::FillAndStroke(..)) || path.elements().len() > 512 {
            return;
        }
        let (mut start, mut at) = (Point::ZERO, Point::ZERO);
        for element in path.elements() {
            match *element {
                PathEl::MoveTo(p) => (start, at) = (p, p),
                PathEl::LineTo(p) => {
                    self.rule(props.transform, at, p, 0.5);
                    at = p;
                }
                PathEl::QuadTo(_, p) | PathEl::CurveTo(_, _, p) => at = p,
                PathEl::ClosePath => {
                    self.rule(props.transform, at, start, 0.5);
                    at = start;
                }
            }
        }
    }

    fn draw_rect(&mut self, rect: &Rect, props: DrawProps<'_>, mode: &DrawMode) {
        self.count();
        let stroked = matches!(mode, DrawMode::Stroke(_) | DrawMode::FillAndStroke(..));
        let filled = !matches!(mode, DrawMode::Stroke(_));
        self.rectangle(props.transform, rect, stroked, filled);
    }

    // The interpreter clips each form to its box, so this function also counts forms that draw nothing.
    fn push_clip_path(&mut self, _: &ClipPath) {
        self.count();
    }
    fn push_clip_rect(&mut self, _: &Rect) {
        self.count();
    }
    fn push_transparency_group(&mut self, _: f32, _: Option<SoftMask<'_>>, _: BlendMode) {
        self.count();
    }
    fn draw_image(&mut self, _: Image<'_, '_>, _: ImageDrawProps<'_>) {
        self.count();
    }
    fn pop_clip(&mut self) {}
    fn pop_transparency_group(&mut self) {}
}

/// Returns a correction factor for the size of a Type 3 font, whose glyphs may be drawn at any scale. The corrected
/// font size is twice the mean advance of the glyphs. Returns `None` if the mean advance is already plausible for the
/// font size, or if there are no advances.
fn type3_scale(advances: impl Iterator<Item = f64>) -> Option<f64> {
    let (sum, n) = advances.filter(|a| a.abs() > 0.0).fold((0.0, 0u32), |(s, n), a| (s + a.abs(), n + 1));
    let mean = sum / f64::from(n.max(1)) / 1000.0;
    (n > 0 && !(0.15..1.2).contains(&mean)).then_some(2.0 * mean)
}

/// Drops a glyph if the same glyph was already drawn at the same position (as a shadow, to look bold, or as fill and
/// stroke). If most glyphs are inside the page, also drops the glyphs outside the page.
pub(super) fn clean(page: &mut PageGlyphs, width: f32, height: f32) {
    let on_page =
        |g: &Glyph| (-0.02 * width..1.02 * width).contains(&g.x) && (-0.02 * height..1.02 * height).contains(&g.y);
    let inside = page.glyphs.iter().filter(|g| on_page(g)).count();
    if inside * 2 > page.glyphs.len() {
        page.glyphs.retain(on_page);
    }
    let mut seen: HashMap<(u64, i32, i32), (f32, f32)> = HashMap::with_capacity(page.glyphs.len());
    let text = std::mem::take(&mut page.text);
    page.glyphs.retain(|g| {
        if g.space {
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
    page.text = text;
}
