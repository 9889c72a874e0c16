//! Finds the tables of a page and their cells.
//!
//! A table is looked for where ruled lines form a grid, between ruled lines of equal length, and where lines of text
//! have gaps at the same places. [`build`] finds rows and columns in each such region. The result counts as a table only
//! if its cells look like cells: a wrong table is worse than plain lines.

mod borders;
mod build;
mod cells;
mod columns;
mod lines;
mod regions;
mod rows;

use self::borders::{NEAR, Region};
use self::build::build;
use self::lines::{Line, is_number_text, lines};
use self::regions::regions;
use super::glyphs::Rule;
use super::words::{Box4, Segment, Word, join};

/// Maximum number of cells of a table; a larger grid is a drawing.
const MAX_CELLS: usize = 5000;
/// Maximum number of ruled lines that are compared with each other. Only drawings have more.
const MAX_RULES: usize = 1500;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Table {
    pub rows: usize,
    pub columns: usize,
    /// Cells by row and column. A cell that spans others stands at its first row and column only.
    pub cells: Vec<Cell>,
    pub bbox: Box4,
    pub size: f32,
}

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Cell {
    pub row: usize,
    pub column: usize,
    /// Number of rows and columns that the cell spans.
    pub rows: usize,
    pub columns: usize,
    pub words: Vec<Word>,
}

/// Says what a region was taken for a table by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Evidence {
    /// Ruled lines in both directions.
    Grid,
    /// Horizontal ruled lines of equal length.
    Lines,
    /// The alignment of the texts only.
    Alignment,
}

/// Removes the tables from a page's segments and returns them. `fills` are the boxes of filled rectangles.
pub(super) fn find(segments: &mut Vec<Segment>, rules: &[Rule], fills: &[Rule]) -> Vec<Table> {
    let rules = joined(rules);
    split_at_rules(segments, &rules);
    let mut tables = Vec::new();
    let mut taken = vec![false; segments.len()];
    // Shading counts only where no ruled lines form a table: it is often there for its looks.
    for rules in [&rules, &joined(&edges(fills))] {
        for (evidence, bbox) in ruled(rules) {
            let members = inside(segments, &taken, &bbox);
            take(segments, &mut taken, &mut tables, evidence, members, bbox, rules);
        }
    }
    let free: Vec<usize> = (0..segments.len()).filter(|&i| !taken[i]).collect();
    for region in regions(segments, free) {
        for (evidence, members, bbox) in aligned(segments, &region, &rules) {
            take(segments, &mut taken, &mut tables, evidence, members, bbox, &rules);
        }
    }
    let mut keep = taken.iter().map(|t| !t);
    segments.retain(|_| keep.next().unwrap_or(true));
    tables
}

fn take(
    segments: &[Segment],
    taken: &mut [bool],
    tables: &mut Vec<Table>,
    evidence: Evidence,
    members: Vec<usize>,
    bbox: Box4,
    rules: &[Rule],
) {
    let within =
        |r: &&Rule| r.x0 > bbox[0] - NEAR && r.x1 < bbox[2] + NEAR && r.y0 > bbox[1] - NEAR && r.y1 < bbox[3] + NEAR;
    let (members, bbox) = match evidence {
        Evidence::Alignment => (members, bbox),
        Evidence::Grid => (without_title(segments, members, &bbox), bbox),
        Evidence::Lines => extended(segments, taken, without_title(segments, members, &bbox), bbox),
    };
    let closed = evidence == Evidence::Grid;
    let region = Region { members, bbox, closed, rules: rules.iter().filter(within).collect() };
    let built = build(segments, &region).filter(|(table, _)| is_table(table, evidence));
    let Some((table, used)) = built else { return };
    used.iter().for_each(|&i| taken[i] = true);
    tables.push(table);
}

/// Drops the title above the first row: lines with one text that is a caption or reaches over most of the width.
fn without_title(segments: &[Segment], members: Vec<usize>, bbox: &Box4) -> Vec<usize> {
    let text = lines(segments, &members);
    let is_title = |line: &&Line| {
        let [only] = line.segments[..] else { return false };
        let segment = &segments[only];
        let wide = segment.bbox[2] - segment.bbox[0] > 0.6 * (bbox[2] - bbox[0]);
        wide || segment.words.first().is_some_and(|w| is_caption(&w.text))
    };
    let titles = text.iter().take_while(is_title).count();
    if titles + 2 > text.len() {
        return members;
    }
    text.into_iter().skip(titles).flat_map(|line| line.segments).collect()
}

/// Adds the rows that follow below the last ruled line: lines of several texts in the same columns and at the same
/// distance as above.
fn extended(segments: &[Segment], taken: &[bool], mut members: Vec<usize>, mut bbox: Box4) -> (Vec<usize>, Box4) {
    let text = lines(segments, &members);
    let step = text.windows(2).map(|w| w[1].bbox[1] - w[0].bbox[3]).fold(0.0, f32::max);
    let Some(last) = text.last() else { return (members, bbox) };
    let (mut bottom, size) = (last.bbox[3], last.size);
    let beside = |i: &usize| {
        let b = &segments[*i].bbox;
        !taken[*i] && b[1] > bbox[3] - 0.5 * size && b[0] > bbox[0] - size && b[2] < bbox[2] + size
    };
    let below: Vec<usize> = (0..segments.len()).filter(beside).collect();
    for line in lines(segments, &below) {
        let near = line.bbox[1] - bottom < step.max(0.4 * size) + 0.3 * size;
        if !near || !is_multi(segments, &line) || (line.size / size - 1.0).abs() > 0.15 {
            break;
        }
        bottom = line.bbox[3];
        bbox[3] = bbox[3].max(bottom);
        members.extend(line.segments);
    }
    (members, bbox)
}

fn is_caption(word: &str) -> bool {
    let word = word.trim_end_matches(['.', ':', '—']).to_lowercase();
    matches!(word.as_str(), "table" | "exhibit" | "figure" | "tab" | "fig")
}

fn inside(segments: &[Segment], taken: &[bool], bbox: &Box4) -> Vec<usize> {
    let within = |s: &Segment| {
        let (x, y) = ((s.bbox[0] + s.bbox[2]) / 2.0, (s.bbox[1] + s.bbox[3]) / 2.0);
        (bbox[0]..bbox[2]).contains(&x) && (bbox[1]..bbox[3]).contains(&y)
    };
    (0..segments.len()).filter(|&i| !taken[i] && within(&segments[i])).collect()
}

/// Returns whether cells look like those of a table. The less is ruled, the more the texts must look like cells.
fn is_table(table: &Table, evidence: Evidence) -> bool {
    let chars = |cell: &Cell| cell.words.iter().map(|w| w.text.chars().count() + 1).sum::<usize>();
    let filled: Vec<&Cell> = table.cells.iter().filter(|c| !c.words.is_empty()).collect();
    let places = table.rows * table.columns;
    let total: usize = filled.iter().map(|c| chars(c)).sum();
    let words: usize = filled.iter().map(|c| c.words.len()).sum();
    let largest = filled.iter().map(|c| c.words.len()).max().unwrap_or(0);
    let covered: usize = filled.iter().map(|c| c.rows * c.columns).sum();
    let in_several = |row: usize| filled.iter().filter(|c| c.row == row).count() >= 2;
    let rows = (0..table.rows).filter(|&r| in_several(r)).count();
    match evidence {
        Evidence::Grid => {
            rows >= 2
                && rows * 2 >= table.rows
                && covered * 100 >= places * 30
                && largest * 100 <= words * 60 + 2000
                && largest <= 250
        }
        // A form may have a head and nothing but names in its first column.
        Evidence::Lines => {
            (rows >= 2 || (in_several(0) && table.rows >= 3))
                && covered * 100 >= places * 40
                && largest * 100 <= words * 50 + 2000
        }
        Evidence::Alignment => {
            let numbers = filled.iter().filter(|c| c.column > 0 && is_number(c)).count();
            let later = filled.iter().filter(|c| c.column > 0).count();
            let two = table.columns > 2 || (rows >= 4 && numbers * 10 >= later * 6);
            rows >= 3 && two && covered * 100 >= places * 55 && total <= 25 * filled.len()
        }
    }
}

fn is_number(cell: &Cell) -> bool {
    let text = || cell.words.iter().flat_map(|w| w.text.chars());
    text().filter(|c| c.is_numeric()).count() > text().filter(|c| c.is_alphabetic()).count()
}

// ---- ruled lines ----

/// Returns the edges of shaded rows and cells as ruled lines.
fn edges(fills: &[Rule]) -> Vec<Rule> {
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
fn joined(rules: &[Rule]) -> Vec<Rule> {
    if rules.len() > MAX_RULES {
        return Vec::new();
    }
    let mut out: Vec<Rule> = Vec::new();
    for horizontal in [true, false] {
        let mut part: Vec<Rule> = rules.iter().filter(|r| r.horizontal() == horizontal).copied().collect();
        let at = |r: &Rule| if horizontal { (r.y0 + r.y1) / 2.0 } else { (r.x0 + r.x1) / 2.0 };
        let from = |r: &Rule| if horizontal { r.x0 } else { r.y0 };
        part.sort_by(|a, b| at(a).total_cmp(&at(b)).then(from(a).total_cmp(&from(b))));
        let start = out.len();
        for rule in part {
            let continues = |last: &&mut Rule| {
                let (end, begin) = if horizontal { (last.x1, rule.x0) } else { (last.y1, rule.y0) };
                (at(last) - at(&rule)).abs() < 1.0 && begin < end + 1.5
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
fn split_at_rules(segments: &mut Vec<Segment>, rules: &[Rule]) {
    for rule in rules.iter().filter(|r| !r.horizontal()) {
        let x = (rule.x0 + rule.x1) / 2.0;
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
fn ruled(rules: &[Rule]) -> Vec<(Evidence, Box4)> {
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

// ---- aligned texts ----

/// Returns the runs of lines in a region that have several texts each and gaps at the same places.
fn aligned(segments: &[Segment], region: &[usize], rules: &[Rule]) -> Vec<(Evidence, Vec<usize>, Box4)> {
    let text = lines(segments, region);
    let mut out = Vec::new();
    let mut at = 0;
    while at < text.len() {
        let end = run(segments, &text, at);
        if end - at >= 2 {
            let mut members: Vec<usize> = text[at..end].iter().flat_map(|l| &l.segments).copied().collect();
            members.sort_unstable();
            let bbox = text[at..end].iter().map(|l| l.bbox).reduce(join).unwrap_or_default();
            let size = text[at].size;
            let above = [bbox[0] - 4.0, bbox[1] - 1.2 * size, bbox[2] + 4.0, bbox[3] + 1.2 * size];
            let wide = |r: &&Rule| {
                r.horizontal()
                    && (above[1]..above[3]).contains(&r.y0)
                    && r.x1.min(bbox[2]) - r.x0.max(bbox[0]) > 0.8 * (bbox[2] - bbox[0])
                    && r.x1 - r.x0 < 1.3 * (bbox[2] - bbox[0]) + 20.0
            };
            let evidence = if rules.iter().filter(wide).count() >= 2 { Evidence::Lines } else { Evidence::Alignment };
            out.push((evidence, members, above));
        }
        at = end.max(at + 1);
    }
    out
}

fn is_multi(segments: &[Segment], line: &Line) -> bool {
    let texts = line.segments.len();
    let marker = line.segments.first().is_some_and(|&i| segments[i].words.len() == 1 && segments[i].chars() <= 3);
    texts > 2 || (texts == 2 && (!marker || line.segments.iter().all(|&i| is_number_text(&segments[i].words))))
}

/// Returns the end of the run of lines that begins at `at`.
fn run(segments: &[Segment], text: &[Line], at: usize) -> usize {
    if !is_multi(segments, &text[at]) {
        return at;
    }
    let mut end = at + 1;
    let mut next = end;
    let mut singles = 0;
    while next < text.len() {
        let (above, line) = (&text[next - 1], &text[next]);
        let gap = line.bbox[1] - above.bbox[3];
        if gap > 1.6 * line.size.max(above.size) {
            break;
        }
        if is_multi(segments, line) {
            singles = 0;
            end = next + 1;
        } else {
            singles += 1;
            if singles > 3 {
                break;
            }
        }
        next += 1;
    }
    end
}

/// Sorts the words of a cell: lines from top to bottom, and words in a line from left to right.
fn in_lines(words: &mut [Word]) {
    words.sort_by(|a, b| a.baseline.total_cmp(&b.baseline));
    for line in words.chunk_by_mut(|a, b| b.baseline - a.baseline < 0.5 * a.size.min(b.size)) {
        line.sort_by(|a, b| a.bbox[0].total_cmp(&b.bbox[0]));
    }
}

#[cfg(test)]
mod tests;
