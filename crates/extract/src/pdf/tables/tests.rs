use proptest::prelude::*;

use super::super::fonts::Fonts;
use super::super::glyphs::PageGlyphs;
use super::super::words::{segments, tests::draw};
use super::*;

/// Returns the rows of a table as text. A cell that spans others is followed by `<columns,rows>`.
fn rows(table: &Table) -> Vec<Vec<String>> {
    let text = |c: &Cell| {
        let words: Vec<&str> = c.words.iter().map(|w| w.text.as_str()).collect();
        let span = if (c.columns, c.rows) == (1, 1) { String::new() } else { format!("<{},{}>", c.columns, c.rows) };
        words.join(" ") + &span
    };
    table.cells.chunk_by(|a, b| a.row == b.row).map(|row| row.iter().map(text).collect()).collect()
}

fn grid(xs: &[f32], ys: &[f32]) -> Vec<Rule> {
    let (x0, x1, y0, y1) = (xs[0], xs[xs.len() - 1], ys[0], ys[ys.len() - 1]);
    let mut rules: Vec<Rule> = xs.iter().map(|&x| Rule { x0: x, y0, x1: x, y1 }).collect();
    rules.extend(ys.iter().map(|&y| Rule { x0, y0: y, x1, y1: y }));
    rules
}

fn line(x0: f32, x1: f32, y: f32) -> Rule {
    Rule { x0, y0: y, x1, y1: y }
}

/// Draws texts of ten points at `(x, y)` and returns their segments.
fn drawn(texts: &[(f32, f32, &str)]) -> Vec<Segment> {
    let mut page = PageGlyphs::default();
    texts.iter().for_each(|&(x, y, text)| draw(&mut page, x, y, 10.0, text));
    segments(&page, &Fonts::default(), 0)
}

/// Draws rows of texts at the given columns, `step` points apart.
fn table(xs: &[f32], top: f32, step: f32, rows: &[&[&str]]) -> Vec<(f32, f32, String)> {
    let row = |(i, row): (usize, &&[&str])| {
        let y = top + step * i as f32;
        xs.iter().zip(row.iter()).filter(|(_, t)| !t.is_empty()).map(move |(&x, t)| (x, y, (*t).to_owned())).collect()
    };
    rows.iter().enumerate().flat_map(|r| -> Vec<_> { row(r) }).collect()
}

fn found(texts: &[(f32, f32, String)], rules: &[Rule], fills: &[Rule]) -> (Vec<Table>, Vec<Segment>) {
    let texts: Vec<(f32, f32, &str)> = texts.iter().map(|(x, y, t)| (*x, *y, t.as_str())).collect();
    let mut left = drawn(&texts);
    let tables = find(&mut left, rules, fills);
    (tables, left)
}

#[test]
fn text_in_a_grid_is_a_table_and_the_rest_stays() {
    let mut texts = table(&[55.0, 105.0], 62.0, 20.0, &[&["name", "value"], &["a b", "1"], &["c", "2"]]);
    texts.insert(0, (50.0, 40.0, "before".into()));
    let (tables, left) = found(&texts, &grid(&[50.0, 100.0, 150.0], &[50.0, 70.0, 90.0, 110.0]), &[]);
    assert_eq!(tables.len(), 1);
    assert_eq!(rows(&tables[0]), [["name", "value"], ["a b", "1"], ["c", "2"]]);
    assert_eq!(left.len(), 1);
    assert_eq!(left[0].text(), "before");
}

#[test]
fn a_missing_line_between_cells_joins_them() {
    let xs = [55.0, 155.0, 255.0];
    let texts = table(&xs, 62.0, 20.0, &[&["kind", "sizes", ""], &["", "small", "large"], &["nut", "1", "2"]]);
    let mut rules = grid(&[50.0, 150.0, 350.0], &[50.0, 90.0, 110.0]);
    // The head `sizes` has a line below it and none within; `kind` reaches over both rows.
    rules.push(line(150.0, 350.0, 70.0));
    rules.push(Rule { x0: 250.0, y0: 70.0, x1: 250.0, y1: 110.0 });
    let (tables, _) = found(&texts, &rules, &[]);
    assert_eq!(tables.len(), 1);
    assert_eq!(rows(&tables[0]), [vec!["kind<1,2>", "sizes<2,1>"], vec!["small", "large"], vec!["nut", "1", "2"]]);
}

#[test]
fn lines_above_and_below_make_a_table_of_two_columns() {
    let texts = table(
        &[50.0, 200.0],
        62.0,
        14.0,
        &[&["Mineral", "Exchange capacity"], &["kaolinite", "10"], &["illite", "30"], &["humus", "200"]],
    );
    let rules = [line(48.0, 300.0, 50.0), line(48.0, 300.0, 66.0), line(48.0, 300.0, 108.0)];
    let (tables, left) = found(&texts, &rules, &[]);
    assert_eq!(tables.len(), 1);
    assert_eq!(
        rows(&tables[0]),
        [["Mineral", "Exchange capacity"], ["kaolinite", "10"], ["illite", "30"], ["humus", "200"]]
    );
    assert!(left.is_empty());
    let words = table(&[50.0, 200.0], 62.0, 14.0, &[&["one", "word"][..]; 5]);
    assert_eq!(found(&words, &[], &[]).0, [], "two columns of words need lines");
}

#[test]
fn a_head_above_the_first_line_and_a_row_below_the_last_belong_to_the_table() {
    let cells: [&[&str]; 4] = [
        &["Item", "Unit", "Price"],
        &["ledgers", "page", "0.19"],
        &["letters", "sheet", "0.14"],
        &["return", "trip", "65"],
    ];
    let texts = table(&[50.0, 150.0, 250.0], 62.0, 14.0, &cells);
    let (tables, left) =
        found(&texts, &[line(48.0, 300.0, 66.0), line(48.0, 300.0, 80.0), line(48.0, 300.0, 94.0)], &[]);
    assert_eq!(tables.len(), 1);
    assert_eq!(rows(&tables[0]), cells);
    assert!(left.is_empty());
}

#[test]
fn shaded_rows_make_a_table_with_the_rows_between_them() {
    let cells: [&[&str]; 4] = [&["Channel", "Medium"], &["Direct", "Mail"], &["Events", "Booth"], &["Goods", "Pens"]];
    let texts = table(&[50.0, 150.0], 62.0, 14.0, &cells);
    let shade = |y: f32| Rule { x0: 48.0, y0: y - 10.0, x1: 300.0, y1: y + 4.0 };
    let (tables, left) = found(&texts, &[], &[shade(62.0), shade(90.0)]);
    assert_eq!(tables.len(), 1);
    assert_eq!(rows(&tables[0]), cells);
    assert!(left.is_empty());
}

#[test]
fn a_head_over_several_columns_spans_them() {
    let xs = [50.0, 150.0, 220.0, 290.0, 360.0];
    let mut texts = table(
        &xs,
        90.0,
        14.0,
        &[&["", "mean", "max", "mean", "max"], &["north", "1.5", "2.5", "3.5", "4.5"], &["south", "5", "6", "7", "8"]],
    );
    texts.push((160.0, 70.0, "first year".into()));
    texts.push((300.0, 70.0, "second year".into()));
    texts.push((50.0, 80.0, "Place".into()));
    let rules = [
        line(48.0, 400.0, 58.0),
        line(148.0, 245.0, 76.0),
        line(288.0, 385.0, 76.0),
        line(48.0, 400.0, 95.0),
        line(48.0, 400.0, 125.0),
    ];
    let (tables, _) = found(&texts, &rules, &[]);
    assert_eq!(tables.len(), 1);
    assert_eq!(
        rows(&tables[0])[..2],
        [vec!["Place<1,2>", "first year<2,1>", "second year<2,1>"], vec!["mean", "max", "mean", "max"]]
    );
}

#[test]
fn the_lines_of_a_cell_stay_in_their_row() {
    let texts = [
        (50.0, 62.0, "Term"),
        (200.0, 62.0, "Laws"),
        (50.0, 84.0, "3 months to less"),
        (50.0, 96.0, "than 1 year"),
        (200.0, 84.0, "14"),
        (50.0, 118.0, "1 year to less"),
        (50.0, 130.0, "than 3 years"),
        (200.0, 118.0, "16"),
    ];
    let texts = texts.map(|(x, y, t)| (x, y, t.to_owned()));
    let rules = [line(48.0, 300.0, 50.0), line(48.0, 300.0, 68.0), line(48.0, 300.0, 138.0)];
    let (tables, _) = found(&texts, &rules, &[]);
    assert_eq!(
        rows(&tables[0]),
        [["Term", "Laws"], ["3 months to less than 1 year", "14"], ["1 year to less than 3 years", "16"]]
    );
}

#[test]
fn lines_between_all_rows_keep_two_numbers_in_a_cell() {
    let mut texts =
        table(&[55.0, 205.0], 62.0, 28.0, &[&["layers", "score"], &["six", ".96"], &["four", ".93"], &["two", ".92"]]);
    texts.extend(table(&[205.0], 102.0, 28.0, &[&[".97"], &[".95"], &[".94"]]));
    let (tables, _) = found(&texts, &grid(&[50.0, 200.0, 300.0], &[50.0, 78.0, 106.0, 134.0, 162.0]), &[]);
    assert_eq!(rows(&tables[0]), [["layers", "score"], ["six", ".96 .97"], ["four", ".93 .95"], ["two", ".92 .94"]]);
}

#[test]
fn numbers_that_stand_close_are_parted_by_the_rows_around_them() {
    let xs = [50.0, 200.0, 232.0, 264.0];
    let short: [&[&str]; 4] = [
        &["north", "1.0", "2.0", "3.0"],
        &["south", "4.0", "5.0", "6.0"],
        &["west", "7.0", "8.0", "9.0"],
        &["east", "1", "2", "3"],
    ];
    let mut texts = table(&xs, 62.0, 14.0, &short);
    texts.extend(table(&[50.0, 197.0, 229.0, 261.0], 118.0, 14.0, &[&["other", "49,97", "51,95", "52,87"]]));
    let (tables, _) = found(&texts, &[], &[]);
    assert_eq!(rows(&tables[0])[4], ["other", "49,97", "51,95", "52,87"]);
}

#[test]
fn aligned_short_cells_are_a_table_and_columns_of_prose_are_not() {
    let cells: [&[&str]; 3] = [&["item", "n", "cost"], &["nuts", "1", "2.00"], &["bolts", "22", "3.50"]];
    let (tables, left) = found(&table(&[50.0, 150.0, 250.0], 50.0, 14.0, &cells), &[], &[]);
    assert_eq!(rows(&tables[0]), cells);
    assert!(left.is_empty());

    let prose: &[&str] = &["a line of prose in its column"; 3];
    let (tables, left) = found(&table(&[50.0, 250.0, 450.0], 50.0, 14.0, &[prose; 5]), &[], &[]);
    assert_eq!(tables, []);
    assert_eq!(left.len(), 15);
}

#[test]
fn a_list_is_no_table() {
    let items: [&[&str]; 4] = [&["1.", "first"], &["2.", "second"], &["3.", "third"], &["4.", "fourth"]];
    assert_eq!(found(&table(&[50.0, 80.0], 50.0, 14.0, &items), &[], &[]).0, []);
}

#[test]
fn a_listing_is_no_table() {
    let code: [&[&str]; 5] =
        [&["static int", "= 1;"], &["static long", "= 22;"], &["int", "= 3;"], &["char", "= 4;"], &["int", "= 5;"]];
    assert_eq!(found(&table(&[50.0, 180.0], 50.0, 14.0, &code), &[], &[]).0, []);
}

#[test]
fn a_frame_around_text_is_no_table() {
    let (tables, left) = found(&[(55.0, 62.0, "boxed text".into())], &grid(&[50.0, 200.0], &[50.0, 80.0]), &[]);
    assert_eq!(tables, []);
    assert_eq!(left.len(), 1);
}

#[test]
fn lines_of_a_drawing_do_not_make_cells_of_the_text_that_they_cross() {
    let prose: &[&str] = &["text that runs on below the drawing and goes over its lines"];
    let texts = table(&[60.0], 62.0, 12.0, &[prose; 6]);
    let (tables, left) = found(&texts, &grid(&[50.0, 150.0, 250.0, 400.0], &[50.0, 80.0, 130.0]), &[]);
    assert_eq!(tables, []);
    assert_eq!(left.iter().flat_map(|s| &s.words).count(), 6 * 12);
}

#[test]
fn columns_of_text_beside_a_table_do_not_join_it() {
    let lines: Vec<(f32, f32, String)> = (0..12)
        .map(|i| (50.0, 50.0 + 12.0 * i as f32, format!("the left column has the line number {i} of it")))
        .collect();
    let mut texts = lines;
    let cells: [&[&str]; 4] =
        [&["item", "n", "cost"], &["nuts", "1", "2.00"], &["bolts", "22", "3.50"], &["pins", "4", "5.5"]];
    texts.extend(table(&[320.0, 400.0, 450.0], 71.0, 15.0, &cells));
    let (tables, left) = found(&texts, &[], &[]);
    assert_eq!(tables.len(), 1);
    assert_eq!(rows(&tables[0]), cells);
    assert_eq!(left.len(), 12);
}

proptest! {
    /// No word is lost or doubled, and the cells of each table cover its places once.
    #[test]
    fn every_word_stays_and_every_place_has_one_cell(
        texts in prop::collection::vec((0u8..12, 0u8..16, "[a-z0-9]{1,8}( [a-z0-9]{1,6}){0,3}"), 0..60),
        horizontal in prop::collection::vec((0u8..10, 1u8..10, 0u8..17), 0..10),
        vertical in prop::collection::vec((0u8..12, 0u8..15, 1u8..16), 0..8),
        fills in prop::collection::vec((0u8..10, 0u8..15, 1u8..10), 0..6),
    ) {
        let texts: Vec<(f32, f32, String)> =
            texts.into_iter().map(|(x, y, t)| (40.0 * f32::from(x), 20.0 + 13.0 * f32::from(y), t)).collect();
        let rule = |x0: u8, y0: u8, x1: u8, y1: u8| Rule {
            x0: 40.0 * f32::from(x0) - 3.0,
            y0: 10.0 + 13.0 * f32::from(y0),
            x1: 40.0 * f32::from(x1) - 3.0,
            y1: 10.0 + 13.0 * f32::from(y1),
        };
        let mut rules: Vec<Rule> = horizontal.into_iter().map(|(x, w, y)| rule(x, y, x + w, y)).collect();
        rules.extend(vertical.into_iter().map(|(x, y, h)| rule(x, y, x, y + h)));
        let fills: Vec<Rule> = fills.into_iter().map(|(x, y, w)| rule(x, y, x + w, y + 1)).collect();
        let whole: Vec<(f32, f32, &str)> = texts.iter().map(|(x, y, t)| (*x, *y, t.as_str())).collect();
        let sorted = |mut words: Vec<String>| {
            words.sort();
            words
        };
        let before = drawn(&whole).into_iter().flat_map(|s| s.words).map(|w| w.text).collect();
        let (tables, left) = found(&texts, &rules, &fills);
        let in_cells = tables.iter().flat_map(|t| &t.cells).flat_map(|c| &c.words);
        let after = in_cells.chain(left.iter().flat_map(|s| &s.words)).map(|w| w.text.clone()).collect();
        prop_assert_eq!(sorted(before), sorted(after));
        for table in &tables {
            let mut places = vec![0; table.rows * table.columns];
            for cell in &table.cells {
                for r in cell.row..cell.row + cell.rows {
                    for c in cell.column..cell.column + cell.columns {
                        places[r * table.columns + c] += 1;
                    }
                }
            }
            prop_assert!(places.iter().all(|&n| n == 1), "{table:?}");
        }
    }
}
