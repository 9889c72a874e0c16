//! Finds the tables of a page and their cells.
//!
//! A table is looked for where ruled lines form a grid, between ruled lines of equal length, and where lines of text
//! have gaps at the same places. [`build`] finds rows and columns in each such region. The result counts as a table only
//! if its cells look like cells: a wrong table is worse than plain lines.

mod aligned;
mod borders;
mod build;
mod cells;
mod columns;
mod lines;
mod regions;
mod rows;
mod ruled;

use self::aligned::{aligned, is_multi};
use self::borders::{NEAR, Region};
use self::build::build;
use self::lines::{Line, lines};
use self::regions::regions;
use self::ruled::{edges, joined, ruled, split_at_rules};
use super::glyphs::Rule;
use super::words::{Box4, Segment, Word};

/// Maximum number of cells of a table; a larger grid is a drawing.
const MAX_CELLS: usize = 5000;
/// Maximum number of texts of a page in which tables are looked for. A page with more is a drawing.
const MAX_SEGMENTS: usize = 20_000;

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
    if segments.len() > MAX_SEGMENTS {
        return Vec::new();
    }
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

/// Adds the rows that follow below the last ruled line (lines of several texts at the same distance as above), and a head
/// above the first.
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
    // The head may stand above the first line, in a style of its own.
    let Some(first) = text.first() else { return (members, bbox) };
    let over = |i: &usize| {
        let b = &segments[*i].bbox;
        let middle = (b[0] + b[2]) / 2.0;
        let near = first.bbox[1] - b[3] < 1.3 * size && b[3] < first.bbox[1] + 0.3 * size;
        near && !taken[*i] && b[0] > bbox[0] - size && b[2] < bbox[2] + size && middle > bbox[0] && !members.contains(i)
    };
    let above: Vec<usize> = (0..segments.len()).filter(over).collect();
    let head = lines(segments, &above).into_iter().next_back();
    if let Some(line) = head.filter(|line| line.segments.len() > 2 && line.segments.len() >= first.segments.len()) {
        bbox[1] = bbox[1].min(line.bbox[1]);
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
    !text().any(|c| matches!(c, '=' | ';' | '{' | '}'))
        && text().filter(|c| c.is_numeric()).count() > text().filter(|c| c.is_alphabetic()).count()
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
