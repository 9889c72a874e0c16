//! Collects the glyphs of a page with their positions, its ruled lines and filled rectangles.
//!
//! The interpreter calls [`Collector`] in one pass over a page.

use std::hash::Hash;

use hayro_interpret::font::{Glyph as Drawn, GlyphRun};
use hayro_interpret::hayro_cmap::{BfString, WritingMode};
use hayro_interpret::hayro_syntax::object::{Dict, String as PdfString};
use hayro_interpret::hayro_syntax::page::Resources;
use hayro_interpret::kurbo::{Affine, BezPath, PathEl, Point, Rect, Vec2};
use hayro_interpret::{BlendMode, ClipPath, Device, DrawMode, DrawProps, Image, ImageDrawProps, SoftMask};
use unicode_normalization::UnicodeNormalization;

use super::annotations::Value;
use super::fonts::{Fonts, ProgramKey};
use super::glyphs::{Excess, Glyph, PageGlyphs, PageLimits, Rule};
use super::replaced::{self, Replaced, Shown};
use super::words::{is_rtl, mirrored};

/// Maximum number of ruled lines that are kept for one page; further lines are ignored. Pages with tables have fewer
/// lines. Only drawings such as maps have more.
const MAX_RULES: usize = 4000;
/// Maximum number of filled rectangles that are kept for one page.
const MAX_FILLS: usize = 1500;
/// Maximum thickness, in points, up to which a filled rectangle counts as a line.
const RULE_WIDTH: f64 = 2.5;

/// Acts as the device on which the interpreter draws a page. The device records the drawn glyphs and lines.
pub(super) struct Collector<'f, 'a> {
    page: PageGlyphs,
    fonts: &'f mut Fonts,
    resources: &'f Resources<'a>,
    limits: PageLimits,
    operations: u32,
    /// Number of marked contents that are open.
    depth: u32,
    replaced: Option<Replaced>,
}

impl<'f, 'a> Collector<'f, 'a> {
    pub fn new(fonts: &'f mut Fonts, resources: &'f Resources<'a>, limits: PageLimits) -> Self {
        Self { page: PageGlyphs::default(), fonts, resources, limits, operations: 0, depth: 0, replaced: None }
    }

    /// Returns what the page draws. Where the end of a part with a given text is missing, the glyphs stay.
    pub fn finish(mut self) -> PageGlyphs {
        if let Some(replaced) = self.replaced.take() {
            self.write_glyphs(&replaced);
        }
        self.page
    }

    fn write_glyphs(&mut self, replaced: &Replaced) {
        for Shown { placed, font, text } in &replaced.glyphs {
            self.push(placed, *font, text, false, false);
        }
    }

    /// Counts one call of the interpreter.
    fn count(&mut self) {
        self.operations += 1;
        if self.operations > self.limits.operations {
            Excess::Operations.stop();
        }
    }

    /// Records a glyph, or keeps it back if the PDF gives a text for this part of the page.
    fn glyph(&mut self, placed: Placed, font: u16, unicode: Option<BfString>, starts: bool) {
        let mut text = String::new();
        match unicode {
            Some(BfString::Char(c)) => push_char(&mut text, c),
            Some(BfString::String(s)) => s.chars().take(32).for_each(|c| push_char(&mut text, c)),
            None => {}
        }
        match &mut self.replaced {
            Some(replaced) => replaced.glyphs.push(Shown { placed, font, text }),
            None => self.push(&placed, font, &text, starts, false),
        }
    }

    fn push(&mut self, placed: &Placed, font: u16, text: &str, starts: bool, given: bool) {
        let Some(len) = u8::try_from(text.len()).ok().filter(|len| *len > 0) else {
            self.page.omitted.unmapped += 1;
            return;
        };
        let start = u32::try_from(self.page.text.len()).unwrap_or(u32::MAX);
        self.page.text.push_str(text);
        self.page.glyphs.push(Glyph {
            start,
            len,
            space: text.chars().all(char::is_whitespace),
            starts,
            given,
            angle: placed.angle,
            font,
            x: placed.at.x as f32,
            y: placed.at.y as f32,
            advance: placed.advance as f32,
            size: placed.size as f32,
        });
    }

    /// Spreads a text evenly over `width` points from the place `at`.
    fn spread(&mut self, text: &str, at: &Placed, width: f64, font: u16) {
        let mut plain = String::new();
        text.chars().for_each(|c| push_char(&mut plain, c));
        let plain = visual(&plain);
        let count = plain.chars().count();
        if self.page.glyphs.len() + count > self.limits.glyphs {
            Excess::Glyphs.stop();
        }
        let advance = width / count.max(1) as f64;
        let (sin, cos) = f64::from(at.angle).to_radians().sin_cos();
        for (i, c) in plain.chars().enumerate() {
            let along = advance * i as f64;
            let placed = Placed { at: at.at + Vec2::new(along * cos, along * sin), advance, ..*at };
            self.push(&placed, font, c.encode_utf8(&mut [0; 4]), i == 0, true);
        }
    }

    /// Writes the text that the PDF gives for the part of the page that ends here.
    fn write_replaced(&mut self, replaced: Replaced) {
        let Some(parts) = replaced::parts(&replaced) else { return self.write_glyphs(&replaced) };
        if let Some(picture) = replaced.pictures.filter(|_| parts.is_empty()) {
            let size = picture.height().min(12.0);
            let at = Placed { at: Point::new(picture.x0, picture.y1), angle: 0, advance: 0.0, size };
            self.spread(&replaced.text, &at, picture.width(), 0);
        }
        for (text, range) in parts {
            let glyphs = &replaced.glyphs[range];
            let (Some(first), Some(last)) = (glyphs.first(), glyphs.last()) else { continue };
            self.page.omitted.replaced += u32::try_from(glyphs.len()).unwrap_or(u32::MAX);
            let width = (last.placed.at - first.placed.at).hypot() + last.placed.advance;
            self.spread(&text, &first.placed, width, first.font);
        }
    }

    /// Writes the value of a form field in its box, unless the page shows it.
    pub fn value(&mut self, value: &Value) {
        let Rect { x0, y0, x1, y1 } = value.rect;
        let inside = |g: &&Glyph| {
            let (x, y) = (f64::from(g.x + g.advance / 2.0), f64::from(g.y));
            !g.space && (x0..x1).contains(&x) && (y0..y1).contains(&y)
        };
        let letters = |c: char| (!c.is_whitespace()).then(|| c.to_lowercase()).into_iter().flatten();
        let shown = self.page.glyphs.iter().filter(inside).flat_map(|g| self.page.text_of(g).chars());
        let shown: String = shown.flat_map(letters).collect();
        let wanted: String = value.text.chars().flat_map(letters).collect();
        // A short value may be part of another text in the box.
        let same = shown == wanted || (wanted.chars().count() > 4 && shown.contains(&wanted));
        if same || (!shown.is_empty() && !value.certain) {
            return;
        }
        let height = value.rect.height().max(4.0);
        let size = if value.size > 0.0 { value.size } else { (0.7 * height).clamp(4.0, 12.0) };
        let mut lines: Vec<String> = Vec::new();
        let most = ((value.rect.width() / (0.5 * size)) as usize).max(10);
        for line in value.text.split(['\n', '\r']).filter(|line| !line.trim().is_empty()) {
            match value.multiline {
                true => lines.extend(wrapped(line, most)),
                false => lines.push(line.to_owned()),
            }
        }
        // Lines that do not fit stand closer, so that none is among the text below.
        let between = lines.len().saturating_sub(1).max(1) as f64;
        let (step, size) = match (height - size) / between {
            room if lines.len() > 1 && room < size => {
                let step = (height / (between + 1.0)).max(0.5);
                (step, step / 1.2)
            }
            _ => (1.2 * size, size),
        };
        let first = if value.multiline { y0 + size } else { y1 - (height - 0.72 * size).max(0.0) / 2.0 };
        for (i, line) in lines.iter().enumerate() {
            let at = Point::new(x0 + 2.0, first + step * i as f64);
            let width = (0.5 * size * line.chars().count() as f64).min(value.rect.width().max(size));
            self.spread(line, &Placed { at, angle: 0, advance: 0.0, size }, width, 0);
        }
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

/// Returns a text as it stands from left to right: that of a right-to-left script is turned, but for its numbers and
/// Latin words.
fn visual(text: &str) -> String {
    let rtl = text.chars().filter(|c| is_rtl(*c)).count();
    if rtl * 2 <= text.chars().filter(|c| c.is_alphabetic()).count() {
        return text.to_owned();
    }
    let mut chars: Vec<char> = text.chars().rev().collect();
    let ltr = |c: char| c.is_alphanumeric() && !is_rtl(c);
    for run in chars.chunk_by_mut(|a, b| ltr(*a) == ltr(*b)).filter(|run| ltr(run[0])) {
        run.reverse();
    }
    chars.into_iter().map(mirrored).collect()
}

/// Returns a text in lines of about `most` characters, cut at spaces.
fn wrapped(text: &str, most: usize) -> Vec<String> {
    let mut lines: Vec<String> = Vec::new();
    for word in text.split_whitespace() {
        match lines.last_mut().filter(|line| line.chars().count() + word.chars().count() < most) {
            Some(line) => {
                line.push(' ');
                line.push_str(word);
            }
            None => lines.push(word.to_owned()),
        }
    }
    lines
}

/// Describes the position, direction, advance and size of a glyph.
#[derive(Clone, Copy)]
pub(super) struct Placed {
    pub at: Point,
    pub angle: u16,
    pub advance: f64,
    pub size: f64,
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

impl Device<'_> for Collector<'_, '_> {
    fn draw_glyph_run(&mut self, run: &GlyphRun<'_, '_>, props: DrawProps<'_>, _: &DrawMode) {
        let glyphs = run.glyphs();
        self.count();
        self.page.drawn = self.page.drawn.saturating_add(u32::try_from(glyphs.len()).unwrap_or(u32::MAX));
        if self.page.drawn as usize > self.limits.glyphs {
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
        for (i, glyph) in glyphs.iter().enumerate() {
            let unicode = glyph.as_unicode().filter(|u| !matches!(u, BfString::Char('\0')));
            let (advance, unicode) = match &**glyph {
                Drawn::Outline(o) => {
                    if let Some(BfString::Char(c)) = unicode {
                        self.fonts.sample(font, c, o);
                    }
                    let unicode = unicode.or_else(|| self.fonts.character(font, o, self.resources));
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
                self.page.omitted.unplaced += 1;
                continue;
            };
            if let Some(scale) = type3_size {
                placed.size *= scale;
            }
            self.glyph(placed, font, unicode, i == 0);
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
    fn draw_image(&mut self, _: Image<'_, '_>, props: ImageDrawProps<'_>) {
        self.count();
        if let Some(replaced) = &mut self.replaced {
            let shown = props.transform.transform_rect_bbox(Rect::new(0.0, 0.0, 1.0, 1.0));
            replaced.pictures = replaced.pictures.map(|p| p.union(shown)).or(Some(shown));
        }
    }
    fn begin_marked_content(&mut self, _: &[u8], properties: Option<&Dict<'_>>) {
        self.count();
        self.depth += 1;
        let given = properties.and_then(|p| p.get::<PdfString<'_>>(b"ActualText".as_slice()));
        if let Some(text) = given.filter(|_| self.replaced.is_none()) {
            let text = super::super::info::text_string(text.as_bytes());
            if text.chars().count() <= replaced::MAX_CHARS {
                self.replaced = Some(Replaced { depth: self.depth, text, glyphs: Vec::new(), pictures: None });
            }
        }
    }
    fn end_marked_content(&mut self) {
        if let Some(replaced) = self.replaced.take_if(|r| r.depth >= self.depth) {
            self.write_replaced(replaced);
        }
        self.depth = self.depth.saturating_sub(1);
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
