//! Determines the reading order of the blocks on a page.
//!
//! The method searches for gutters, the empty strips between columns. Of several gutters, it uses the gutter with the
//! most text that lies side by side, on the left and the right of the gutter. Blocks that cross the gutter (a title,
//! a wide caption, a footnote) cut the columns into bands. Each band is read column by column, and each column is
//! ordered in the same way again. Without a gutter, blocks are read from top to bottom. The method uses geometry only
//! and needs no training and no tags. A layout that does not fit these rules is read top to bottom, left to right.

use super::words::Box4;

/// Maximum number of blocks to analyse. A page with more blocks is a drawing or a fragmented form, and is read in rows.
const MAX_BLOCKS: usize = 800;
const MAX_DEPTH: usize = 24;

/// Returns the indices of `boxes` in reading order. `line` is the usual height of a line, in the same unit as the
/// boxes.
pub(super) fn reading_order(boxes: &[Box4], line: f32) -> Vec<usize> {
    let mut out = Vec::with_capacity(boxes.len());
    let all: Vec<usize> = (0..boxes.len()).collect();
    if boxes.len() > MAX_BLOCKS {
        rows(boxes, all, &mut out);
    } else {
        region(boxes, all, line.max(1.0), 0, &mut out);
    }
    out
}

fn middle(b: &Box4) -> f32 {
    (b[1] + b[3]) / 2.0
}

fn region(boxes: &[Box4], mut members: Vec<usize>, line: f32, depth: usize, out: &mut Vec<usize>) {
    if members.len() <= 1 || depth >= MAX_DEPTH {
        return rows(boxes, members, out);
    }
    if let Some(x) = gutter(boxes, &members, line) {
        let (mut across, mut rest): (Vec<usize>, Vec<usize>) =
            members.into_iter().partition(|&i| boxes[i][0] < x && boxes[i][2] > x);
        across.sort_by(|&a, &b| middle(&boxes[a]).total_cmp(&middle(&boxes[b])));
        for cut in across.into_iter().map(Some).chain([None]) {
            let (band, below): (Vec<usize>, Vec<usize>) = match cut {
                Some(c) => rest.into_iter().partition(|&i| middle(&boxes[i]) < middle(&boxes[c])),
                None => (rest, Vec::new()),
            };
            let (left, right): (Vec<usize>, Vec<usize>) = band.into_iter().partition(|&i| boxes[i][2] <= x);
            region(boxes, left, line, depth + 1, out);
            region(boxes, right, line, depth + 1, out);
            out.extend(cut);
            rest = below;
        }
        return;
    }
    // The blocks are stacked: cut at every gap between the rows.
    members.sort_by(|&a, &b| boxes[a][1].total_cmp(&boxes[b][1]));
    let mut groups: Vec<(f32, Vec<usize>)> = Vec::new();
    for i in members {
        let tolerance = 0.25 * (boxes[i][3] - boxes[i][1]).min(line);
        match groups.last_mut().filter(|(bottom, _)| boxes[i][1] < *bottom - tolerance) {
            Some((bottom, group)) => {
                *bottom = bottom.max(boxes[i][3]);
                group.push(i);
            }
            None => groups.push((boxes[i][3], vec![i])),
        }
    }
    if groups.len() == 1 {
        let all = groups.pop().map(|(_, g)| g).unwrap_or_default();
        return rows(boxes, all, out);
    }
    for (_, group) in groups {
        region(boxes, group, line, depth + 1, out);
    }
}

/// Orders blocks from top to bottom, and blocks in the same row from left to right.
fn rows(boxes: &[Box4], mut members: Vec<usize>, out: &mut Vec<usize>) {
    members.sort_by(|&a, &b| boxes[a][1].total_cmp(&boxes[b][1]).then(boxes[a][0].total_cmp(&boxes[b][0])));
    let mut row: Vec<usize> = Vec::new();
    let mut bottom = f32::MIN;
    let flush = |row: &mut Vec<usize>, out: &mut Vec<usize>| {
        row.sort_by(|&a, &b| boxes[a][0].total_cmp(&boxes[b][0]));
        out.append(row);
    };
    for i in members {
        // A block is in the row if its middle is above the bottom of the row's first block.
        if !row.is_empty() && middle(&boxes[i]) > bottom {
            flush(&mut row, out);
        }
        if row.is_empty() {
            bottom = boxes[i][3];
        }
        row.push(i);
    }
    flush(&mut row, out);
}

/// Returns the `x` of the gutter with the most text that lies side by side, on the left and the right of the gutter.
/// Returns `None` if too little text lies side by side to form columns.
fn gutter(boxes: &[Box4], members: &[usize], line: f32) -> Option<f32> {
    let mut best: Option<(f32, f32)> = None;
    let mut edges: Vec<f32> = members.iter().map(|&i| boxes[i][0]).collect();
    edges.sort_by(f32::total_cmp);
    edges.dedup_by(|a, b| (*a - *b).abs() < 0.5);
    for x in edges.into_iter().skip(1) {
        let x = x - 0.05;
        let left = || members.iter().map(|&i| &boxes[i]).filter(|b| b[2] <= x);
        let right = || members.iter().map(|&i| &boxes[i]).filter(|b| b[0] >= x);
        let parallel =
            ranges_shared(&mut left().map(|b| (b[1], b[3])).collect(), &mut right().map(|b| (b[1], b[3])).collect());
        if parallel < 2.2 * line {
            continue;
        }
        let width = x - left().map(|b| b[2]).fold(f32::MIN, f32::max);
        let crossing: f32 =
            members.iter().map(|&i| &boxes[i]).filter(|b| b[0] < x && b[2] > x).map(|b| b[3] - b[1]).sum();
        let score = parallel - 0.3 * crossing + width.min(3.0 * line);
        // Beside many lines, a narrow gutter is one too.
        let wide = width >= 0.4 * line || (width >= 0.1 * line && parallel > 8.0 * line);
        let good = wide && score > 0.0;
        if good && best.is_none_or(|(s, _)| score > s) {
            // Use the middle of the gutter, so that a tiny overlap on either side does not matter.
            best = Some((score, x - width / 2.0));
        }
    }
    best.map(|(_, x)| x)
}

/// Returns the total length of the overlap between two sets of ranges.
pub(super) fn ranges_shared(a: &mut Vec<(f32, f32)>, b: &mut Vec<(f32, f32)>) -> f32 {
    merge(a);
    merge(b);
    let (mut i, mut j, mut length) = (0, 0, 0.0);
    while let (Some(x), Some(y)) = (a.get(i), b.get(j)) {
        length += (x.1.min(y.1) - x.0.max(y.0)).max(0.0);
        if x.1 < y.1 {
            i += 1;
        } else {
            j += 1;
        }
    }
    length
}

fn merge(ranges: &mut Vec<(f32, f32)>) {
    ranges.sort_by(|a, b| a.0.total_cmp(&b.0));
    ranges.dedup_by(|next, last| {
        let touches = next.0 <= last.1;
        if touches {
            last.1 = last.1.max(next.1);
        }
        touches
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn columns_are_read_one_after_the_other_between_what_lies_across() {
        let boxes = [
            [50.0, 700.0, 550.0, 720.0], // foot
            [310.0, 100.0, 550.0, 300.0],
            [50.0, 50.0, 550.0, 80.0], // title
            [50.0, 100.0, 290.0, 200.0],
            [50.0, 210.0, 290.0, 300.0],
            [50.0, 310.0, 550.0, 350.0], // across
            [310.0, 360.0, 550.0, 690.0],
            [50.0, 360.0, 290.0, 690.0],
        ];
        assert_eq!(reading_order(&boxes, 12.0), [2, 3, 4, 1, 5, 7, 6, 0]);
    }

    #[test]
    fn three_columns() {
        let column = |k: f32, top: f32| [50.0 + 180.0 * k, top, 220.0 + 180.0 * k, top + 150.0];
        let boxes = [column(2.0, 60.0), column(1.0, 50.0), column(0.0, 220.0), column(0.0, 50.0), column(1.0, 230.0)];
        assert_eq!(reading_order(&boxes, 12.0), [3, 2, 1, 4, 0]);
    }

    #[test]
    fn stacked_text_and_short_rows_are_read_from_the_top_and_from_the_left() {
        let boxes = [[300.0, 11.0, 400.0, 21.0], [50.0, 10.0, 120.0, 20.0], [50.0, 40.0, 500.0, 90.0]];
        assert_eq!(reading_order(&boxes, 12.0), [1, 0, 2]);
    }

    proptest! {
        #[test]
        fn every_block_comes_out_once(raw in prop::collection::vec((0f32..600.0, 0f32..800.0, 1f32..600.0, 1f32..300.0), 0..60)) {
            let boxes: Vec<Box4> = raw.iter().map(|&(x, y, w, h)| [x, y, x + w, y + h]).collect();
            let mut order = reading_order(&boxes, 12.0);
            order.sort_unstable();
            prop_assert_eq!(order, (0..boxes.len()).collect::<Vec<_>>());
        }
    }
}
