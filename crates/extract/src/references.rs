//! Replaces character references such as `&eacute;` and `&#233;` in Markdown by the characters that they mean.
//!
//! Blocks are found in the text as it was written, because a decoded `<` or `|` must not change the structure. The
//! replacements are collected meanwhile, and then applied to the text and to the ranges of its blocks.

use std::ops::Range;

use pulldown_cmark::{Event, Parser};

/// Maximum length of a character reference in bytes; the longest name has 31 letters.
const MAX_BYTES: usize = 40;

/// Holds replacements of parts of a text, in order and disjoint.
#[derive(Debug, Default)]
pub(super) struct Replacements {
    parts: Vec<(Range<usize>, String)>,
}

impl Replacements {
    /// Adds a character reference at `range` that means `characters`. A vertical bar in a table would divide its cell,
    /// so the bar is escaped there.
    pub(super) fn add(&mut self, range: Range<usize>, characters: &str, in_table: bool) {
        if self.parts.last().is_some_and(|(last, _)| last.end > range.start) {
            return;
        }
        let mut text = String::with_capacity(characters.len());
        for c in characters.chars() {
            match c {
                '|' if in_table => text.push_str("\\|"),
                // A line end from a reference is not a line end of the text.
                '\n' | '\r' | '\t' | '\u{c}' => text.push(' '),
                c if c.is_control() => {}
                c => text.push(c),
            }
        }
        self.parts.push((range, text));
    }

    /// Adds all character references of a piece of HTML that begins at `start`.
    pub(super) fn add_html(&mut self, html: &str, start: usize) {
        for (at, _) in html.match_indices('&') {
            let rest = html.as_bytes().get(at..html.len().min(at + MAX_BYTES)).unwrap_or_default();
            let name = |b: &u8| b.is_ascii_alphanumeric() || *b == b'#';
            let length = 1 + rest.iter().skip(1).take_while(|b| name(b)).count();
            let reference = html.get(at..at + length + 1).filter(|r| r.ends_with(';'));
            if let Some((reference, meaning)) = reference.and_then(|r| Some((r, meaning(r)?))) {
                self.add(start + at..start + at + reference.len(), &meaning, false);
            }
        }
    }

    /// Returns the text with all replacements, and moves the ranges to their places in that text.
    pub(super) fn apply<'r>(&self, text: &str, ranges: impl Iterator<Item = &'r mut Range<usize>>) -> String {
        let mut out = String::with_capacity(text.len());
        // Ends of the replaced parts: in the old text, and in the new one.
        let mut places: Vec<(usize, usize)> = Vec::with_capacity(self.parts.len());
        let mut at = 0;
        for (range, new) in &self.parts {
            out.push_str(text.get(at..range.start).unwrap_or_default());
            out.push_str(new);
            at = range.end;
            places.push((at, out.len()));
        }
        out.push_str(text.get(at..).unwrap_or_default());
        let moved = |old: usize| {
            let next = places.partition_point(|&(end, _)| end <= old);
            let (end, new) = next.checked_sub(1).and_then(|i| places.get(i)).copied().unwrap_or_default();
            // A position inside a replaced part moves to the beginning of the new part.
            let inside = self.parts.get(next).map_or(old, |(range, _)| old.min(range.start));
            new + (inside - end)
        };
        for range in ranges {
            *range = moved(range.start)..moved(range.end);
        }
        out
    }
}

/// Returns the characters that a reference means, or `None` if it is none.
fn meaning(reference: &str) -> Option<String> {
    let text = Parser::new(reference).find_map(|event| match event {
        Event::Text(text) => Some(text.into_string()),
        _ => None,
    });
    text.filter(|text| text != reference)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges_move_with_the_text() {
        let text = "a &amp; b &eacute;";
        let mut replacements = Replacements::default();
        replacements.add(2..7, "&", false);
        replacements.add(10..18, "é", false);
        let mut ranges = [0..8, 8..18, 4..18, 0..0];
        assert_eq!(replacements.apply(text, ranges.iter_mut()), "a & b é");
        assert_eq!(ranges, [0..4, 4..8, 2..8, 0..0]);
    }

    #[test]
    fn html_has_references_too() {
        let html = "<td title=\"R&amp;D\">caf&eacute; &nosuch; &#x41;&#0; & &lt;b&gt;</td>";
        let mut replacements = Replacements::default();
        replacements.add_html(html, 0);
        let text = replacements.apply(html, [].iter_mut());
        assert_eq!(text, "<td title=\"R&D\">café &nosuch; A\u{fffd} & <b></td>");
    }

    #[test]
    fn no_reference_breaks_a_line_or_a_table() {
        let mut replacements = Replacements::default();
        replacements.add(0..5, "\n", false);
        replacements.add(5..11, "|", true);
        replacements.add(11..15, "\u{7}", false);
        assert_eq!(replacements.apply("&#10;&#124;&#7;x", [].iter_mut()), " \\|x");
    }
}
