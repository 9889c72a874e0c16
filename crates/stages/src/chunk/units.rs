//! Divides blocks into units: the smallest parts that packing moves as a whole.
//!
//! A table, code, a figure or a heading is one unit if it fits the limits. Prose is one unit only if it is short, and
//! else is divided into sentences. Tables and code that exceed the limits are divided into rows and lines. Units that
//! still exceed the limits are cut into even parts: at clauses, else at words, else at grapheme clusters. No text
//! longer than the largest chunk is ever tokenized at once. A token counter that is slow on long input therefore does
//! no harm, and all work is linear in the text.

use unicode_segmentation::{GraphemeCursor, UnicodeSegmentation};

use docweir_core::cancel::Cancel;
use docweir_core::error::StageError;
use docweir_core::model::BlockKind;

use super::ChunkOptions;
use super::context::{PathId, Paths};
use super::sections::Piece;
use super::sentences::sentences;
use super::text::Text;

/// Classifies the end of a unit by how good a place it is to end a chunk. The variants are in order from the best
/// place to the worst.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Break {
    /// The next unit is a heading.
    Section,
    Paragraph,
    Item,
    /// The end of a table row or of a line of code.
    Line,
    Sentence,
    /// A position inside a sentence, or in a paragraph that continues on the next page.
    Inside,
    /// The end of a heading or caption. This is the worst place to end a chunk, because a heading or caption belongs
    /// to the unit after it.
    Glued,
}

#[derive(Clone, Copy, Debug)]
pub struct Unit {
    /// Byte offset in the extracted text at which the unit starts.
    pub start: usize,
    pub end: usize,
    /// Number of code points before `start` in the extracted text.
    pub first_char: usize,
    /// Number of code points before `end` in the extracted text.
    pub last_char: usize,
    pub tokens: usize,
    pub kind: BlockKind,
    /// Heading path of a chunk that starts with this unit.
    pub path: PathId,
    pub ending: Break,
}

pub struct Units<'a, 'b> {
    pub text: &'a Text,
    pub paths: &'a mut Paths<'b>,
    pub options: &'a ChunkOptions,
    /// Number of tables that were split at rows.
    pub split_tables: usize,
}

/// Limits the characters and tokens of a unit.
#[derive(Clone, Copy)]
struct Limits {
    chars: usize,
    tokens: usize,
}

impl Units<'_, '_> {
    /// Divides a run of pieces into units.
    pub fn of_run(&mut self, run: &[Piece], cancel: &Cancel) -> Result<Vec<Unit>, StageError> {
        let mut units: Vec<Unit> = Vec::new();
        // Size of the headings and captions that are glued to the next piece.
        let mut lead = Limits { chars: 0, tokens: 0 };
        for (i, piece) in run.iter().enumerate() {
            cancel.check()?;
            let at = units.len();
            self.of_piece(piece, lead, &mut units);
            if let Some(last) = units.last_mut() {
                last.ending = ending(piece, run.get(i + 1), self.text);
                if last.ending == Break::Glued {
                    let own = units.get(at..).unwrap_or_default();
                    lead.chars += self.text.chars_in(piece.start, piece.end) + 2;
                    lead.tokens += own.iter().map(|u| u.tokens).sum::<usize>();
                } else {
                    lead = Limits { chars: 0, tokens: 0 };
                }
            }
        }
        Ok(merged(units, self.options.target_chars / 24))
    }

    fn of_piece(&mut self, piece: &Piece, lead: Limits, out: &mut Vec<Unit>) {
        let room = self.paths.room(piece.path);
        let keep = |all: usize, lead: usize| if lead < all / 2 { all - lead } else { all };
        let o = self.options;
        let limits = Limits { chars: keep(o.max_chars, lead.chars), tokens: keep(room, lead.tokens) };
        let chars = self.text.chars_in(piece.start, piece.end);
        let whole = match piece.kind {
            BlockKind::Table => Limits { chars: o.table_max_chars.min(limits.chars), ..limits },
            BlockKind::Code => Limits { chars: o.target_chars.min(limits.chars), ..limits },
            BlockKind::Figure | BlockKind::Heading { .. } => limits,
            _ => Limits {
                chars: (o.target_chars / 3).min(limits.chars),
                tokens: (self.paths.best(piece.path) / 3).min(limits.tokens),
            },
        };
        if chars <= whole.chars {
            let unit = self.unit(piece, piece.path, piece.start, piece.end, Break::Paragraph);
            if unit.tokens <= whole.tokens {
                out.push(unit);
                return;
            }
        }
        match piece.kind {
            BlockKind::Table | BlockKind::Code => self.lines(piece, limits, out),
            BlockKind::Heading { .. } | BlockKind::Figure => {
                self.parts(piece, piece.path, (piece.start, piece.end), limits, Break::Inside, out);
            }
            _ => {
                for sentence in sentences(self.text.slice(piece.start, piece.end)) {
                    let range = (piece.start + sentence.range.start, piece.start + sentence.range.end);
                    let ending = if sentence.ends_paragraph { Break::Paragraph } else { Break::Sentence };
                    self.parts(piece, piece.path, range, limits, ending, out);
                }
            }
        }
    }

    /// Divides a table into rows, or code into lines. For all rows after the first, the table's header row is appended
    /// to the heading path.
    fn lines(&mut self, piece: &Piece, limits: Limits, out: &mut Vec<Unit>) {
        let table = piece.kind == BlockKind::Table;
        self.split_tables += usize::from(table);
        let mut path = piece.path;
        let mut limits = limits;
        let mut start = piece.start;
        let slice = self.text.slice(piece.start, piece.end);
        let mut blank = false;
        for (n, line) in slice.split_inclusive('\n').enumerate() {
            let end = start + line.len();
            if let Some(range) = self.text.trimmed(start, end) {
                // Code keeps the indentation of its first line.
                let indent = self.text.slice(start, range.0);
                let range =
                    if table || indent.contains(|c: char| !c.is_whitespace()) { range } else { (start, range.1) };
                if blank && let Some(last) = out.last_mut() {
                    last.ending = Break::Item;
                }
                self.parts(piece, path, range, limits, Break::Line, out);
                if table && n == 0 {
                    path = self.under_header(piece.path, line);
                    limits.tokens = limits.tokens.min(self.paths.room(path));
                }
                blank = false;
            } else {
                blank = true;
            }
            start = end;
        }
    }

    /// Returns the path with the table's header row appended, so that later rows keep their column names.
    fn under_header(&mut self, path: PathId, row: &str) -> PathId {
        let cells: Vec<&str> = row.split('|').map(str::trim).filter(|c| !c.is_empty()).collect();
        let header = cells.join(" | ");
        if !header.contains(char::is_alphabetic) {
            return path;
        }
        let mut longer = self.paths.path(path).to_vec();
        longer.push(super::context::clipped(&header, self.options.heading_max_chars));
        self.paths.intern(longer)
    }

    /// Adds the range as one unit, or as several units of similar size if it exceeds the limits.
    fn parts(
        &mut self,
        piece: &Piece,
        path: PathId,
        (start, end): (usize, usize),
        limits: Limits,
        ending: Break,
        out: &mut Vec<Unit>,
    ) {
        let chars = self.text.chars_in(start, end);
        let n = if chars <= limits.chars {
            let unit = self.unit(piece, path, start, end, ending);
            if unit.tokens <= limits.tokens {
                out.push(unit);
                return;
            }
            (unit.tokens * 5).div_ceil(limits.tokens * 4)
        } else {
            // The range exceeds the hard limit: aim at the target size of chunks.
            (chars * 5).div_ceil(self.options.target_chars.min(limits.chars) * 4)
        };
        let ranges = evenly(self.text, start, end, n.max(2));
        if ranges.len() < 2 {
            // A single character can't be divided.
            out.extend(ranges.first().map(|&(s, e)| self.unit(piece, path, s, e, ending)));
            return;
        }
        let last = ranges.len() - 1;
        for (i, range) in ranges.into_iter().enumerate() {
            self.parts(piece, path, range, limits, if i == last { ending } else { Break::Inside }, out);
        }
    }

    fn unit(&self, piece: &Piece, path: PathId, start: usize, end: usize, ending: Break) -> Unit {
        let tokens = self.paths.tokens_of(self.text.slice(start, end));
        let (first_char, last_char) = (self.text.chars_before(start), self.text.chars_before(end));
        Unit { start, end, first_char, last_char, tokens, kind: piece.kind, path, ending }
    }

    /// Divides a unit into two halves. This is needed if an exact count shows that the unit has too many tokens. A unit
    /// that can't be divided is returned alone.
    pub fn halves(&self, unit: &Unit) -> Vec<Unit> {
        let ranges = evenly(self.text, unit.start, unit.end, 2);
        let last = ranges.len().saturating_sub(1);
        let part = |(i, (start, end)): (usize, (usize, usize))| Unit {
            start,
            end,
            first_char: self.text.chars_before(start),
            last_char: self.text.chars_before(end),
            tokens: self.paths.tokens_of(self.text.slice(start, end)),
            ending: if i == last { unit.ending } else { Break::Inside },
            ..*unit
        };
        ranges.into_iter().enumerate().map(part).collect()
    }
}

/// Returns the kind of break after a piece, given the next piece.
fn ending(piece: &Piece, next: Option<&Piece>, text: &Text) -> Break {
    let Some(next) = next else {
        return Break::Section;
    };
    if piece.glued || matches!(piece.kind, BlockKind::Heading { .. }) {
        return Break::Glued;
    }
    match (piece.kind, next.kind) {
        (_, BlockKind::Heading { .. }) => Break::Section,
        (BlockKind::ListItem, BlockKind::ListItem) => Break::Item,
        (BlockKind::Paragraph, BlockKind::Paragraph) if piece.page != next.page => {
            let ends =
                text.slice(piece.start, piece.end).ends_with(|c: char| c.is_lowercase() || matches!(c, ',' | '-'));
            let goes_on = text.slice(next.start, next.end).starts_with(char::is_lowercase);
            if ends && goes_on { Break::Inside } else { Break::Paragraph }
        }
        _ => Break::Paragraph,
    }
}

/// Joins tiny neighbouring units of the same kind, so that the number of units in a chunk stays bounded.
fn merged(units: Vec<Unit>, tiny: usize) -> Vec<Unit> {
    let mut out: Vec<Unit> = Vec::with_capacity(units.len());
    for unit in units {
        match out.last_mut() {
            Some(last)
                if last.kind == unit.kind
                    && last.path == unit.path
                    && !matches!(last.ending, Break::Section | Break::Glued)
                    && last.last_char - last.first_char < tiny
                    && unit.last_char - last.first_char < 2 * tiny =>
            {
                *last = Unit {
                    end: unit.end,
                    last_char: unit.last_char,
                    tokens: last.tokens + unit.tokens,
                    ending: unit.ending,
                    ..*last
                };
            }
            _ => out.push(unit),
        }
    }
    out
}

/// Divides a range into about `n` trimmed parts of similar length. Each cut is at the best position near the ideal one.
fn evenly(text: &Text, start: usize, end: usize, n: usize) -> Vec<(usize, usize)> {
    let first = text.chars_before(start);
    let chars = text.chars_before(end) - first;
    let reach = chars / n / 8;
    let mut parts = Vec::with_capacity(n);
    let mut from = start;
    for i in 1..n {
        let ideal = first + chars * i / n;
        let near = (text.byte_of(ideal - reach), text.byte_of(ideal), text.byte_of(ideal + reach + 1).min(end));
        let cut = cut_near(text, start, end, near);
        if cut > from && cut < end {
            parts.extend(text.trimmed(from, cut));
            from = cut;
        }
    }
    parts.extend(text.trimmed(from, end));
    parts
}

/// Returns the best position to cut between `low` and `high`: after a clause, else at white space, else between words,
/// else between grapheme clusters. Among equally good positions, the one nearest to `ideal` is returned.
fn cut_near(text: &Text, start: usize, end: usize, (low, ideal, high): (usize, usize, usize)) -> usize {
    let window = text.slice(low, high);
    let nearest = |best: &mut Option<usize>, at: usize| {
        if at > start && best.is_none_or(|b| at.abs_diff(ideal) < b.abs_diff(ideal)) {
            *best = Some(at);
        }
    };
    let (mut clause, mut space) = (None, None);
    let mut before = ' ';
    for (i, c) in window.char_indices() {
        if c.is_whitespace() && i > 0 {
            let class = if matches!(before, ',' | ';' | ':' | '.' | '!' | '?' | '،' | '؛') {
                &mut clause
            } else {
                &mut space
            };
            nearest(class, low + i);
        } else if matches!(before, '、' | '。' | '，' | '；' | '：' | '！' | '？') {
            nearest(&mut clause, low + i);
        }
        before = c;
    }
    if let Some(at) = clause.or(space) {
        return at;
    }
    let mut word = None;
    for (i, _) in window.split_word_bound_indices().skip(1) {
        nearest(&mut word, low + i);
    }
    if let Some(at) = word.filter(|&at| is_grapheme_boundary(text, start, end, at)) {
        return at;
    }
    grapheme_boundary(text, start, end, ideal)
}

/// Maximum number of bytes, before and after a position, that are inspected to find grapheme clusters. A text may
/// consist of a megabyte of flag emojis or combining marks. Without a limit, each cut could scan such a text as a
/// whole.
const CLUSTER_REACH: usize = 1024;

fn around(text: &Text, start: usize, end: usize, at: usize) -> (usize, &str) {
    let low = text.floor(at.saturating_sub(CLUSTER_REACH)).max(start);
    let high = text.floor(at + CLUSTER_REACH).min(end);
    (low, text.slice(low, high))
}

fn is_grapheme_boundary(text: &Text, start: usize, end: usize, at: usize) -> bool {
    let (low, slice) = around(text, start, end, at);
    GraphemeCursor::new(at - low, slice.len(), true).is_boundary(slice, 0).unwrap_or(true)
}

/// Returns the nearest grapheme boundary at or before `at`, or else the nearest one after it. Returns `at` itself if
/// the cluster is longer than [`CLUSTER_REACH`].
fn grapheme_boundary(text: &Text, start: usize, end: usize, at: usize) -> usize {
    if at <= start || is_grapheme_boundary(text, start, end, at) {
        return at;
    }
    let (low, slice) = around(text, start, end, at);
    let cursor = || GraphemeCursor::new(at - low, slice.len(), true);
    match (cursor().prev_boundary(slice, 0), cursor().next_boundary(slice, 0)) {
        (Ok(Some(before)), _) if before > 0 => low + before,
        (_, Ok(Some(after))) if after < slice.len() => low + after,
        _ => at,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn cut(text: &str, n: usize) -> Vec<String> {
        let index = Text::new(text.to_owned());
        evenly(&index, 0, text.len(), n).into_iter().map(|(s, e)| index.slice(s, e).to_owned()).collect()
    }

    #[test]
    fn long_text_is_cut_at_the_best_place_near_the_even_one() {
        assert_eq!(cut(&format!("{} {}", "a".repeat(40), "b".repeat(42)), 2), ["a".repeat(40), "b".repeat(42)]);
        let clauses = format!("{}, and then {}", "word ".repeat(9).trim_end(), "more ".repeat(8).trim_end());
        assert!(cut(&clauses, 2)[0].ends_with(','), "{:?}", cut(&clauses, 2));
        assert_eq!(cut("ab", 2), ["a", "b"]);
        assert_eq!(cut("a", 2), ["a"]);
    }

    #[test]
    fn a_grapheme_cluster_stays_whole() {
        let family = "👨\u{200d}👩\u{200d}👧";
        for part in cut(&family.repeat(40), 3) {
            assert!(part.starts_with('👨') && part.ends_with('👧'));
        }
        for part in cut(&"e\u{301}".repeat(100), 4) {
            assert!(part.starts_with('e'));
        }
    }

    #[test]
    fn a_cluster_without_end_is_cut_all_the_same() {
        let parts = cut(&format!("a{}", "\u{301}".repeat(1000)), 4);
        assert!(parts.len() > 1, "{}", parts.len());
    }
}
