//! Joins segments that belong together although a wide gap is between them: the words of a justified line, and the label of
//! a field and its value.

use super::words::{Segment, Word};

/// Maximum number of segments of a page that are compared with each other to join them. A page with more is a drawing.
const MAX_JOINED: usize = 4000;

/// Joins the segments of a justified line whose spaces are so wide that they look like gaps between columns. All spaces
/// of such a line are equal, and it is as wide as another line in its column.
pub(super) fn justified(mut segments: Vec<Segment>) -> Vec<Segment> {
    if segments.len() > MAX_JOINED {
        return segments;
    }
    segments.sort_by(|a, b| a.baseline.total_cmp(&b.baseline).then(a.bbox[0].total_cmp(&b.bbox[0])));
    let widths: Vec<(f32, f32)> =
        segments.iter().filter(|s| s.words.len() > 2).map(|s| (s.bbox[0], s.bbox[2])).collect();
    let mut out: Vec<Segment> = Vec::with_capacity(segments.len());
    let mut from = 0;
    while from < segments.len() {
        let first = &segments[from];
        let beside = |s: &&Segment| {
            (s.baseline - first.baseline).abs() < 0.5
                && (s.size / first.size - 1.0).abs() < 0.02
                && s.bbox[0] >= first.bbox[0]
        };
        let row = segments[from..].iter().take(12).take_while(beside).count();
        let joined = (2..=row).rev().find(|&n| {
            let part = &segments[from..from + n];
            let words: Vec<&Word> = part.iter().flat_map(|s| &s.words).collect();
            let gaps = words.windows(2).map(|w| w[1].bbox[0] - w[0].bbox[2]);
            let (low, high) = gaps.fold((f32::MAX, f32::MIN), |(l, h), g| (l.min(g), h.max(g)));
            let (x0, x1) = (part[0].bbox[0], part[n - 1].bbox[2]);
            let full = widths.iter().any(|w| (w.0 - x0).abs() < 2.0 && (w.1 - x1).abs() < 2.0);
            // Gaps of a table differ with its texts.
            let equal = words.len() > 3 && high - low < 0.02;
            words.len() > 2 && low > 0.0 && high < 4.0 * first.size && high - low < 0.25 * high && (full || equal)
        });
        let count = joined.unwrap_or(1);
        let mut whole = segments[from].clone();
        segments[from + 1..from + count].iter().for_each(|s| whole.append(s.clone()));
        out.push(whole);
        from += count;
    }
    out
}

/// Joins the label of a field, such as `Name:`, with the value to its right. A line of a paragraph that ends with a colon
/// is no label, and a line of a paragraph is no value.
pub(super) fn labels(mut segments: Vec<Segment>) -> Vec<Segment> {
    const MAX_WORDS: usize = 6;
    if segments.len() > MAX_JOINED {
        return segments;
    }
    let is_label = |s: &Segment| s.words.len() <= MAX_WORDS && s.words.last().is_some_and(|w| w.text.ends_with(':'));
    let in_paragraph = |part: &Segment, segments: &[Segment]| {
        segments.iter().any(|s| {
            let step = (part.baseline - s.baseline).abs();
            let near = (0.5 * part.size..1.6 * part.size).contains(&step);
            near && s.words.len() > MAX_WORDS && (s.bbox[0] - part.bbox[0]).abs() < 3.0 * part.size
        })
    };
    let mut joined = vec![false; segments.len()];
    for i in 0..segments.len() {
        if joined[i] || !is_label(&segments[i]) || in_paragraph(&segments[i], &segments) {
            continue;
        }
        let label = &segments[i];
        let beside = |s: &Segment| {
            (s.baseline - label.baseline).abs() < 0.2 * label.size && s.bbox[0] > label.bbox[2] - 0.1 * label.size
        };
        let next = (0..segments.len())
            .filter(|&k| k != i && !joined[k] && beside(&segments[k]))
            .min_by(|&a, &b| segments[a].bbox[0].total_cmp(&segments[b].bbox[0]));
        let fits = |k: &usize| {
            let value = &segments[*k];
            value.bbox[0] - label.bbox[2] < 20.0 * label.size && value.words.len() <= 2 * MAX_WORDS && !is_label(value)
        };
        if let Some(k) = next.filter(fits).filter(|&k| !in_paragraph(&segments[k], &segments)) {
            let value = segments[k].clone();
            segments[i].append(value);
            joined[k] = true;
        }
    }
    let mut gone = joined.into_iter();
    segments.retain(|_| !gone.next().unwrap_or(false));
    segments
}
