//! Builds the cells of a table from the text lines of a region and the ruled lines in it.

use super::super::words::{Segment, join};
use super::borders::{Borders, Region};
use super::cells::cells;
use super::columns::{columns, place};
use super::lines::lines;
use super::rows::rows;
use super::{MAX_CELLS, Table};

/// Builds a table from a region, and returns it with the indices of the segments in it. Returns `None` if there are fewer
/// than two rows or columns.
pub(super) fn build(segments: &[Segment], region: &Region<'_>) -> Option<(Table, Vec<usize>)> {
    let borders = Borders::of(region);
    let crossing = region.members.iter().filter(|&&i| borders.cuts(&segments[i].bbox)).count();
    if crossing * 8 > region.members.len() || (region.closed && !borders.is_grid(&region.bbox)) {
        return None;
    }
    let text = borders.inside(lines(segments, &region.members));
    let columns = columns(segments, &text, &borders.edges);
    if columns.len() < 2 {
        return None;
    }
    let placed: Vec<Vec<_>> = text.iter().map(|line| place(segments, line, &columns)).collect();
    let rows = rows(segments, &text, &placed, columns.len(), &borders);
    if rows.len() < 2 || rows.len() * columns.len() > MAX_CELLS {
        return None;
    }
    let cells = cells(segments, &placed, &rows, &columns, &borders);
    let bbox = text.iter().map(|l| l.bbox).reduce(join)?;
    let size = text.iter().map(|l| l.size).fold(0.0, f32::max);
    let used = text.into_iter().flat_map(|line| line.segments).collect();
    Some((Table { rows: rows.len(), columns: columns.len(), cells, bbox, size }, used))
}
