//! Finds the rows of a table. Ruled lines cut rows; between two ruled lines, the distances of the lines of text tell where
//! a row begins.

use super::super::words::{Segment, Word};
use super::borders::{Borders, NEAR};
use super::columns::Placed;
use super::lines::{Line, is_number_text};

/// Describes one row: its lines of text and its range of the y axis, as ruled lines or text bound it.
pub(super) struct Row {
    pub lines: Vec<usize>,
    pub y0: f32,
    pub y1: f32,
}

/// Returns the rows of a table from top to bottom. `placed` has the texts of each line.
pub(super) fn rows(
    segments: &[Segment],
    text: &[Line],
    placed: &[Vec<Placed>],
    columns: usize,
    borders: &Borders<'_>,
) -> Vec<Row> {
    let mut bands: Vec<Vec<usize>> = Vec::new();
    let mut band_of = None;
    for (i, line) in text.iter().enumerate() {
        let middle = (line.bbox[1] + line.bbox[3]) / 2.0;
        let band = borders.ys.partition_point(|&y| y < middle);
        if band_of != Some(band) {
            bands.push(Vec::new());
            band_of = Some(band);
        }
        if let Some(last) = bands.last_mut() {
            last.push(i);
        }
    }
    // Lines between all rows are meant as such, even if a cell then lists several numbers.
    let lined = bands.len() > 3 && bands.iter().skip(1).all(|band| band.len() <= 3);
    let separated = bands.len() > 3 || (bands.len() == 3 && borders.edges.len() > 2);
    let mut rows: Vec<Vec<usize>> = Vec::new();
    let count = bands.len();
    for (k, band) in bands.into_iter().enumerate() {
        if k == 0 && count > 1 && !lists_values(segments, placed, &band, columns) {
            rows.extend(header_rows(text, placed, band, borders));
        } else if lined || (separated && !lists_values(segments, placed, &band, columns)) {
            rows.push(band);
        } else {
            rows.extend(text_rows(segments, text, placed, &band, columns));
        }
    }
    let row = |lines: Vec<usize>| {
        let y0 = lines.iter().map(|&l| text[l].bbox[1]).fold(f32::MAX, f32::min);
        let y1 = lines.iter().map(|&l| text[l].bbox[3]).fold(f32::MIN, f32::max);
        Row { lines, y0, y1 }
    };
    rows.into_iter().map(row).collect()
}

/// Cuts the lines above the first ruled line of a table into rows: a row of heads of several columns, and a row of the
/// names of single columns below it.
fn header_rows(text: &[Line], placed: &[Vec<Placed>], band: Vec<usize>, borders: &Borders<'_>) -> Vec<Vec<usize>> {
    let first = band.first().map_or(0.0, |&l| text[l].bbox[3]);
    let last = band.last().map_or(0.0, |&l| text[l].bbox[1]);
    // A short ruled line underlines a head of several columns.
    let short = borders.rules.iter().filter(|r| r.horizontal()).map(|r| r.at());
    let cut = short.filter(|y| (first - NEAR..last + NEAR).contains(y)).reduce(f32::max);
    let at = match cut {
        Some(y) => band.iter().position(|&l| (text[l].bbox[1] + text[l].bbox[3]) / 2.0 > y),
        None => {
            let spans = |&l: &usize| placed[l].iter().any(|p| p.last > p.first);
            let names = |l: usize| placed[l].len() >= 2 && placed[l].iter().all(|p| p.first == p.last);
            let heads = band.iter().rposition(spans).map(|k| k + 1);
            heads.filter(|&k| band.get(k).is_some_and(|&l| names(l)))
        }
    };
    match at.filter(|&k| k > 0) {
        Some(k) => vec![band[..k].to_vec(), band[k..].to_vec()],
        None => vec![band],
    }
}

/// Returns whether the lines between two ruled lines are rows of their own: some column has a number in each of several
/// lines.
fn lists_values(segments: &[Segment], placed: &[Vec<Placed>], band: &[usize], columns: usize) -> bool {
    (0..columns).any(|c| {
        let numbers = band.iter().flat_map(|&l| &placed[l]).filter(|p| p.first == c && p.last == c);
        numbers.filter(|p| is_number_text(p.words(segments))).count() >= 2
    })
}

/// Cuts lines of text into rows by their distances and by what they fill.
fn text_rows(
    segments: &[Segment],
    text: &[Line],
    placed: &[Vec<Placed>],
    band: &[usize],
    columns: usize,
) -> Vec<Vec<usize>> {
    // Lines that overlap are one row: the cells of a row may be centred on each other.
    let mut groups: Vec<Vec<usize>> = Vec::new();
    for &line in band {
        let over = groups.last().and_then(|g| g.last()).is_some_and(|&last| {
            let overlap = text[last].bbox[3] - text[line].bbox[1];
            overlap > 0.25 * text[line].size && !conflict(&placed[last], &placed[line])
        });
        match groups.last_mut().filter(|_| over) {
            Some(group) => group.push(line),
            None => groups.push(vec![line]),
        }
    }
    let gap = |w: &[Vec<usize>]| {
        let bottom = w[0].iter().map(|&l| text[l].bbox[3]).fold(f32::MIN, f32::max);
        w[1].iter().map(|&l| text[l].bbox[1]).fold(f32::MAX, f32::min) - bottom
    };
    let gaps: Vec<f32> = groups.windows(2).map(gap).collect();
    let size = groups.first().and_then(|g| g.first()).map_or(0.0, |&l| text[l].size);
    let lists = |row: &[usize]| lists_values(segments, placed, row, columns);
    if let Some(rows) = rows_by_gaps(&groups, &gaps, size).filter(|rows| !rows.iter().any(|row| lists(row))) {
        return rows;
    }
    let filled = |g: &[usize]| -> Vec<bool> {
        let mut filled = vec![false; columns];
        for p in g.iter().flat_map(|&l| &placed[l]) {
            filled[p.first..=p.last].iter_mut().for_each(|f| *f = true);
        }
        filled
    };
    let mut rows: Vec<Vec<usize>> = Vec::new();
    let mut open: Vec<bool> = Vec::new();
    for (i, group) in groups.iter().enumerate() {
        let here = filled(group);
        let size = text[group[0]].size;
        let before = i.checked_sub(1).and_then(|g| gaps.get(g)).copied().unwrap_or(f32::MAX);
        let after = gaps.get(i).copied().unwrap_or(f32::MAX);
        let within = here.iter().zip(&open).all(|(h, o)| *o || !*h);
        let numbers = group.iter().flat_map(|&l| &placed[l]).any(|p| is_number_text(p.words(segments)) && p.first > 0);
        let partial = here.iter().filter(|h| **h).count() < open.iter().filter(|o| **o).count();
        let lowercase = group.iter().flat_map(|&l| &placed[l]).all(|p| continues(p.words(segments)));
        let belongs = before < after - 0.08 * size || (before < after + 0.08 * size && (lowercase || !here[0]));
        let continued = !rows.is_empty() && within && partial && !numbers && before < 0.6 * size && belongs;
        match rows.last_mut().filter(|_| continued) {
            Some(row) => row.extend(group),
            None => {
                rows.push(group.clone());
                open = here;
            }
        }
    }
    rows
}

/// Returns whether a text looks like the continuation of the line above.
fn continues(words: &[Word]) -> bool {
    let first = words.first().and_then(|w| w.text.chars().next());
    first.is_some_and(|c| c.is_lowercase() || c == '(' || c == '/')
}

/// Returns whether two lines have texts above each other in one column.
fn conflict(a: &[Placed], b: &[Placed]) -> bool {
    a.iter().any(|p| b.iter().any(|q| p.first <= q.last && q.first <= p.last))
}

/// Cuts groups of lines into rows at wide gaps. Returns `None` if there are no wide and narrow gaps. `size` is the font
/// size.
fn rows_by_gaps(groups: &[Vec<usize>], gaps: &[f32], size: f32) -> Option<Vec<Vec<usize>>> {
    let mut sorted = gaps.to_vec();
    sorted.sort_by(f32::total_cmp);
    let (at, jump) = (1..sorted.len()).map(|i| (i, sorted[i] - sorted[i - 1])).max_by(|a, b| a.1.total_cmp(&b.1))?;
    if jump < 0.2 * size || sorted[at - 1] > 0.6 * size {
        return None;
    }
    let limit = (sorted[at - 1] + sorted[at]) / 2.0;
    let mut rows: Vec<Vec<usize>> = vec![groups.first()?.clone()];
    for (group, gap) in groups.iter().skip(1).zip(gaps) {
        match rows.last_mut().filter(|_| *gap < limit) {
            Some(row) => row.extend(group),
            None => rows.push(group.clone()),
        }
    }
    (rows.len() >= 2).then_some(rows)
}
