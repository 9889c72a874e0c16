//! Splits segments at narrow gutters, where the space between two columns is hardly wider than one between words.
//!
//! One line does not show such a gutter; several lines below each other do: the right column begins at the same place in
//! each, and no word reaches over it. In running text, words of several lines begin at one place by chance only.

use super::words::Segment;

/// Minimum width of a gutter as a multiple of the font size.
const MIN_GAP: f32 = 0.3;
/// Distance in points within which words begin at one place.
const SAME_PLACE: f32 = 0.6;
/// Minimum number of lines that must begin at one place.
const MIN_LINES: usize = 5;
/// Maximum number of segments of a page that is analysed.
const MAX_SEGMENTS: usize = 4000;
/// Maximum number of places at which the lines of a page are compared.
const MAX_PLACES: usize = 1000;

/// Describes a word that begins after a gap within a segment.
struct Start {
    x: f32,
    gap: f32,
    baseline: f32,
}

/// Splits the segments of a page, which are all in one direction.
pub(super) fn split(segments: &mut Vec<Segment>) {
    if segments.len() > MAX_SEGMENTS {
        return;
    }
    let mut starts: Vec<Start> = Vec::new();
    for segment in segments.iter() {
        starts.extend(segment.words.windows(2).filter_map(|w| {
            let gap = w[1].bbox[0] - w[0].bbox[2];
            (gap >= MIN_GAP * segment.size).then_some(Start { x: w[1].bbox[0], gap, baseline: segment.baseline })
        }));
    }
    starts.sort_by(|a, b| a.x.total_cmp(&b.x));
    let (mut from, mut places) = (0, 0);
    while from < starts.len() && places < MAX_PLACES {
        let x = starts[from].x;
        let end = from + starts[from..].iter().take_while(|s| s.x - x < SAME_PLACE).count();
        let group = &starts[from..end];
        if group.len() >= MIN_LINES {
            places += 1;
            let gap = group.iter().map(|s| s.gap).fold(f32::MAX, f32::min);
            let range = group.iter().fold((f32::MAX, f32::MIN), |r, s| (r.0.min(s.baseline), r.1.max(s.baseline)));
            if split_at(segments, x, gap, range) {
                from = end;
                continue;
            }
        }
        from += 1;
    }
}

/// Says how a line lies to a gutter.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Lies {
    /// Its right part begins at the gutter.
    Begins,
    /// It leaves the gutter free.
    Beside,
    Across,
}

/// Describes a line beside a gutter.
struct Line {
    baseline: f32,
    lies: Lies,
    /// Index of the segment, and of the first word to the right of the gutter.
    place: (usize, usize),
}

/// Splits the lines between two baselines at a gutter whose right edge is `x`, where enough of them leave it free.
fn split_at(segments: &mut Vec<Segment>, x: f32, gap: f32, (top, bottom): (f32, f32)) -> bool {
    let strip = (x - gap + 0.1, x - 0.1);
    let mut lines: Vec<Line> = Vec::new();
    for (i, segment) in segments.iter().enumerate() {
        let reaches = segment.bbox[0] < strip.0 && segment.bbox[2] > x;
        if !reaches || segment.baseline < top - 0.1 || segment.baseline > bottom + 0.1 {
            continue;
        }
        let at = segment.words.partition_point(|w| w.bbox[2] <= strip.0 + 0.2);
        let lies = match segment.words.get(at) {
            Some(next) if (next.bbox[0] - x).abs() < SAME_PLACE => Lies::Begins,
            Some(next) if next.bbox[0] >= strip.1 => Lies::Beside,
            _ => Lies::Across,
        };
        lines.push(Line { baseline: segment.baseline, lies, place: (i, at) });
    }
    lines.sort_by(|a, b| a.baseline.total_cmp(&b.baseline));
    let mut cuts: Vec<(usize, usize)> = Vec::new();
    for run in lines.split(|line| line.lies == Lies::Across) {
        let begins = run.iter().filter(|line| line.lies == Lies::Begins).count();
        let places: Vec<(usize, usize)> = run.iter().map(|line| line.place).collect();
        // The numbers and bullets of a list stand before their items, not in a column.
        let left: usize = places.iter().map(|&(i, at)| segments[i].words[..at].len()).sum();
        let list = left < 2 * places.len();
        if begins >= MIN_LINES && begins * 2 >= run.len() && !list && differs(segments, &places, gap) {
            cuts.extend(places);
        }
    }
    for &(i, at) in &cuts {
        if let Some((left, right)) = segments[i].clone().split(at) {
            segments[i] = left;
            segments.push(right);
        }
    }
    !cuts.is_empty()
}

/// Returns whether a gutter differs from the spaces between the words beside it. Where all spaces are equal, as in logs
/// and listings, the words of several lines often begin at one place; then only a wider gap is a gutter.
fn differs(segments: &[Segment], places: &[(usize, usize)], gutter: f32) -> bool {
    let mut spaces: Vec<f32> = Vec::new();
    for &(i, at) in places {
        let gaps = segments[i].words.windows(2).enumerate().filter(|(k, _)| k + 1 != at);
        let mut gaps: Vec<f32> = gaps.map(|(_, w)| w[1].bbox[0] - w[0].bbox[2]).collect();
        // The widest may be another gutter, or the space after a number.
        gaps.sort_by(f32::total_cmp);
        gaps.pop();
        spaces.extend(gaps);
    }
    spaces.sort_by(f32::total_cmp);
    let Some(&middle) = spaces.get(spaces.len() / 2) else { return true };
    let spread = spaces[spaces.len() * 9 / 10] - spaces[spaces.len() / 10];
    gutter > 1.25 * middle || spread > 0.25 * middle
}

#[cfg(test)]
mod tests {
    use super::super::fonts::Fonts;
    use super::super::glyphs::PageGlyphs;
    use super::super::words::{segments, tests::draw};
    use super::*;

    fn page(lines: &[(&str, f32, &str)]) -> Vec<Segment> {
        let mut page = PageGlyphs::default();
        for (i, (left, gap, right)) in lines.iter().enumerate() {
            let y = 50.0 + 12.0 * i as f32;
            let end = 50.0 + 5.0 * left.len() as f32;
            draw(&mut page, 50.0, y, 10.0, left);
            draw(&mut page, end + gap, y, 10.0, right);
        }
        let mut found = segments(&page, &Fonts::default(), 0);
        split(&mut found);
        found
    }

    #[test]
    fn a_narrow_gutter_parts_columns_over_several_lines() {
        let left = [
            "the left column of text",
            "runs on for some lines,",
            "one below the other and",
            "all of the same length,",
        ];
        let right = ["right column", "of the text,", "which begins", "at one place"];
        let mut lines: Vec<(&str, f32, &str)> = left.into_iter().zip(right).map(|(l, r)| (l, 7.0, r)).collect();
        assert_eq!(page(&lines).len(), 4, "four lines may be chance");
        lines.push(("but the last one is cut", 15.0, "and indented"));
        lines.extend(lines.clone());
        assert_eq!(page(&lines).len(), 20);
    }

    #[test]
    fn a_line_across_ends_the_columns() {
        let line = ("the left column of text", 7.0, "right column");
        let mut lines = vec![line; 5];
        lines.push(("a title that goes over both of them and", 7.0, "more"));
        lines.push(line);
        assert_eq!(page(&lines).len(), 5 * 2 + 2);
    }

    #[test]
    fn words_that_begin_at_one_place_by_equal_spaces_are_no_columns() {
        let lines: Vec<(&str, f32, &str)> = vec![("10:00:01 host sshd[12]: session", 5.0, "opened for user"); 9];
        assert_eq!(page(&lines).len(), 9);
    }

    #[test]
    fn the_numbers_of_a_list_stay_with_their_items() {
        let lines: Vec<(&str, f32, &str)> = vec![("1.", 8.0, "an item of the list"); 8];
        assert_eq!(page(&lines).len(), 8);
    }
}
