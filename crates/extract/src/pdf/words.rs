//! Builds words from glyphs, and line segments from words.
//!
//! All coordinates are in an upright frame: `u` runs along the text, `v` down the page. A segment is a part of one
//! visual line without a wide gap; two columns on one baseline are two segments.
//!
//! The order in which glyphs are drawn is a strong hint, because it keeps superscripts and overlapping texts apart.
//! Words are therefore built in drawing order first. Then words that were drawn in pieces or out of order are joined by
//! position.

use super::fonts::Fonts;
use super::glyphs::{Glyph, PageGlyphs};

/// Minimum width of a gap between two words if no space is drawn between them, as a multiple of the font size.
const WORD_GAP: f32 = 0.2;
/// Minimum width of such a gap between two numbers that are drawn one by one, such as those on an axis.
const NUMBER_GAP: f32 = 0.06;
/// Minimum width of a gap that separates two segments, as a multiple of the font size. This width exceeds that of a
/// space in a justified line, but not that of a gutter.
const SEGMENT_GAP: f32 = 1.1;

/// Box `[u0, v0, u1, v1]` (left, top, right, bottom) in the upright frame.
pub(super) type Box4 = [f32; 4];

pub(super) fn join(a: Box4, b: Box4) -> Box4 {
    [a[0].min(b[0]), a[1].min(b[1]), a[2].max(b[2]), a[3].max(b[3])]
}

/// Returns the share of the shorter range that lies in the longer range, from 0 to 1.
pub(super) fn shared((a0, a1): (f32, f32), (b0, b1): (f32, f32)) -> f32 {
    let both = a1.min(b1) - a0.max(b0);
    (both / (a1 - a0).min(b1 - b0).max(0.01)).clamp(0.0, 1.0)
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Word {
    pub text: String,
    pub bbox: Box4,
    pub baseline: f32,
    pub size: f32,
    /// Stroke thickness of the font, in thousandths of the font size; 0 means unknown.
    pub weight: f32,
    /// Index of the font in [`Fonts`].
    pub font: u16,
    pub rtl: bool,
    /// True if a space was drawn before the word. The word is then never joined to the previous word.
    pub spaced: bool,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Segment {
    pub words: Vec<Word>,
    pub bbox: Box4,
    pub baseline: f32,
    /// Font size of most of the characters.
    pub size: f32,
    pub weight: f32,
    /// Font of all words. `None` if they have several.
    pub font: Option<u16>,
}

impl Segment {
    fn of(word: Word) -> Self {
        let (bbox, baseline, size, weight) = (word.bbox, word.baseline, word.size, word.weight);
        let font = Some(word.font);
        Self { words: vec![word], bbox, baseline, size, weight, font }
    }

    pub fn chars(&self) -> usize {
        self.words.iter().map(|w| w.text.chars().count()).sum()
    }

    /// Adds the words of a segment to the right.
    pub fn append(&mut self, other: Self) {
        self.bbox = join(self.bbox, other.bbox);
        self.words.extend(other.words);
    }

    /// Splits the segment before the word at index `at`. Returns `None` if one part would be empty.
    pub fn split(mut self, at: usize) -> Option<(Self, Self)> {
        if at == 0 || at >= self.words.len() {
            return None;
        }
        let mut right = Self { words: self.words.split_off(at), ..self };
        for part in [&mut self, &mut right] {
            part.bbox = part.words.iter().map(|w| w.bbox).reduce(join).unwrap_or_default();
            style(part);
        }
        Some((self, right))
    }

    #[cfg(test)]
    pub fn text(&self) -> String {
        let words: Vec<&str> = self.words.iter().map(|w| w.text.as_str()).collect();
        words.join(" ")
    }
}

/// Converts points and boxes between the page and the upright frame of a text direction.
#[derive(Clone, Copy, Debug)]
pub(super) struct Frame {
    cos: f32,
    sin: f32,
}

impl Frame {
    pub fn of(angle: u16) -> Self {
        match angle {
            0 => Self { cos: 1.0, sin: 0.0 },
            90 => Self { cos: 0.0, sin: 1.0 },
            180 => Self { cos: -1.0, sin: 0.0 },
            270 => Self { cos: 0.0, sin: -1.0 },
            other => {
                let (sin, cos) = f32::from(other).to_radians().sin_cos();
                Self { cos, sin }
            }
        }
    }

    pub fn upright(self, x: f32, y: f32) -> (f32, f32) {
        (x * self.cos + y * self.sin, y * self.cos - x * self.sin)
    }

    /// Returns the box on the page that encloses a box in the frame.
    pub fn to_page(self, b: Box4) -> Box4 {
        let corners = [(b[0], b[1]), (b[2], b[1]), (b[0], b[3]), (b[2], b[3])]
            .map(|(u, v)| (u * self.cos - v * self.sin, u * self.sin + v * self.cos));
        corners.iter().fold([f32::MAX, f32::MAX, f32::MIN, f32::MIN], |b, &(x, y)| join(b, [x, y, x, y]))
    }
}

/// Returns the segments of all text in one direction. The segments are unordered, and their coordinates are in the
/// upright frame.
pub(super) fn segments(page: &PageGlyphs, fonts: &Fonts, angle: u16) -> Vec<Segment> {
    let frame = Frame::of(angle);
    let mut words = words(page, fonts, angle, frame);
    words.retain(|w| !w.text.is_empty());
    let drawn = along_the_drawing(words);
    let mut segments = side_by_side(drawn);
    for segment in &mut segments {
        finish(segment);
    }
    segments
}

/// Describes one glyph of a word that is being built.
struct Piece<'t> {
    text: &'t str,
    u0: f32,
    u1: f32,
    rtl: bool,
}

fn words(page: &PageGlyphs, fonts: &Fonts, angle: u16, frame: Frame) -> Vec<Word> {
    let mut words = Vec::new();
    let mut pieces: Vec<Piece<'_>> = Vec::new();
    let mut head: Option<Glyph> = None;
    let (mut v0, mut u_first, mut u_last) = (0.0f32, 0.0f32, 0.0f32);
    let (mut spaced, mut space_seen) = (false, false);
    let mut flush = |pieces: &mut Vec<Piece<'_>>, head: &mut Option<Glyph>, v: f32, spaced: bool| {
        if let Some(g) = head.take() {
            words.push(Word { spaced, ..word(pieces, &g, v, fonts) });
        }
        pieces.clear();
    };
    let gaps = letter_spacing(page, angle, frame);
    for g in page.glyphs.iter().filter(|g| g.angle == angle) {
        let (u, v) = frame.upright(g.x, g.y);
        let text = page.text_of(g);
        if g.space {
            flush(&mut pieces, &mut head, v0, spaced);
            space_seen = true;
            continue;
        }
        let rtl = text.chars().next().is_some_and(is_rtl);
        let end = u + g.advance;
        let fits = head.as_ref().is_some_and(|h| {
            let same_line = (v - v0).abs() < 0.12 * h.size.max(g.size) && (g.size / h.size - 1.0).abs() < 0.25;
            let right = u - u_last;
            let left = u_first - end;
            let numbers = g.starts && is_digit(text) && pieces.last().is_some_and(|last| is_digit(last.text));
            let limit = if numbers { NUMBER_GAP } else { WORD_GAP + gaps } * g.size;
            let forward = (-0.35 * g.size..limit).contains(&right);
            let backward = rtl && (-0.35 * g.size..limit).contains(&left);
            same_line && (forward || backward)
        });
        if !fits {
            flush(&mut pieces, &mut head, v0, spaced);
            (v0, u_first, u_last) = (v, u, end);
            (spaced, space_seen) = (space_seen, false);
            head = Some(*g);
        }
        u_first = u_first.min(u);
        u_last = if rtl { u_last.max(end) } else { end };
        pieces.push(Piece { text, u0: u, u1: end, rtl });
    }
    flush(&mut pieces, &mut head, v0, spaced);
    words
}

fn is_digit(text: &str) -> bool {
    text.bytes().all(|b| b.is_ascii_digit())
}

/// Returns the mean gap between glyphs of letter-spaced text as a multiple of the font size, or 0 for other text. Text
/// counts as letter-spaced if at least seven of ten gaps are wide. The caller adds [`WORD_GAP`] to the returned gap.
fn letter_spacing(page: &PageGlyphs, angle: u16, frame: Frame) -> f32 {
    let (mut n, mut wide, mut sum) = (0u32, 0u32, 0.0f32);
    let mut last: Option<(f32, f32)> = None;
    for g in page.glyphs.iter().filter(|g| g.angle == angle).take(20_000) {
        let (u, v) = frame.upright(g.x, g.y);
        if let Some((end, line)) = last
            && (v - line).abs() < 0.1 * g.size
            && !g.space
        {
            let gap = (u - end) / g.size;
            n += 1;
            if (0.12..0.6).contains(&gap) {
                wide += 1;
                sum += gap;
            }
        }
        last = (!g.space).then_some((u + g.advance, v));
    }
    if n >= 8 && wide * 10 >= n * 7 { sum / wide as f32 } else { 0.0 }
}

fn word(pieces: &mut [Piece<'_>], head: &Glyph, baseline: f32, fonts: &Fonts) -> Word {
    let rtl_pieces = pieces.iter().filter(|p| p.rtl).count();
    let rtl = rtl_pieces * 2 > pieces.len();
    if rtl_pieces > 0 {
        pieces.sort_by(|a, b| a.u0.total_cmp(&b.u0));
    }
    let u0 = pieces.iter().map(|p| p.u0).fold(f32::MAX, f32::min);
    let u1 = pieces.iter().map(|p| p.u1).fold(f32::MIN, f32::max);
    let text = if rtl { logical(pieces) } else { pieces.iter().map(|p| p.text).collect() };
    let bbox = [u0, baseline - 0.75 * head.size, u1.max(u0), baseline + 0.22 * head.size];
    Word {
        text,
        bbox,
        baseline,
        size: head.size,
        weight: fonts.weight(head.font).unwrap_or_default(),
        font: head.font,
        rtl,
        spaced: false,
    }
}

/// Converts a word of a right-to-left script from visual order (left to right) to reading order. Digits and Latin
/// letters keep their order; brackets are mirrored.
fn logical(pieces: &[Piece<'_>]) -> String {
    let mut out = String::new();
    let mut rest = pieces;
    while let Some((last, before)) = rest.split_last() {
        let ltr = |p: &Piece<'_>| p.text.chars().all(|c| c.is_alphanumeric() && !is_rtl(c));
        if ltr(last) {
            let run = rest.iter().rev().take_while(|p| ltr(p)).count();
            let (head, tail) = rest.split_at(rest.len() - run);
            out.extend(tail.iter().map(|p| p.text));
            rest = head;
        } else {
            out.extend(last.text.chars().map(mirrored));
            rest = before;
        }
    }
    out
}

/// Returns the bracket that a bracket looks like in right-to-left text.
pub(super) fn mirrored(c: char) -> char {
    match c {
        '(' => ')',
        ')' => '(',
        '[' => ']',
        ']' => '[',
        '{' => '}',
        '}' => '{',
        '«' => '»',
        '»' => '«',
        c => c,
    }
}

pub(super) fn is_rtl(c: char) -> bool {
    matches!(c, '\u{590}'..='\u{8ff}' | '\u{fb1d}'..='\u{fdff}' | '\u{fe70}'..='\u{fefe}' | '\u{10800}'..='\u{10fff}')
}

/// Returns whether two segments are on one visual line. This is so if they have the same baseline, or if the smaller
/// segment is raised or lowered next to the larger segment.
fn one_line(a: &Segment, b: &Segment) -> bool {
    let (small, large) = if a.size <= b.size { (a, b) } else { (b, a) };
    let off = (small.baseline - large.baseline).abs();
    if small.size > 0.85 * large.size {
        off < 0.25 * small.size
    } else {
        off < 0.5 * large.size && shared((small.bbox[1], small.bbox[3]), (large.bbox[1], large.bbox[3])) > 0.5
    }
}

/// Builds segments by joining words that were drawn one after the other. The text may run left to right or right to
/// left.
fn along_the_drawing(words: Vec<Word>) -> Vec<Segment> {
    let mut segments: Vec<Segment> = Vec::new();
    for word in words {
        let next = Segment::of(word);
        if let Some(last) = segments.last_mut() {
            let size = last.size.max(next.size);
            let gap = (next.bbox[0] - last.bbox[2]).max(last.bbox[0] - next.bbox[2]);
            if gap < SEGMENT_GAP * size && gap > -0.3 * size && one_line(last, &next) {
                append(last, next);
                continue;
            }
        }
        segments.push(next);
    }
    segments
}

fn append(to: &mut Segment, from: Segment) {
    to.bbox = join(to.bbox, from.bbox);
    if from.size > 1.2 * to.size {
        (to.baseline, to.size) = (from.baseline, from.size);
    }
    to.words.extend(from.words);
}

/// Sets the style of a segment. Font size and baseline are those of most characters in the segment; the weight is the
/// mean weight of all its characters. A single superscript or bold word therefore does not decide the style.
fn style(segment: &mut Segment) {
    let chars = |w: &Word| w.text.chars().count();
    let total: usize = segment.words.iter().map(chars).sum();
    let mut best = (0, segment.size, segment.baseline);
    for word in &segment.words {
        let like = segment.words.iter().filter(|w| (w.size - word.size).abs() < 0.05 * word.size).map(chars).sum();
        if like > best.0 {
            best = (like, word.size, word.baseline);
        }
        if like * 2 > total {
            break;
        }
    }
    (segment.size, segment.baseline) = (best.1, best.2);
    let known = segment.words.iter().filter(|w| w.weight > 0.0);
    let (sum, n) = known.fold((0.0, 0), |(s, n), w| (s + w.weight * chars(w) as f32, n + chars(w)));
    segment.weight = if n > 0 { sum / n as f32 } else { 0.0 };
    let first = segment.words.first().map(|w| w.font);
    segment.font = first.filter(|&font| segment.words.iter().all(|w| w.font == font));
}

/// Joins neighbouring words if there is neither a space nor a gap between them. Such words are the pieces of one word
/// that was not drawn at once.
fn mend(words: &mut Vec<Word>) {
    words.dedup_by(|next, last| {
        let gap = next.bbox[0] - last.bbox[2];
        let size = last.size.max(next.size);
        let raised = (last.baseline - next.baseline).abs() > 0.12 * size;
        let mends = !next.spaced && !next.rtl && !last.rtl && !raised && (-0.3 * size..0.1 * size).contains(&gap);
        if mends {
            last.text.push_str(&next.text);
            last.bbox = join(last.bbox, next.bbox);
        }
        mends
    });
}

/// Returns whether two overlapping segments fit into each other. They fit if the words of each segment lie in gaps
/// between words of the other segment.
fn interleaved(a: &Segment, b: &Segment) -> bool {
    let on = |x: &Word, y: &Word| shared((x.bbox[0], x.bbox[2]), (y.bbox[0], y.bbox[2])) > 0.3;
    a.words.len() * b.words.len() <= 2000 && !a.words.iter().any(|x| b.words.iter().any(|y| on(x, y)))
}

/// Joins segments that are side by side but were not drawn one after the other.
fn side_by_side(mut segments: Vec<Segment>) -> Vec<Segment> {
    segments.sort_by(|a, b| a.baseline.total_cmp(&b.baseline).then(a.bbox[0].total_cmp(&b.bbox[0])));
    let mut done: Vec<Segment> = Vec::with_capacity(segments.len());
    for next in segments {
        let reach = next.baseline - 1.0 * next.size.max(4.0);
        let partner =
            done.iter().enumerate().rev().take(64).take_while(|(_, s)| s.baseline >= reach - 40.0).find(|(_, s)| {
                let size = s.size.max(next.size);
                let gap = (next.bbox[0] - s.bbox[2]).max(s.bbox[0] - next.bbox[2]);
                // A raised mark is joined only to the text that it touches.
                let limit = if (s.size / next.size - 1.0).abs() < 0.15 { SEGMENT_GAP } else { 0.35 };
                let near = gap < limit * s.size.min(next.size).max(0.6 * size);
                near && one_line(s, &next) && (gap > -0.3 * size || interleaved(s, &next))
            });
        match partner.map(|(i, _)| i) {
            Some(i) => append(&mut done[i], next),
            None => done.push(next),
        }
    }
    done
}

/// Sorts the words of a segment, joins neighbouring words if there is no gap between them, and puts right-to-left
/// text into reading order.
fn finish(segment: &mut Segment) {
    if !segment.words.is_sorted_by(|a, b| a.bbox[0] <= b.bbox[0]) {
        segment.words.sort_by(|a, b| a.bbox[0].total_cmp(&b.bbox[0]));
    }
    mend(&mut segment.words);
    style(segment);
    if !segment.words.iter().any(|w| w.rtl) {
        return;
    }
    let rtl = segment.words.iter().filter(|w| w.rtl).count();
    let strong = segment.words.iter().filter(|w| w.rtl || w.text.chars().any(char::is_alphabetic)).count();
    let line_is_rtl = rtl * 2 >= strong;
    if line_is_rtl {
        segment.words.reverse();
    }
    // Reverse runs of words whose direction is opposite to that of the line.
    let against = |w: &Word| if line_is_rtl { !w.rtl } else { w.rtl };
    for run in segment.words.chunk_by_mut(|a, b| against(a) && against(b)) {
        if run.len() > 1 {
            run.reverse();
        }
    }
}

#[cfg(test)]
pub(super) mod tests {
    use super::*;

    /// Draws text from `(x, y)` rightwards. The advance of every character is half the font size.
    pub fn draw(page: &mut PageGlyphs, x: f32, y: f32, size: f32, text: &str) {
        let mut at = x;
        for c in text.chars() {
            put(page, at, y, size, c);
            at += 0.5 * size;
        }
    }

    pub fn put(page: &mut PageGlyphs, x: f32, y: f32, size: f32, c: char) {
        let start = page.text.len() as u32;
        page.text.push(c);
        let len = c.len_utf8() as u8;
        page.glyphs.push(Glyph {
            start,
            len,
            space: c == ' ',
            starts: false,
            given: false,
            angle: 0,
            font: 0,
            x,
            y,
            advance: 0.5 * size,
            size,
        });
    }

    fn lines(page: &PageGlyphs) -> Vec<String> {
        segments(page, &Fonts::default(), 0).iter().map(Segment::text).collect()
    }

    #[test]
    fn words_by_space_and_by_gap() {
        let mut page = PageGlyphs::default();
        draw(&mut page, 0.0, 10.0, 10.0, "two words");
        draw(&mut page, 0.0, 30.0, 10.0, "gap");
        draw(&mut page, 18.0, 30.0, 10.0, "here");
        assert_eq!(lines(&page), ["two words", "gap here"]);
    }

    #[test]
    fn a_gutter_parts_segments_on_one_baseline() {
        let mut page = PageGlyphs::default();
        draw(&mut page, 0.0, 10.0, 10.0, "left");
        draw(&mut page, 100.0, 10.0, 10.0, "right");
        assert_eq!(lines(&page), ["left", "right"]);
    }

    #[test]
    fn glyphs_drawn_out_of_order_come_out_in_order() {
        let mut page = PageGlyphs::default();
        for (x, c) in [(30.0, 'd'), (0.0, 'a'), (10.0, 'c'), (5.0, 'b'), (17.5, 'x')] {
            put(&mut page, x, 10.0, 10.0, c);
        }
        assert_eq!(lines(&page), ["abc x d"]);
    }

    #[test]
    fn a_superscript_stays_in_its_line() {
        let mut page = PageGlyphs::default();
        draw(&mut page, 0.0, 10.0, 10.0, "E=mc");
        draw(&mut page, 20.0, 6.0, 6.0, "2");
        draw(&mut page, 26.0, 10.0, 10.0, "holds");
        assert_eq!(lines(&page), ["E=mc 2 holds"]);
    }

    #[test]
    fn letter_spaced_text_is_not_torn_apart() {
        let mut page = PageGlyphs::default();
        for (i, c) in "SPACED".chars().enumerate() {
            put(&mut page, 8.0 * i as f32, 10.0, 10.0, c);
        }
        for (i, c) in "TITLE".chars().enumerate() {
            put(&mut page, 54.0 + 8.0 * i as f32, 10.0, 10.0, c);
        }
        assert_eq!(lines(&page), ["SPACED TITLE"]);
    }

    #[test]
    fn right_to_left_text_comes_out_in_the_order_of_reading() {
        // The text is in visual order: its last letter is leftmost.
        let mut visual = PageGlyphs::default();
        draw(&mut visual, 0.0, 10.0, 10.0, "םלוע םולש");
        assert_eq!(lines(&visual), ["שלום עולם"]);
        // The text is drawn in logical order, each glyph to the left of the previous one.
        let mut logical = PageGlyphs::default();
        let mut x = 100.0;
        for c in "שלום 25 עולם".chars() {
            // Digits run to the right.
            let at = if c == '2' {
                x - 5.0
            } else if c == '5' {
                x + 5.0
            } else {
                x
            };
            put(&mut logical, at, 10.0, 10.0, c);
            x -= 5.0;
        }
        assert_eq!(lines(&logical), ["שלום 25 עולם"]);
    }

    #[test]
    fn rotated_frames_turn_text_upright_and_back() {
        for angle in [0, 90, 180, 270, 33] {
            let frame = Frame::of(angle);
            let (u, v) = frame.upright(30.0, 40.0);
            let back = frame.to_page([u, v, u, v]);
            assert!((back[0] - 30.0).abs() < 1e-3 && (back[1] - 40.0).abs() < 1e-3, "{angle}: {back:?}");
        }
    }
}
