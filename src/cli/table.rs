//! Prints tables. Each column is as wide as its widest cell, columns are two spaces apart, and lines are never wrapped.
//!
//! Widths are counted in characters. Only lines that contain double-width characters are therefore misaligned.

use super::output::Out;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Paint {
    Plain,
    Dim,
    Red,
    Green,
    Yellow,
}

impl Paint {
    pub fn on(self, out: &Out, text: &str) -> String {
        match self {
            Paint::Plain => text.to_owned(),
            Paint::Dim => out.dim(text),
            Paint::Red => out.red(text),
            Paint::Green => out.green(text),
            Paint::Yellow => out.yellow(text),
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cell {
    text: String,
    paint: Paint,
    right: bool,
}

/// Creates a left-aligned cell.
pub fn left(text: impl Into<String>) -> Cell {
    Cell { text: text.into(), paint: Paint::Plain, right: false }
}

/// Creates a right-aligned cell, for numbers.
pub fn right(text: impl Into<String>) -> Cell {
    Cell { right: true, ..left(text) }
}

impl Cell {
    pub fn painted(self, paint: Paint) -> Self {
        Self { paint, ..self }
    }
}

/// Collects rows of cells. The first row may be a header.
#[derive(Default)]
pub struct Table {
    rows: Vec<Vec<Cell>>,
    indent: usize,
}

impl Table {
    pub fn new() -> Self {
        Self::default()
    }

    pub fn indented(indent: usize) -> Self {
        Self { rows: Vec::new(), indent }
    }

    pub fn head(mut self, titles: &[&str]) -> Self {
        self.rows.push(titles.iter().map(|t| left(*t).painted(Paint::Dim)).collect());
        self
    }

    pub fn row(&mut self, cells: impl IntoIterator<Item = Cell>) {
        self.rows.push(cells.into_iter().collect());
    }

    /// Returns one string per row, without trailing spaces.
    pub fn lines(&self, out: &Out) -> Vec<String> {
        let columns = self.rows.iter().map(Vec::len).max().unwrap_or_default();
        let width = |cell: &Cell| cell.text.chars().count();
        let widths: Vec<usize> = (0..columns)
            .map(|c| self.rows.iter().filter_map(|row| row.get(c)).map(width).max().unwrap_or_default())
            .collect();
        let numbers: Vec<bool> =
            (0..columns).map(|c| self.rows.iter().any(|row| row.get(c).is_some_and(|cell| cell.right))).collect();
        let line = |row: &Vec<Cell>| {
            let mut line = " ".repeat(self.indent);
            for (c, cell) in row.iter().enumerate() {
                let wanted = widths.get(c).copied().unwrap_or_default();
                let blanks = " ".repeat(wanted.saturating_sub(width(cell)));
                let last = row.iter().skip(c + 1).all(|cell| cell.text.is_empty());
                let text = cell.paint.on(out, &cell.text);
                // The header of a column of numbers is right-aligned too.
                match numbers.get(c) {
                    Some(true) if cell.right || cell.paint == Paint::Dim => line.push_str(&(blanks + &text)),
                    _ if last => line.push_str(&text),
                    _ => line.push_str(&(text + &blanks)),
                }
                if last {
                    break;
                }
                line.push_str("  ");
            }
            line
        };
        self.rows.iter().map(line).collect()
    }

    pub fn print(&self, out: &Out) {
        for line in self.lines(out) {
            out.line(line);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const PLAIN: Out = Out { colour: false };

    #[test]
    fn columns_are_aligned_and_lines_end_with_their_last_word() {
        let mut table = Table::indented(2).head(&["stage", "documents", "note"]);
        table.row([left("extract"), right("12"), left("slow")]);
        table.row([left("chunk"), right("1,200"), left("")]);
        let expected = ["  stage    documents  note", "  extract         12  slow", "  chunk        1,200"];
        assert_eq!(table.lines(&PLAIN), expected);
    }

    #[test]
    fn paint_does_not_count_as_width() {
        let mut table = Table::new();
        table.row([left("a").painted(Paint::Red), left("b")]);
        table.row([left("long"), left("c")]);
        assert_eq!(table.lines(&Out { colour: true }), ["\x1b[31ma\x1b[0m     b", "long  c"]);
    }
}
