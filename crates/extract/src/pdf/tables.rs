//! Finds the tables of a page. Text counts as a table only if it is certain to be one.
//!
//! Two kinds of tables are recognised: text inside a grid of ruled lines, and rows of short segments aligned in at
//! least three columns. A wrong table is worse than plain lines, so doubtful cases stay lines.

use super::glyphs::Rule;
use super::words::{Box4, Segment, Word, join, shared};

/// Maximum number of cells of a table; a larger grid is a drawing.
const MAX_CELLS: usize = 5000;

#[derive(Clone, Debug, PartialEq)]
pub(super) struct Table {
    /// Rows of cells; each cell is a list of words. Every row has the same number of cells.
    pub rows: Vec<Vec<Vec<Word>>>,
    pub bbox: Box4,
    pub size: f32,
}

/// Removes the tables from a page's segments and returns them.
pub(super) fn find(segments: &mut Vec<Segment>, rules: &[Rule]) -> Vec<Table> {
    let mut tables = ruled(segments, rules);
    tables.extend(aligned(segments));
    tables
}

// ---- ruled ----

/// Describes a grid of touching ruled lines: the `x` of each column border and the `y` of each row border.
struct Grid {
    xs: Vec<f32>,
    ys: Vec<f32>,
}

fn ruled(segments: &mut Vec<Segment>, rules: &[Rule]) -> Vec<Table> {
    let mut tables = Vec::new();
    for grid in grids(rules) {
        tables.extend(fill(&grid, segments));
    }
    tables
}

/// Groups ruled lines that cross or touch each other into grids.
fn grids(rules: &[Rule]) -> Vec<Grid> {
    const NEAR: f32 = 3.0;
    if rules.len() > 1500 {
        return Vec::new();
    }
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
    let mut grids: Vec<(usize, Grid)> = Vec::new();
    for (i, rule) in rules.iter().enumerate() {
        let id = root(&mut group, i);
        let at = grids.iter().position(|(g, _)| *g == id).unwrap_or_else(|| {
            grids.push((id, Grid { xs: Vec::new(), ys: Vec::new() }));
            grids.len() - 1
        });
        let grid = &mut grids[at].1;
        if rule.horizontal() {
            grid.ys.push((rule.y0 + rule.y1) / 2.0);
        } else {
            grid.xs.push((rule.x0 + rule.x1) / 2.0);
        }
    }
    let mut out = Vec::new();
    for (_, mut grid) in grids {
        for positions in [&mut grid.xs, &mut grid.ys] {
            positions.sort_by(f32::total_cmp);
            positions.dedup_by(|a, b| (*a - *b).abs() < NEAR);
        }
        let (columns, rows) = (grid.xs.len().saturating_sub(1), grid.ys.len().saturating_sub(1));
        if columns >= 2 && rows >= 2 && columns * rows <= MAX_CELLS {
            out.push(grid);
        }
    }
    out
}

fn fill(grid: &Grid, segments: &mut Vec<Segment>) -> Option<Table> {
    let (x0, x1) = (*grid.xs.first()?, *grid.xs.last()?);
    let (y0, y1) = (*grid.ys.first()?, *grid.ys.last()?);
    let inside = |w: &Word| {
        let (x, y) = ((w.bbox[0] + w.bbox[2]) / 2.0, (w.bbox[1] + w.bbox[3]) / 2.0);
        (x0..x1).contains(&x) && (y0..y1).contains(&y)
    };
    let (columns, rows) = (grid.xs.len() - 1, grid.ys.len() - 1);
    let mut cells: Vec<Vec<Vec<Word>>> = vec![vec![Vec::new(); columns]; rows];
    let (mut words, mut crossing, mut size) = (0usize, 0usize, 0.0f32);
    for word in segments.iter().flat_map(|s| &s.words).filter(|w| inside(w)) {
        let (x, y) = ((word.bbox[0] + word.bbox[2]) / 2.0, (word.bbox[1] + word.bbox[3]) / 2.0);
        let column = grid.xs.partition_point(|&v| v <= x).saturating_sub(1).min(columns - 1);
        let row = grid.ys.partition_point(|&v| v <= y).saturating_sub(1).min(rows - 1);
        words += 1;
        crossing += usize::from(grid.xs.iter().any(|&v| word.bbox[0] + 2.0 < v && v < word.bbox[2] - 2.0));
        size = size.max(word.size);
        cells[row][column].push(word.clone());
    }
    // Empty rows and columns result from doubled lines and from borders.
    cells.retain(|row| row.iter().any(|c| !c.is_empty()));
    let used: Vec<bool> = (0..columns).map(|c| cells.iter().any(|row| !row[c].is_empty())).collect();
    for row in &mut cells {
        let mut keep = used.iter();
        row.retain(|_| keep.next().copied().unwrap_or(false));
    }
    let columns = used.iter().filter(|u| **u).count();
    let filled = cells.iter().flatten().filter(|c| !c.is_empty()).count();
    let largest = cells.iter().flatten().map(Vec::len).max().unwrap_or(0);
    let sure = cells.len() >= 2
        && columns >= 2
        && filled * 100 >= cells.len() * columns * 30
        && crossing * 8 <= words
        && largest * 100 <= words * 60 + 2000
        && largest <= 250;
    if !sure {
        return None;
    }
    for segment in segments.iter_mut() {
        segment.words.retain(|w| !inside(w));
        if let Some(bbox) = segment.words.iter().map(|w| w.bbox).reduce(join) {
            segment.bbox = bbox;
        }
    }
    segments.retain(|s| !s.words.is_empty());
    for cell in cells.iter_mut().flatten() {
        in_lines(cell);
    }
    Some(Table { rows: cells, bbox: [x0, y0, x1, y1], size })
}

/// Sorts the words of a cell: lines from top to bottom, and words in a line from left to right.
fn in_lines(words: &mut [Word]) {
    words.sort_by(|a, b| a.baseline.total_cmp(&b.baseline));
    for line in words.chunk_by_mut(|a, b| b.baseline - a.baseline < 0.5 * a.size.min(b.size)) {
        line.sort_by(|a, b| a.bbox[0].total_cmp(&b.bbox[0]));
    }
}

// ---- aligned ----

/// Groups segments on the same baseline into rows.
fn rows_of(segments: &[Segment]) -> Vec<Vec<usize>> {
    let mut order: Vec<usize> = (0..segments.len()).collect();
    order.sort_by(|&a, &b| segments[a].baseline.total_cmp(&segments[b].baseline));
    let mut rows: Vec<Vec<usize>> = Vec::new();
    for i in order {
        let same = rows.last().and_then(|r| r.first()).is_some_and(|&f| {
            (segments[i].baseline - segments[f].baseline).abs() < 0.3 * segments[i].size.min(segments[f].size)
        });
        match rows.last_mut().filter(|_| same) {
            Some(row) => row.push(i),
            None => rows.push(vec![i]),
        }
    }
    for row in &mut rows {
        row.sort_by(|&a, &b| segments[a].bbox[0].total_cmp(&segments[b].bbox[0]));
    }
    rows
}

fn aligned(segments: &mut Vec<Segment>) -> Vec<Table> {
    let rows = rows_of(segments);
    let mut tables = Vec::new();
    let mut taken = vec![false; segments.len()];
    let mut at = 0;
    while at < rows.len() {
        let mut end = at;
        // The rows of a table follow each other closely and have short cells.
        while end < rows.len() && rows[end].len() >= 3 && (end == at || close(segments, &rows[end - 1], &rows[end])) {
            end += 1;
        }
        if end - at >= 3
            && let Some(table) = align(segments, &rows[at..end])
        {
            rows[at..end].iter().flatten().for_each(|&i| taken[i] = true);
            tables.push(table);
        }
        at = end.max(at + 1);
    }
    let mut keep = taken.iter().map(|t| !t);
    segments.retain(|_| keep.next().unwrap_or(true));
    tables
}

fn close(segments: &[Segment], above: &[usize], below: &[usize]) -> bool {
    match (above.first(), below.first()) {
        (Some(&a), Some(&b)) => {
            segments[b].baseline - segments[a].baseline < 2.6 * segments[a].size.max(segments[b].size)
        }
        _ => false,
    }
}

fn align(segments: &[Segment], rows: &[Vec<usize>]) -> Option<Table> {
    let cells = || rows.iter().flatten().map(|&i| &segments[i]);
    let count = cells().count();
    let chars: usize = cells().map(Segment::chars).sum();
    // Columns of prose have long lines.
    if chars > 18 * count || count > MAX_CELLS {
        return None;
    }
    // Columns are the ranges of the x axis that cells cover.
    let mut spans: Vec<(f32, f32)> = cells().map(|s| (s.bbox[0], s.bbox[2])).collect();
    spans.sort_by(|a, b| a.0.total_cmp(&b.0));
    let mut columns: Vec<(f32, f32)> = Vec::new();
    for (x0, x1) in spans {
        match columns.last_mut().filter(|c| x0 < c.1) {
            Some(column) => column.1 = column.1.max(x1),
            None => columns.push((x0, x1)),
        }
    }
    let per_row = count as f32 / rows.len() as f32;
    let fits = columns.len() >= 3 && per_row >= 0.7 * columns.len() as f32;
    if !fits {
        return None;
    }
    let mut out = Vec::with_capacity(rows.len());
    for row in rows {
        let mut line: Vec<Vec<Word>> = vec![Vec::new(); columns.len()];
        for &i in row {
            let s = &segments[i];
            let column = columns.iter().position(|c| shared(*c, (s.bbox[0], s.bbox[2])) > 0.5)?;
            line[column].extend(s.words.iter().cloned());
        }
        out.push(line);
    }
    let bbox = cells().map(|s| s.bbox).reduce(join)?;
    let size = cells().map(|s| s.size).fold(0.0, f32::max);
    Some(Table { rows: out, bbox, size })
}

#[cfg(test)]
mod tests {
    use super::super::glyphs::{Fonts, PageGlyphs};
    use super::super::words::{segments, tests::draw};
    use super::*;

    fn cells(table: &Table) -> Vec<Vec<String>> {
        let text = |c: &Vec<Word>| c.iter().map(|w| w.text.as_str()).collect::<Vec<_>>().join(" ");
        table.rows.iter().map(|r| r.iter().map(text).collect()).collect()
    }

    fn grid(xs: &[f32], ys: &[f32]) -> Vec<Rule> {
        let (x0, x1, y0, y1) = (xs[0], xs[xs.len() - 1], ys[0], ys[ys.len() - 1]);
        let mut rules: Vec<Rule> = xs.iter().map(|&x| Rule { x0: x, y0, x1: x, y1 }).collect();
        rules.extend(ys.iter().map(|&y| Rule { x0, y0: y, x1, y1: y }));
        rules
    }

    #[test]
    fn text_in_a_grid_is_a_table_and_the_rest_stays() {
        let mut page = PageGlyphs::default();
        draw(&mut page, 50.0, 40.0, 10.0, "before");
        for (y, row) in [(62.0, ["name", "value"]), (82.0, ["a b", "1"]), (102.0, ["c", "2"])] {
            draw(&mut page, 55.0, y, 10.0, row[0]);
            draw(&mut page, 105.0, y, 10.0, row[1]);
        }
        let mut found = segments(&page, &Fonts::default(), 0);
        let tables = find(&mut found, &grid(&[50.0, 100.0, 150.0], &[50.0, 70.0, 90.0, 110.0]));
        assert_eq!(tables.len(), 1);
        assert_eq!(cells(&tables[0]), [["name", "value"], ["a b", "1"], ["c", "2"]]);
        assert_eq!(found.len(), 1);
        assert_eq!(found[0].text(), "before");
    }

    #[test]
    fn aligned_short_cells_are_a_table_and_columns_of_prose_are_not() {
        let mut page = PageGlyphs::default();
        for (i, row) in [["item", "n", "cost"], ["nuts", "1", "2.00"], ["bolts", "22", "3.50"]].iter().enumerate() {
            for (column, text) in row.iter().enumerate() {
                draw(&mut page, 50.0 + 100.0 * column as f32, 50.0 + 14.0 * i as f32, 10.0, text);
            }
        }
        let mut found = segments(&page, &Fonts::default(), 0);
        let tables = find(&mut found, &[]);
        assert_eq!(cells(&tables[0]), [["item", "n", "cost"], ["nuts", "1", "2.00"], ["bolts", "22", "3.50"]]);
        assert!(found.is_empty());

        let mut prose = PageGlyphs::default();
        for row in 0..5 {
            for column in 0..3 {
                let y = 50.0 + 14.0 * row as f32;
                draw(&mut prose, 50.0 + 200.0 * column as f32, y, 10.0, "a line of prose in its column");
            }
        }
        let mut found = segments(&prose, &Fonts::default(), 0);
        assert_eq!(find(&mut found, &[]), []);
        assert_eq!(found.len(), 15);
    }

    #[test]
    fn a_frame_around_text_is_no_table() {
        let mut page = PageGlyphs::default();
        draw(&mut page, 55.0, 62.0, 10.0, "boxed text");
        let mut found = segments(&page, &Fonts::default(), 0);
        assert_eq!(find(&mut found, &grid(&[50.0, 200.0], &[50.0, 80.0])), []);
        assert_eq!(found.len(), 1);
    }
}
