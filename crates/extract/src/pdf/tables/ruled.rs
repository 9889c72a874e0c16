//! Finds the regions that ruled lines and shading bound.

use super::super::glyphs::Rule;
use super::super::words::{Box4, Segment, join};
use super::Evidence;
use super::borders::NEAR;

/// Maximum number of ruled lines that are compared with each other. Only drawings have more.
const MAX_RULES: usize = 1500;

/// Returns the edges of shaded rows and cells as ruled lines.
pub(super) fn edges(fills: &[Rule]) -> Vec<Rule> {
    let mut out = Vec::new();
    let shades: Vec<&Rule> =
        fills.iter().filter(|f| (6.0..80.0).contains(&(f.y1 - f.y0)) && f.x1 - f.x0 > 6.0).collect();
    for f in &shades {
        for y in [f.y0, f.y1] {
            out.push(Rule { x0: f.x0, y0: y, x1: f.x1, y1: y });
        }
        // Two shaded cells side by side share an edge.
        let beside = |g: &&&Rule| (g.x0 - f.x1).abs() < 2.0 && (g.y0 - f.y0).abs() < 2.0 && (g.y1 - f.y1).abs() < 2.0;
        out.extend(shades.iter().find(beside).map(|_| Rule { x0: f.x1, y0: f.y0, x1: f.x1, y1: f.y1 }));
    }
    out
}

/// Joins ruled lines that continue each other.
pub(super) fn joined(rules: &[Rule]) -> Vec<Rule> {
    if rules.len() > MAX_RULES {
        return Vec::new();
    }
    let mut out: Vec<Rule> = Vec::new();
    for horizontal in [true, false] {
        let mut part: Vec<Rule> = rules.iter().filter(|r| r.horizontal() == horizontal).copied().collect();
        let from = |r: &Rule| if horizontal { r.x0 } else { r.y0 };
        part.sort_by(|a, b| a.at().total_cmp(&b.at()).then(from(a).total_cmp(&from(b))));
        let start = out.len();
        for rule in part {
            let continues = |last: &&mut Rule| {
                let (end, begin) = if horizontal { (last.x1, rule.x0) } else { (last.y1, rule.y0) };
                (last.at() - rule.at()).abs() < 1.0 && begin < end + 1.5
            };
            // A line at nearly the same place may lie between two that continue each other.
            match out[start..].iter_mut().rev().take(8).find(continues) {
                Some(last) => {
                    (last.x0, last.y0) = (last.x0.min(rule.x0), last.y0.min(rule.y0));
                    (last.x1, last.y1) = (last.x1.max(rule.x1), last.y1.max(rule.y1));
                }
                None => out.push(rule),
            }
        }
    }
    out
}

/// Splits segments at the vertical ruled lines between their words.
pub(super) fn split_at_rules(segments: &mut Vec<Segment>, rules: &[Rule]) {
    for rule in rules.iter().filter(|r| !r.horizontal()) {
        let x = rule.at();
        for i in 0..segments.len() {
            let b = segments[i].bbox;
            let middle = (b[1] + b[3]) / 2.0;
            if b[0] < x && x < b[2] && rule.y0 < middle && middle < rule.y1 {
                let at = segments[i].words.partition_point(|w| (w.bbox[0] + w.bbox[2]) / 2.0 < x);
                if let Some((left, right)) = segments[i].clone().split(at) {
                    segments[i] = left;
                    segments.push(right);
                }
            }
        }
    }
}

/// Returns the regions that ruled lines bound: first those with lines in both directions, then those between horizontal
/// lines of equal length.
pub(super) fn ruled(rules: &[Rule]) -> Vec<(Evidence, Box4)> {
    let mut group: Vec<usize> = (0..rules.len()).collect();
    fn root(group: &mut [usize], mut i: usize) -> usize {
        while group[i] != i {
            group[i] = group[group[i]];
            i = group[i];
        }
        i
    }
    for (i, a) in rules.iter().enumerate() {
        for (j, b) in rules.iter().enumerate().skip(i + 1) {
            let touch = a.x0 - NEAR <= b.x1 && b.x0 - NEAR <= a.x1 && a.y0 - NEAR <= b.y1 && b.y0 - NEAR <= a.y1;
            if touch {
                let (x, y) = (root(&mut group, i), root(&mut group, j));
                group[x] = y;
            }
        }
    }
    let mut grids: Vec<(usize, Box4, [usize; 2])> = Vec::new();
    for (i, rule) in rules.iter().enumerate() {
        let id = root(&mut group, i);
        let bbox = [rule.x0, rule.y0, rule.x1, rule.y1];
        let direction = usize::from(rule.horizontal());
        match grids.iter_mut().find(|(g, ..)| *g == id) {
            Some((_, b, count)) => {
                *b = join(*b, bbox);
                count[direction] += 1;
            }
            None => {
                let mut count = [0; 2];
                count[direction] += 1;
                grids.push((id, bbox, count));
            }
        }
    }
    let mut out: Vec<(Evidence, Box4)> = Vec::new();
    for (_, bbox, [vertical, horizontal]) in &grids {
        if *vertical >= 1 && *horizontal >= 2 {
            out.push((Evidence::Grid, *bbox));
        }
    }
    out.extend(stacked(rules).into_iter().map(|bbox| (Evidence::Lines, bbox)));
    out
}

/// Returns the boxes of horizontal ruled lines of equal length below each other.
fn stacked(rules: &[Rule]) -> Vec<Box4> {
    let mut stacks: Vec<(Box4, usize)> = Vec::new();
    let mut horizontal: Vec<&Rule> = rules.iter().filter(|r| r.horizontal() && r.x1 - r.x0 > 40.0).collect();
    horizontal.sort_by(|a, b| a.y0.total_cmp(&b.y0));
    for rule in horizontal {
        let equal = |(b, _): &&mut (Box4, usize)| (b[0] - rule.x0).abs() < 6.0 && (b[2] - rule.x1).abs() < 6.0;
        match stacks.iter_mut().find(equal) {
            Some((b, count)) => {
                *b = join(*b, [rule.x0, rule.y0, rule.x1, rule.y1]);
                *count += 1;
            }
            None => stacks.push(([rule.x0, rule.y0, rule.x1, rule.y1], 1)),
        }
    }
    stacks.into_iter().filter(|(b, count)| *count >= 2 && b[3] - b[1] > 12.0).map(|(b, _)| b).collect()
}
