//! Groups segments into the text lines of a table, and tells prose from the short texts of cells.

use super::super::words::{Box4, Segment, Word, join};

/// Describes one text line: the segments on one baseline, from left to right.
#[derive(Clone, Debug, Default)]
pub(super) struct Line {
    /// Indices of the segments.
    pub segments: Vec<usize>,
    pub bbox: Box4,
    pub baseline: f32,
    pub size: f32,
}

/// Groups segments into lines, from top to bottom.
pub(super) fn lines(segments: &[Segment], members: &[usize]) -> Vec<Line> {
    let mut order = members.to_vec();
    order.sort_by(|&a, &b| segments[a].baseline.total_cmp(&segments[b].baseline));
    let mut lines: Vec<Line> = Vec::new();
    for i in order {
        let segment = &segments[i];
        let same = |line: &&mut Line| (segment.baseline - line.baseline).abs() < 0.35 * segment.size.min(line.size);
        match lines.last_mut().filter(same) {
            Some(line) => {
                line.segments.push(i);
                line.bbox = join(line.bbox, segment.bbox);
                line.size = line.size.max(segment.size);
            }
            None => lines.push(Line {
                segments: vec![i],
                bbox: segment.bbox,
                baseline: segment.baseline,
                size: segment.size,
            }),
        }
    }
    for line in &mut lines {
        line.segments.sort_by(|&a, &b| segments[a].bbox[0].total_cmp(&segments[b].bbox[0]));
    }
    lines
}

/// Returns whether a text consists of a number, such as `1,204`, `(3.5)`, `12 %`, `n/a` or a dash.
pub(super) fn is_number_text(words: &[Word]) -> bool {
    let (mut digits, mut letters, mut chars) = (0, 0, 0);
    for c in words.iter().flat_map(|w| w.text.chars()) {
        digits += usize::from(c.is_numeric());
        letters += usize::from(c.is_alphabetic());
        chars += 1;
    }
    digits > letters || (letters == 0 && chars <= 3)
}

/// Returns whether a word is a number.
pub(super) fn is_number(word: &str) -> bool {
    let digits = word.chars().filter(|c| c.is_numeric()).count();
    digits > 0 && !word.chars().any(char::is_alphabetic)
}

/// Returns whether the segments contain running text: at least `lines` lines below each other that nearly fill the
/// width of the longest one.
pub(super) fn is_prose(segments: &[Segment], members: &[usize], lines: usize) -> bool {
    let mut order: Vec<&Segment> = members.iter().map(|&i| &segments[i]).filter(|s| s.words.len() >= 4).collect();
    order.sort_by(|a, b| a.baseline.total_cmp(&b.baseline));
    let width = order.iter().map(|s| s.bbox[2] - s.bbox[0]).fold(0.0, f32::max);
    let mut run: Vec<&Segment> = Vec::new();
    for segment in order {
        let full = segment.bbox[2] - segment.bbox[0] > 0.8 * width;
        let follows = run.last().is_none_or(|last| {
            let step = segment.baseline - last.baseline;
            step > 0.5 * last.size && step < 1.8 * last.size && (segment.bbox[0] - last.bbox[0]).abs() < 4.0 * last.size
        });
        if !(full && follows) {
            run.clear();
        }
        if full {
            run.push(segment);
        }
        if run.len() >= lines {
            return true;
        }
    }
    false
}
