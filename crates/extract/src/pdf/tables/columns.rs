//! Finds the columns of a table: the strips that short texts below each other occupy.

use super::super::words::{Box4, Segment, Word, join};
use super::borders::NEAR;
use super::lines::{Line, is_number};

/// Share of lines that may have a text across two strips before these become one column.
const SPANNING_SHARE: f32 = 0.25;
/// Maximum number of columns. What has more is a drawing, such as the labels of an axis.
const MAX_COLUMNS: usize = 100;

/// Describes one column: the range of the x axis that most of its texts occupy.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) struct Strip {
    pub x0: f32,
    pub x1: f32,
    /// Position of a ruled line to the right that parts the column from the next.
    pub edge: Option<f32>,
}

impl Strip {
    /// Returns the strip of texts. A few texts that are wider than the others do not widen it.
    fn of(mut x0s: Vec<f32>, mut x1s: Vec<f32>) -> Self {
        x0s.sort_by(f32::total_cmp);
        x1s.sort_by(f32::total_cmp);
        let (low, high) = (x0s.len() / 5, x1s.len() - 1 - x1s.len() / 5);
        Self { x0: x0s[low], x1: x1s[high].max(x0s[low] + 1.0), edge: None }
    }

    fn overlap(&self, b: &Box4) -> f32 {
        self.x1.min(b[2]) - self.x0.max(b[0])
    }

    /// Returns whether a text takes part in the strip: it covers half of the strip, or its middle is there.
    fn has(&self, b: &Box4) -> bool {
        self.overlap(b) > 0.5 * (self.x1 - self.x0) || (self.x0..=self.x1).contains(&((b[0] + b[2]) / 2.0))
    }
}

/// Returns the columns from left to right. Vertical ruled lines always part columns; the texts between two of them form
/// several columns only if they clearly stand side by side.
pub(super) fn columns(segments: &[Segment], text: &[Line], edges: &[f32]) -> Vec<Strip> {
    let mut columns = Vec::new();
    for k in 0..=edges.len() {
        let from = k.checked_sub(1).map_or(f32::MIN, |k| edges[k]);
        let to = edges.get(k).copied().unwrap_or(f32::MAX);
        let inside = |i: &usize| {
            let b = &segments[*i].bbox;
            (from..to).contains(&((b[0] + b[2]) / 2.0))
        };
        let parts: Vec<Vec<usize>> = text
            .iter()
            .map(|line| line.segments.iter().copied().filter(inside).collect::<Vec<usize>>())
            .filter(|part| !part.is_empty())
            .collect();
        let mut strips = strips(segments, &parts, !edges.is_empty());
        // An empty strip between ruled lines is a column only if it is wide enough for text.
        if parts.is_empty() && k > 0 && k < edges.len() && to - from > 12.0 {
            strips.push(Strip { x0: from + NEAR, x1: to - NEAR, edge: None });
        }
        if let Some(last) = strips.last_mut() {
            last.edge = edges.get(k).copied();
        }
        columns.extend(strips);
    }
    columns
}

/// Returns the strips that texts side by side occupy. `parts` has the texts of each line.
fn strips(segments: &[Segment], parts: &[Vec<usize>], ruled: bool) -> Vec<Strip> {
    let all: Vec<usize> = parts.iter().flatten().copied().collect();
    let strip = |members: &[usize]| {
        let x = |k: usize| members.iter().map(|&i| segments[i].bbox[k]).collect();
        Strip::of(x(0), x(2))
    };
    let several = parts.iter().filter(|part| part.len() > 1).count();
    if ruled && several * 2 < parts.len() {
        return if all.is_empty() { Vec::new() } else { vec![strip(&all)] };
    }
    let mut members: Vec<usize> = parts.iter().filter(|part| part.len() > 1 || ruled).flatten().copied().collect();
    let width = |i: usize| segments[i].bbox[2] - segments[i].bbox[0];
    members.sort_by(|&a, &b| width(a).total_cmp(&width(b)));
    // Narrow texts come first: a wide one may reach over several columns.
    let mut columns: Vec<(f32, f32, Vec<usize>)> = Vec::new();
    for i in members {
        let (b, size) = (&segments[i].bbox, segments[i].size);
        let touches = |c: &(f32, f32, Vec<usize>)| c.1.min(b[2]) - c.0.max(b[0]) > 0.1 * size;
        let touched: Vec<usize> = (0..columns.len()).filter(|&c| touches(&columns[c])).collect();
        match touched[..] {
            [] => columns.push((b[0], b[2], vec![i])),
            [one] => {
                let column = &mut columns[one];
                (column.0, column.1) = (column.0.min(b[0]), column.1.max(b[2]));
                column.2.push(i);
            }
            _ => {}
        }
        if columns.len() > MAX_COLUMNS {
            return Vec::new();
        }
    }
    columns.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut columns: Vec<Vec<usize>> = columns.into_iter().map(|c| c.2).collect();
    join_broken(segments, parts, &mut columns, &strip);
    join_signs(segments, &mut columns);
    columns.iter().map(|members| strip(members)).collect()
}

/// Joins neighbouring columns that are one: many texts reach over both, or they nearly touch and only a few lines have a
/// text in each. Justified text in a narrow column has such gaps.
fn join_broken(
    segments: &[Segment],
    parts: &[Vec<usize>],
    columns: &mut Vec<Vec<usize>>,
    strip: &dyn Fn(&[usize]) -> Strip,
) {
    let mut at = 0;
    while at + 1 < columns.len() {
        let (a, b) = (strip(&columns[at]), strip(&columns[at + 1]));
        let (mut over, mut both, mut left, mut right) = (0, 0, 0, 0);
        for part in parts {
            let spans = part.iter().any(|&i| a.has(&segments[i].bbox) && b.has(&segments[i].bbox));
            let has = |strip: &Strip| part.iter().any(|&i| strip.has(&segments[i].bbox));
            let (l, r) = (has(&a), has(&b));
            over += usize::from(spans);
            both += usize::from(l && r && !spans);
            left += usize::from(l);
            right += usize::from(r);
        }
        let size = parts.iter().flatten().next().map_or(10.0, |&i| segments[i].size);
        let end = columns[at].iter().map(|&i| segments[i].bbox[2]).fold(f32::MIN, f32::max);
        let begin = columns[at + 1].iter().map(|&i| segments[i].bbox[0]).fold(f32::MAX, f32::min);
        let limit = ((parts.len() as f32 * SPANNING_SHARE) as usize).max(1);
        let touching = begin - end < 0.6 * size && both * 2 < left.max(right);
        if over > limit.max(both / 2) || touching {
            let mut joined = columns.remove(at + 1);
            columns[at].append(&mut joined);
            at = at.saturating_sub(1);
        } else {
            at += 1;
        }
    }
}

/// Joins a column of signs, such as that of a currency, to the next column.
fn join_signs(segments: &[Segment], columns: &mut Vec<Vec<usize>>) {
    let sign = |i: &usize| {
        let text = || segments[*i].words.iter().flat_map(|w| w.text.chars());
        text().count() <= 2 && !text().any(|c| c.is_alphanumeric() || matches!(c, '-' | '–' | '—'))
    };
    let mut at = 0;
    while at + 1 < columns.len() {
        if columns[at].iter().all(sign) {
            let mut signs = columns.remove(at);
            columns[at].append(&mut signs);
        } else {
            at += 1;
        }
    }
}

/// Describes a text in a line of the table: words of a segment and the columns that they cover.
#[derive(Clone, Debug)]
pub(super) struct Placed {
    pub segment: usize,
    /// Range of the words of the segment.
    words: std::ops::Range<usize>,
    pub bbox: Box4,
    pub first: usize,
    pub last: usize,
}

impl Placed {
    pub fn words<'s>(&self, segments: &'s [Segment]) -> &'s [Word] {
        &segments[self.segment].words[self.words.clone()]
    }
}

/// Returns the texts of a line with the columns that they cover.
pub(super) fn place(segments: &[Segment], line: &Line, columns: &[Strip]) -> Vec<Placed> {
    let mut out = Vec::new();
    for &i in &line.segments {
        let segment = &segments[i];
        let whole = placed(segment, i, 0..segment.words.len(), columns);
        match numbers(segment, i, &whole, columns) {
            Some(parts) => out.extend(parts),
            None => out.push(whole),
        }
    }
    out
}

fn placed(segment: &Segment, i: usize, words: std::ops::Range<usize>, columns: &[Strip]) -> Placed {
    let bbox = segment.words[words.clone()].iter().map(|w| w.bbox).reduce(join).unwrap_or(segment.bbox);
    let has = |strip: &Strip| strip.has(&bbox);
    let nearest = || {
        let overlap = |c: &usize| columns[*c].overlap(&bbox);
        (0..columns.len()).max_by(|a, b| overlap(a).total_cmp(&overlap(b))).unwrap_or_default()
    };
    let first = columns.iter().position(has).unwrap_or_else(nearest);
    let last = columns.iter().rposition(has).unwrap_or(first);
    Placed { segment: i, words, bbox, first, last }
}

/// Parts the numbers of several columns that stand so close that they were taken for one text.
fn numbers(segment: &Segment, i: usize, whole: &Placed, columns: &[Strip]) -> Option<Vec<Placed>> {
    let count = segment.words.len();
    if whole.last == whole.first || count < 2 || !segment.words.iter().all(|w| is_number(&w.text)) {
        return None;
    }
    let parts: Vec<Placed> = (0..count).map(|w| placed(segment, i, w..w + 1, columns)).collect();
    let apart = parts.windows(2).all(|w| w[0].last < w[1].first);
    apart.then_some(parts)
}
