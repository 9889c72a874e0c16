//! Finds the positions, neighbours and rows of the texts on a receipt.
//!
//! A piece is a line or a word. A piece is on the visual row of another piece if the piece's vertical extent includes
//! the centre of the other piece. All pieces of the receipt are searched, not only the pieces of one line. OCR often
//! reads a label and its distant amount as two separate lines, in any order. The label must still be found as the
//! left neighbour of the amount. Pieces are ordered from left to right by their centres, so that boxes that overlap a
//! little still have an order. Pieces with equal centres keep the order of the file.

use std::cmp::Ordering;

use super::receipt::{Bounds, Piece};

/// Returns `{top|middle|bottom}-{left|center|right}` for the centre of the box. A centre exactly on the border of two
/// thirds belongs to the lower or the right third.
pub(super) fn position(bounds: &Bounds) -> &'static str {
    let row = match bounds.centre_y() {
        y if y > 0.66 => ["top-left", "top-center", "top-right"],
        y if y > 0.33 => ["middle-left", "middle-center", "middle-right"],
        _ => ["bottom-left", "bottom-center", "bottom-right"],
    };
    let [left, center, right] = row;
    match bounds.centre_x() {
        x if x < 0.33 => left,
        x if x < 0.66 => center,
        _ => right,
    }
}

/// Returns the texts of the left and the right neighbour of `target` on the visual row of `target`. `at` is the index
/// of `target` in `all`.
pub(super) fn neighbours<'a>(all: &[&Piece<'a>], at: usize, target: &Piece) -> [Option<&'a str>; 2] {
    let here = (at, target.bounds.centre_x());
    let order = |a: &(usize, f64), b: &(usize, f64)| a.1.total_cmp(&b.1).then(a.0.cmp(&b.0));
    let centre = target.bounds.centre_y();
    let row = || {
        let row = all.iter().enumerate().filter(|(_, p)| p.bounds.crosses(centre));
        row.map(|(i, p)| ((i, p.bounds.centre_x()), p.text))
    };
    let left = row().filter(|(p, _)| order(p, &here).is_lt()).max_by(|a, b| order(&a.0, &b.0));
    let right = row().filter(|(p, _)| order(p, &here).is_gt()).min_by(|a, b| order(&a.0, &b.0));
    [left, right].map(|found| found.map(|(_, text)| text))
}

/// Returns the texts of the nearest visual rows above and below `target`. The texts of a row are joined from left to
/// right.
pub(super) fn rows_around(all: &[&Piece], target: &Piece) -> [Option<String>; 2] {
    let centre = target.bounds.centre_y();
    // This filter excludes the target itself, because a box always covers its own centre.
    let others = || all.iter().copied().filter(|p| !p.bounds.crosses(centre));
    let by =
        |of: fn(&Bounds) -> f64| move |a: &&Piece, b: &&Piece| -> Ordering { of(&a.bounds).total_cmp(&of(&b.bounds)) };
    let above = others().filter(|p| p.bounds.centre_y() > centre).min_by(by(Bounds::centre_y));
    let below = others().filter(|p| p.bounds.centre_y() < centre).max_by(by(Bounds::centre_y));
    [above, below].map(|nearest| {
        let middle = nearest?.bounds.centre_y();
        let mut row: Vec<_> = others().filter(|p| p.bounds.crosses(middle)).collect();
        row.sort_by(by(Bounds::centre_x));
        Some(row.iter().map(|p| p.text).collect::<Vec<_>>().join(" "))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn piece(text: &str, [x, y, width, height]: [f64; 4]) -> Piece<'_> {
        Piece { id: 0, text, bounds: Bounds { x, y, width, height }, confidence: None, noise: false }
    }

    #[test]
    fn thirds_go_by_the_centre_and_an_edge_belongs_to_what_is_read_later() {
        let table = [
            ([0.0, 0.9, 0.0, 0.0], "top-left"),
            ([0.5, 0.6601, 0.0, 0.0], "top-center"),
            ([0.9, 1.0, 0.0, 0.0], "top-right"),
            ([0.3299, 0.66, 0.0, 0.0], "middle-left"),
            ([0.33, 0.5, 0.0, 0.0], "middle-center"),
            ([0.66, 0.3301, 0.0, 0.0], "middle-right"),
            ([0.0, 0.33, 0.0, 0.0], "bottom-left"),
            ([0.6599, 0.0, 0.0, 0.0], "bottom-center"),
            ([1.0, 0.1, 0.0, 0.0], "bottom-right"),
            // The corners lie in the first third, but the centres do not.
            ([0.2, 0.3, 0.4, 0.1], "middle-center"),
            ([0.3, 0.6, 0.8, 0.2], "top-right"),
        ];
        for ([x, y, width, height], expected) in table {
            assert_eq!(position(&Bounds { x, y, width, height }), expected, "{x} {y} {width} {height}");
        }
    }

    #[test]
    fn neighbours_are_the_nearest_on_the_visual_row_whatever_line_they_are_of() {
        let all = [
            piece("label", [0.1, 0.50, 0.2, 0.04]),
            piece("above", [0.1, 0.60, 0.2, 0.04]),
            piece("amount", [0.8, 0.51, 0.1, 0.04]),
            piece("between", [0.4, 0.49, 0.1, 0.04]),
            // The height only touches the row and covers no centre.
            piece("low", [0.35, 0.45, 0.1, 0.05]),
            piece("logo", [0.0, 0.40, 0.1, 0.30]),
        ];
        let all: Vec<_> = all.iter().collect();
        let of = |at: usize| neighbours(&all, at, all[at]);
        assert_eq!(of(0), [Some("logo"), Some("between")]);
        assert_eq!(of(2), [Some("between"), None]);
        assert_eq!(of(3), [Some("label"), Some("amount")]);
        assert_eq!(of(1), [Some("logo"), None]);
        assert_eq!(of(4), [Some("logo"), None]);
    }

    #[test]
    fn two_at_one_place_are_beside_each_other_in_the_order_of_the_file() {
        let all = [piece("a", [0.5, 0.5, 0.1, 0.1]), piece("b", [0.5, 0.5, 0.1, 0.1])];
        let all: Vec<_> = all.iter().collect();
        assert_eq!(neighbours(&all, 0, all[0]), [None, Some("b")]);
        assert_eq!(neighbours(&all, 1, all[1]), [Some("a"), None]);
    }

    #[test]
    fn rows_are_read_from_left_to_right_and_the_own_row_is_neither() {
        let all = [
            piece("5.00", [0.8, 0.71, 0.1, 0.04]),
            piece("TOTAL", [0.1, 0.70, 0.2, 0.04]),
            piece("far above", [0.1, 0.90, 0.2, 0.04]),
            piece("PAID", [0.1, 0.60, 0.2, 0.04]),
            piece("10.00", [0.8, 0.61, 0.1, 0.04]),
            piece("THANKS", [0.4, 0.20, 0.2, 0.04]),
        ];
        let all: Vec<_> = all.iter().collect();
        let of = |at: usize| rows_around(&all, all[at]).map(Option::unwrap_or_default);
        assert_eq!(of(3), ["TOTAL 5.00", "THANKS"]);
        assert_eq!(of(4), ["TOTAL 5.00", "THANKS"]);
        assert_eq!(of(0), ["far above", "PAID 10.00"]);
        assert_eq!(of(2), ["", "TOTAL 5.00"]);
        assert_eq!(rows_around(&all, all[5])[1], None);
    }
}
