//! Says where ruled lines part rows and columns of a region.

use super::super::glyphs::Rule;
use super::super::words::Box4;
use super::lines::Line;

/// Distance, in points, within which ruled lines count as one.
pub(super) const NEAR: f32 = 3.0;

/// Describes where a table may be.
pub(super) struct Region<'r> {
    pub members: Vec<usize>,
    pub bbox: Box4,
    /// True if the region must be a grid of ruled lines, not only lie between them.
    pub closed: bool,
    /// Ruled lines inside the region.
    pub rules: Vec<&'r Rule>,
}

/// Holds the ruled lines of a region by position.
pub(super) struct Borders<'r> {
    xs: Vec<f32>,
    /// Positions in `xs` of lines that reach over most of the height.
    pub edges: Vec<f32>,
    pub ys: Vec<f32>,
    pub rules: &'r [&'r Rule],
}

impl<'r> Borders<'r> {
    pub fn of(region: &'r Region<'r>) -> Self {
        let (mut xs, mut ys) = (Vec::new(), Vec::new());
        let width = region.bbox[2] - region.bbox[0];
        for rule in &region.rules {
            match rule.horizontal() {
                // A short line underlines one text.
                true if rule.x1 - rule.x0 > 0.3 * width => ys.push(rule.at()),
                true => {}
                false => xs.push(rule.at()),
            }
        }
        for positions in [&mut xs, &mut ys] {
            positions.sort_by(f32::total_cmp);
            positions.dedup_by(|a, b| (*a - *b).abs() < NEAR);
        }
        let mut borders = Self { xs, edges: Vec::new(), ys, rules: &region.rules };
        let height = (region.bbox[1], region.bbox[3]);
        let inner = |x: f32| x > region.bbox[0] + NEAR && x < region.bbox[2] - NEAR;
        let lengths = borders.xs.iter().map(|&x| (x, borders.covered(false, x, height)));
        let lengths: Vec<(f32, f32)> = lengths.collect();
        let longest = lengths.iter().filter(|(x, _)| inner(*x)).map(|l| l.1).fold(0.0, f32::max);
        borders.edges = lengths.into_iter().filter(|(_, l)| *l > 0.5 * longest && *l > 0.35).map(|l| l.0).collect();
        borders
    }

    /// Returns whether ruled lines cross the whole region in both directions.
    pub fn is_grid(&self, bbox: &Box4) -> bool {
        let across = self.ys.iter().filter(|&&y| self.covered(true, y, (bbox[0], bbox[2])) > 0.5).count();
        let inner = self.edges.iter().any(|&x| x > bbox[0] + NEAR && x < bbox[2] - NEAR);
        across >= 2 && (inner || self.edges.len() >= 2)
    }

    /// Returns whether a ruled line between columns lies within a text. Then it belongs to a drawing.
    pub fn cuts(&self, b: &Box4) -> bool {
        self.edges.iter().any(|&x| b[0] + 2.0 < x && x < b[2] - 2.0)
    }

    /// Drops lines of one text above and below the ruled lines between columns: a title and a note within the frame.
    pub fn inside(&self, mut text: Vec<Line>) -> Vec<Line> {
        let (Some(&first), Some(&last)) = (self.edges.first(), self.edges.last()) else { return text };
        let between = self.rules.iter().filter(|r| !r.horizontal() && r.x0 > first + NEAR && r.x1 < last - NEAR);
        let Some((top, bottom)) = between.map(|r| (r.y0, r.y1)).reduce(|a, b| (a.0.min(b.0), a.1.max(b.1))) else {
            return text;
        };
        let middle = |line: &Line| (line.bbox[1] + line.bbox[3]) / 2.0;
        let above = text.iter().take_while(|l| l.segments.len() == 1 && middle(l) < top).count();
        text.drain(..above);
        let below = text.iter().rev().take_while(|l| l.segments.len() == 1 && middle(l) > bottom).count();
        text.truncate(text.len() - below);
        text
    }

    /// Returns the share of a range along the line at `at` that ruled lines cover.
    pub fn covered(&self, horizontal: bool, at: f32, (from, to): (f32, f32)) -> f32 {
        let mut ranges: Vec<(f32, f32)> = Vec::new();
        for rule in self.rules.iter().filter(|r| r.horizontal() == horizontal) {
            let range = if horizontal { (rule.x0, rule.x1) } else { (rule.y0, rule.y1) };
            if (rule.at() - at).abs() < NEAR {
                ranges.push((range.0.max(from), range.1.min(to)));
            }
        }
        ranges.sort_by(|a, b| a.0.total_cmp(&b.0));
        let (mut covered, mut end) = (0.0, f32::MIN);
        for (a, b) in ranges {
            covered += (b - a.max(end)).max(0.0);
            end = end.max(b);
        }
        covered / (to - from).max(0.1)
    }
}
