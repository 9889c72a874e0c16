//! Puts texts into the cells of a table, and finds the cells that span rows and columns.

use super::super::words::{Box4, Segment, Word};
use super::Cell;
use super::borders::{Borders, NEAR};
use super::columns::{Placed, Strip};
use super::rows::Row;

/// Holds the places of a table: to which cell each belongs, and the words at each.
struct Places {
    /// Row and column of the first place of the cell.
    owner: Vec<Vec<(usize, usize)>>,
    words: Vec<Vec<Vec<Word>>>,
}

impl Places {
    fn new(rows: usize, columns: usize) -> Self {
        let owner = (0..rows).map(|r| (0..columns).map(|c| (r, c)).collect()).collect();
        Self { owner, words: vec![vec![Vec::new(); columns]; rows] }
    }

    fn is_free(&self, row: usize, column: usize) -> bool {
        self.owner[row][column] == (row, column) && self.words[row][column].is_empty()
    }

    /// Makes one cell of a rectangle of places. Does nothing if a place belongs to another cell already.
    fn join(&mut self, (r0, r1): (usize, usize), (c0, c1): (usize, usize)) {
        let single = |&(r, c): &(usize, usize)| {
            let owned = |&(rr, cc): &(usize, usize)| self.owner[rr][cc] == (r, c) && (rr, cc) != (r, c);
            self.owner[r][c] == (r, c) && !neighbours(r, c).any(|place| self.has(place) && owned(&place))
        };
        let places: Vec<(usize, usize)> = (r0..=r1).flat_map(|r| (c0..=c1).map(move |c| (r, c))).collect();
        if !places.iter().all(single) {
            return;
        }
        let mut words = Vec::new();
        for (r, c) in places {
            self.owner[r][c] = (r0, c0);
            words.append(&mut self.words[r][c]);
        }
        self.words[r0][c0] = words;
    }

    fn has(&self, (row, column): (usize, usize)) -> bool {
        self.owner.get(row).is_some_and(|r| column < r.len())
    }
}

fn neighbours(row: usize, column: usize) -> impl Iterator<Item = (usize, usize)> {
    [(row + 1, column), (row, column + 1)].into_iter()
}

/// Returns the cells of a table by row and column.
pub(super) fn cells(
    segments: &[Segment],
    placed: &[Vec<Placed>],
    rows: &[Row],
    columns: &[Strip],
    borders: &Borders<'_>,
) -> Vec<Cell> {
    let (height, width) = (rows.len(), columns.len());
    let mut places = Places::new(height, width);
    let mut spans: Vec<(usize, usize, usize)> = Vec::new();
    for (r, row) in rows.iter().enumerate() {
        for p in row.lines.iter().flat_map(|&l| &placed[l]) {
            places.words[r][p.first].extend(p.words(segments).iter().cloned());
            let size = segments[p.segment].size;
            let below = borders.edges.is_empty().then(|| underlined(&p.bbox, size, columns, borders)).flatten();
            let (first, last) = below.unwrap_or((p.first, p.last));
            if first <= p.first && p.last <= last && last > first {
                spans.push((r, first, last));
            }
        }
    }
    for (r, first, last) in spans {
        // Only a text that has its columns to itself spans them.
        let texts = (first..=last).filter(|&c| !places.words[r][c].is_empty()).count();
        if texts == 1 {
            places.join((r, r), (first, last));
        }
    }
    span_open_borders(&mut places, rows, columns, borders);
    span_header(&mut places);
    let mut cells = Vec::new();
    for r in 0..height {
        for c in 0..width {
            if places.owner[r][c] != (r, c) {
                continue;
            }
            let columns = (c..width).take_while(|&k| places.owner[r][k] == (r, c)).count();
            let rows = (r..height).take_while(|&k| places.owner[k][c] == (r, c)).count();
            let mut words = std::mem::take(&mut places.words[r][c]);
            super::in_lines(&mut words);
            cells.push(Cell { row: r, column: c, rows, columns, words });
        }
    }
    cells
}

/// Returns the columns over which a short ruled line below a text reaches, as below the head of several columns.
fn underlined(b: &Box4, size: f32, columns: &[Strip], borders: &Borders<'_>) -> Option<(usize, usize)> {
    let whole = columns.last()?.x1 - columns.first()?.x0;
    let below = borders.rules.iter().filter(|r| {
        r.horizontal()
            && (b[3] - 0.3 * size..b[3] + 0.8 * size).contains(&r.at())
            && r.x0 < b[0] + 0.5 * size
            && r.x1 > b[2] - 0.5 * size
            && r.x1 - r.x0 < 0.9 * whole
    });
    let rule = below.min_by(|a, b| (a.x1 - a.x0).total_cmp(&(b.x1 - b.x0)))?;
    let under = |c: &Strip| rule.x1.min(c.x1) - rule.x0.max(c.x0) > 0.6 * (c.x1 - c.x0);
    Some((columns.iter().position(under)?, columns.iter().rposition(under)?))
}

/// Joins places between which a ruled line is missing that parts others in the same row or column.
fn span_open_borders(places: &mut Places, rows: &[Row], columns: &[Strip], borders: &Borders<'_>) {
    let between = |positions: &[f32], a: f32, b: f32| -> Option<f32> {
        let (from, to) = (a.min(b) - NEAR, a.max(b) + NEAR);
        positions.iter().copied().find(|&v| (from..to).contains(&v))
    };
    for (r, row) in rows.iter().enumerate() {
        let mut c = 0;
        while c + 1 < columns.len() {
            let open = |k: usize| columns[k].edge.is_some_and(|x| borders.covered(false, x, (row.y0, row.y1)) < 0.3);
            let mut end = c;
            while end + 1 < columns.len() && open(end) {
                end += 1;
            }
            let texts = (c..=end).filter(|&k| !places.words[r][k].is_empty()).count();
            if end > c && texts <= 1 {
                places.join((r, r), (c, end));
            }
            c = end + 1;
        }
    }
    for (c, column) in columns.iter().enumerate() {
        for r in 0..rows.len().saturating_sub(1) {
            let open = between(&borders.ys, rows[r].y1, rows[r + 1].y0)
                .is_some_and(|y| borders.covered(true, y, (column.x0, column.x1)) < 0.3);
            if open && (places.is_free(r, c) || places.is_free(r + 1, c)) {
                places.join((r, r + 1), (c, c));
            }
        }
    }
}

/// Joins the places of a header in two rows: a column that has no common head with others has its head in both rows.
fn span_header(places: &mut Places) {
    let Some(first) = places.owner.first() else { return };
    let width = first.len();
    let spanned: Vec<bool> = (0..width)
        .map(|c| {
            let owner = places.owner[0][c];
            (0..width).any(|k| k != c && places.owner[0][k] == owner)
        })
        .collect();
    if places.owner.len() < 3 || !spanned.contains(&true) {
        return;
    }
    // The second row belongs to the header if it names the columns below a common head.
    let named = (0..width).filter(|&c| spanned[c]).all(|c| !places.words[1][c].is_empty());
    if !named {
        return;
    }
    for c in (0..width).filter(|&c| !spanned[c]) {
        if places.is_free(0, c) || places.is_free(1, c) {
            places.join((0, 1), (c, c));
        }
    }
}
