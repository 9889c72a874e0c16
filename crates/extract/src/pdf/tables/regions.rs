//! Parts a page into regions that have one column of text each, so that the lines of two columns of prose are not taken
//! for the rows of a table.

use super::super::order::ranges_shared;
use super::super::words::Segment;
use super::lines::is_prose;

const MAX_DEPTH: usize = 12;
/// Maximum number of segments to analyse. A page with more segments is a drawing or one large table.
const MAX_SEGMENTS: usize = 1500;
/// Number of full lines that make running text.
const PROSE_LINES: usize = 3;

/// Returns the regions of the given segments.
pub(super) fn regions(segments: &[Segment], members: Vec<usize>) -> Vec<Vec<usize>> {
    if members.len() > MAX_SEGMENTS {
        return vec![members];
    }
    let mut out = Vec::new();
    part(segments, members, 0, &mut out);
    out
}

fn part(segments: &[Segment], members: Vec<usize>, depth: usize, out: &mut Vec<Vec<usize>>) {
    let Some(x) = (depth < MAX_DEPTH).then(|| gutter(segments, &members)).flatten() else {
        out.push(members);
        return;
    };
    let (mut across, mut rest): (Vec<usize>, Vec<usize>) =
        members.into_iter().partition(|&i| segments[i].bbox[0] < x && segments[i].bbox[2] > x);
    across.sort_by(|&a, &b| segments[a].baseline.total_cmp(&segments[b].baseline));
    // Lines that cross the gutter one after the other are one region.
    let mut crossing: Vec<usize> = Vec::new();
    for cut in across.into_iter().map(Some).chain([None]) {
        let (band, below): (Vec<usize>, Vec<usize>) = match cut {
            Some(c) => rest.into_iter().partition(|&i| segments[i].baseline < segments[c].baseline),
            None => (rest, Vec::new()),
        };
        rest = below;
        if !band.is_empty() && !crossing.is_empty() {
            out.push(std::mem::take(&mut crossing));
        }
        for (columns, group) in groups(segments, band, x) {
            if !columns {
                out.push(group);
                continue;
            }
            let (left, right): (Vec<usize>, Vec<usize>) = group.into_iter().partition(|&i| segments[i].bbox[2] <= x);
            for side in [left, right].into_iter().filter(|side| !side.is_empty()) {
                part(segments, side, depth + 1, out);
            }
        }
        crossing.extend(cut);
    }
    if !crossing.is_empty() {
        out.push(crossing);
    }
}

/// Cuts what lies between two crossing lines where no text is beside a gap, and returns the groups from top to bottom.
/// Each is either text in columns on both sides of the gutter (true) or rows that go on across the gutter (false).
fn groups(segments: &[Segment], mut band: Vec<usize>, x: f32) -> Vec<(bool, Vec<usize>)> {
    band.sort_by(|&a, &b| segments[a].bbox[1].total_cmp(&segments[b].bbox[1]));
    let mut cut: Vec<(f32, Vec<usize>)> = Vec::new();
    for i in band {
        let segment = &segments[i];
        match cut.last_mut().filter(|(bottom, _)| segment.bbox[1] < *bottom + 0.9 * segment.size) {
            Some((bottom, group)) => {
                *bottom = bottom.max(segment.bbox[3]);
                group.push(i);
            }
            None => cut.push((segment.bbox[3], vec![i])),
        }
    }
    let mut out: Vec<(bool, Vec<usize>)> = Vec::new();
    for (_, group) in cut {
        let (left, right): (Vec<usize>, Vec<usize>) = group.iter().partition(|&&i| segments[i].bbox[2] <= x);
        let prose = is_prose(segments, &left, 2) || is_prose(segments, &right, 2);
        let columns = left.is_empty() || right.is_empty() || prose || !share_baselines(segments, &left, &right);
        match out.last_mut().filter(|(last, _)| *last == columns) {
            Some((_, last)) => last.extend(group),
            None => out.push((columns, group)),
        }
    }
    out
}

/// Returns the `x` of a gutter between two columns of text, or `None` if the members are one column.
fn gutter(segments: &[Segment], members: &[usize]) -> Option<f32> {
    let mut edges: Vec<f32> = members.iter().map(|&i| segments[i].bbox[0]).collect();
    edges.sort_by(f32::total_cmp);
    edges.dedup_by(|a, b| (*a - *b).abs() < 0.5);
    let mut best: Option<(f32, f32)> = None;
    for x in edges.into_iter().skip(1) {
        let x = x - 0.05;
        let side = |left: bool| -> Vec<usize> {
            let on = |i: &usize| if left { segments[*i].bbox[2] <= x } else { segments[*i].bbox[0] >= x };
            members.iter().copied().filter(on).collect()
        };
        let (left, right) = (side(true), side(false));
        if left.len() < PROSE_LINES || right.len() < PROSE_LINES {
            continue;
        }
        let heights = |side: &[usize]| side.iter().map(|&i| (segments[i].bbox[1], segments[i].bbox[3])).collect();
        let parallel = ranges_shared(&mut heights(&left), &mut heights(&right));
        let crossing: f32 =
            members.iter().map(|&i| &segments[i].bbox).filter(|b| b[0] < x && b[2] > x).map(|b| b[3] - b[1]).sum();
        let width = x - left.iter().map(|&i| segments[i].bbox[2]).fold(f32::MIN, f32::max);
        let score = parallel - 0.3 * crossing;
        if width < 0.0 || score <= 0.0 || best.is_some_and(|(s, _)| score <= s) {
            continue;
        }
        let (one, other) = (is_prose(segments, &left, PROSE_LINES), is_prose(segments, &right, PROSE_LINES));
        if (one && other) || ((one || other) && !share_baselines(segments, &left, &right)) {
            best = Some((score, x - width / 2.0));
        }
    }
    best.map(|(_, x)| x)
}

/// Returns whether most lines of the shorter side are on baselines of the longer side, as the cells of a row are.
fn share_baselines(segments: &[Segment], a: &[usize], b: &[usize]) -> bool {
    let (short, long) = if a.len() <= b.len() { (a, b) } else { (b, a) };
    let mut baselines: Vec<f32> = long.iter().map(|&i| segments[i].baseline).collect();
    baselines.sort_by(f32::total_cmp);
    let on = |&&i: &&usize| {
        let (y, tolerance) = (segments[i].baseline, 0.15 * segments[i].size);
        let at = baselines.partition_point(|&v| v < y - tolerance);
        baselines.get(at).is_some_and(|&v| v <= y + tolerance)
    };
    short.iter().filter(on).count() * 10 >= short.len() * 6
}
