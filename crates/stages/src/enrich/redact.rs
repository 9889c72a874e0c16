//! Replaces personal data by placeholders.
//!
//! Matches are replaced from the last to the first, so that the positions of earlier matches stay valid. A placeholder
//! can have more tokens than the text that it replaces. A chunk that then exceeds the embedder's window is divided
//! between matches, never truncated.

use std::ops::Range;

use super::matches::Match;

/// Returns the placeholder for a kind of personal data.
pub fn placeholder(kind: &str) -> String {
    format!("[REDACTED_{kind}]")
}

/// Replaces every match by a placeholder. Returns the new text, and the position of each placeholder in the new text.
/// Matches must be sorted and disjoint.
pub fn replace(text: &str, matches: &[Match]) -> (String, Vec<Match>) {
    let mut out = text.to_owned();
    for m in matches.iter().rev() {
        if text.get(m.range.clone()).is_some() {
            out.replace_range(m.range.clone(), &placeholder(m.kind));
        }
    }
    let mut shift = 0isize;
    let moved = matches.iter().map(|m| {
        let length = placeholder(m.kind).len();
        let start = m.range.start.saturating_add_signed(shift);
        shift += length as isize - m.range.len() as isize;
        Match::new(m.kind, start..start + length, m.score)
    });
    let moved = moved.collect();
    (out, moved)
}

/// Converts the positions of the matches in `kept` from the whole text to the redacted text of `part`. Matches outside
/// the part, and matches that overlap redacted data, are left out. `redacted` must be sorted, disjoint and within
/// `part`. All ranges in the arguments are in bytes of the whole text.
pub fn moved(part: &Range<usize>, redacted: &[Match], kept: &[Match]) -> Vec<Match> {
    let within = |at: usize| {
        let before = redacted.iter().filter(|m| part.start <= m.range.start && m.range.end <= at);
        let shift: isize = before.map(|m| placeholder(m.kind).len() as isize - m.range.len() as isize).sum();
        (at - part.start).saturating_add_signed(shift)
    };
    let place = |m: &Match| {
        let range = m.range.start.max(part.start)..m.range.end.min(part.end);
        let written = redacted.iter().any(|r| r.range.start < range.end && range.start < r.range.end);
        (range.start < range.end && !written)
            .then(|| Match::new(m.kind, within(range.start)..within(range.end), m.score))
    };
    kept.iter().filter_map(place).collect()
}

/// Holds a range of the original text, and the content of that range after redaction.
#[derive(Debug, PartialEq)]
pub struct Part {
    pub original: Range<usize>,
    pub content: String,
    pub matches: Vec<Match>,
    pub tokens: usize,
}

/// Replaces matches, and divides the text into parts until the tokens of each part fit `window`. `count` counts the
/// tokens.
pub fn parts(original: &str, matches: &[Match], window: usize, count: &dyn Fn(&str) -> usize) -> Vec<Part> {
    let mut out = Vec::new();
    let mut waiting: Vec<Range<usize>> = std::iter::once(0..original.len()).collect();
    while let Some(range) = waiting.pop() {
        let slice = original.get(range.clone()).unwrap_or_default();
        let local: Vec<Match> = matches
            .iter()
            .filter(|m| range.start <= m.range.start && m.range.end <= range.end)
            .map(|m| Match::new(m.kind, m.range.start - range.start..m.range.end - range.start, m.score))
            .collect();
        let (content, moved) = replace(slice, &local);
        let tokens = count(&content);
        let cut = if tokens > window { middle(slice, &local) } else { None };
        if let Some(cut) = cut {
            let (left, right) = slice.split_at(cut);
            let start = range.start + cut + (right.len() - right.trim_start().len());
            waiting.push(start..range.end);
            waiting.push(range.start..range.start + left.trim_end().len());
        } else {
            out.push(Part { original: range, content, matches: moved, tokens });
        }
    }
    out
}

/// Returns the best position to divide the text. The position is as near to the middle of the text as possible, and
/// never inside a match. White space is preferred, then an edge of a match, then a position between characters.
/// Returns `None` if there is no such position.
fn middle(text: &str, matches: &[Match]) -> Option<usize> {
    let inside = |at: usize| {
        let next = matches.partition_point(|m| m.range.end <= at);
        matches.get(next).is_some_and(|m| m.range.start < at)
    };
    let (first, last) = (text.len() - text.trim_start().len(), text.trim_end().len());
    let nearest = |places: &mut dyn Iterator<Item = usize>| {
        places.filter(|&p| p > first && p < last && !inside(p)).min_by_key(|p| p.abs_diff(text.len() / 2))
    };
    let mut spaces = text.char_indices().filter(|(_, c)| c.is_whitespace()).map(|(i, _)| i);
    let mut edges = matches.iter().flat_map(|m| [m.range.start, m.range.end]);
    let mut any = text.char_indices().map(|(i, _)| i);
    nearest(&mut spaces).or_else(|| nearest(&mut edges)).or_else(|| nearest(&mut any))
}

/// Removes the last words of a shortened heading if they may be the beginning of a number or an address.
pub fn without_cut_off_data(heading: &str) -> String {
    let Some(kept) = heading.strip_suffix('…') else {
        return heading.to_owned();
    };
    let mut kept = kept.trim_end();
    while let Some(word) = kept.split_whitespace().next_back() {
        if !word.contains(|c: char| c.is_numeric() || c == '@' || c == '+') {
            break;
        }
        kept = kept.get(..kept.len() - word.len()).unwrap_or_default().trim_end();
    }
    format!("{kept}…")
}

#[cfg(test)]
mod tests {
    use super::*;

    fn email(range: Range<usize>) -> Match {
        Match::new("EMAIL", range, 0.9)
    }

    #[test]
    fn replacing_moves_the_places() {
        let (text, moved) = replace("é a@b.io, c@d.io!", &[email(3..9), email(11..17)]);
        assert_eq!(text, "é [REDACTED_EMAIL], [REDACTED_EMAIL]!");
        assert!(moved.iter().all(|m| &text[m.range.clone()] == "[REDACTED_EMAIL]"));
    }

    #[test]
    fn what_grows_out_of_the_window_is_divided_between_matches() {
        let original = "a@b.io ".repeat(16).trim_end().to_owned();
        let matches: Vec<_> = (0..16).map(|i| email(7 * i..7 * i + 6)).collect();
        let made = parts(&original, &matches, 60, &|t| t.len());
        assert!(made.len() >= 6);
        assert!(made.iter().all(|p| p.tokens <= 60 && p.content.starts_with('[') && p.content.ends_with(']')));
        assert_eq!(made.iter().map(|p| p.matches.len()).sum::<usize>(), 16);
        assert!(made.is_sorted_by_key(|p| p.original.start));
    }

    #[test]
    fn what_is_kept_moves_with_the_text() {
        let text = "é a@b.io, Jane Doe, c@d.io!";
        let (redacted, kept) = ([email(3..9), email(21..27)], [Match::new("NAME", 11..19, 0.9)]);
        let (made, _) = replace(text, &redacted);
        let now = moved(&(0..text.len()), &redacted, &kept);
        assert_eq!(&made[now[0].range.clone()], "Jane Doe");
        // Cases: inside a part, cut in the middle, outside the part, and under a placeholder.
        assert_eq!(moved(&(11..28), &redacted, &kept)[0].range, 0..8);
        assert_eq!(moved(&(16..28), &redacted, &kept)[0].range, 0..3);
        assert_eq!(moved(&(0..10), &redacted, &kept), []);
        assert_eq!(moved(&(0..28), &redacted, &[Match::new("NAME", 8..12, 0.9)]), []);
    }

    #[test]
    fn a_heading_that_was_cut_loses_what_may_be_the_head_of_a_number() {
        assert_eq!(without_cut_off_data("Card 4111 1111…"), "Card…");
        assert_eq!(without_cut_off_data("Write to jane@exam…"), "Write to…");
        assert_eq!(without_cut_off_data("Whole 4111"), "Whole 4111");
    }
}
