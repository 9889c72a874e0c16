//! Splits text into sentences.
//!
//! The Unicode rules (UAX 29) do not recognise abbreviations, and end a sentence at each line feed. A single line feed
//! is therefore read as a space. A boundary is removed after an abbreviation, after an initial, and after an ordinal
//! before a lower-case word. A blank line always ends a sentence. A missing boundary is better than a wrong one: a long
//! sentence can still be split at words, but a boundary inside `Dr. Smith` destroys meaning.

use std::ops::Range;

use unicode_segmentation::UnicodeSegmentation;

/// Abbreviations, in lower case and without their final full stop. A full stop after such a word does not end a
/// sentence.
const ABBREVIATIONS: &[&str] = &[
    "abb", "al", "approx", "apr", "art", "aug", "bzw", "ca", "capt", "cf", "ch", "chap", "col", "dec", "dept", "dr",
    "e.g", "ed", "eds", "eq", "eqs", "esp", "est", "etc", "evtl", "feb", "fig", "figs", "gen", "ggf", "gov", "hon",
    "i.e", "inkl", "jan", "jul", "jun", "lt", "mme", "mr", "mrs", "ms", "mt", "no", "nos", "nov", "nr", "oct", "p",
    "par", "pp", "prof", "ref", "refs", "rep", "rev", "sec", "sect", "sen", "sep", "sept", "sgt", "sr", "sra", "st",
    "str", "tab", "u.a", "u.s", "usw", "v", "vgl", "viz", "vol", "vols", "vs", "z.b",
];

/// Describes a sentence. `range` excludes surrounding white space. `ends_paragraph` is true if a blank line separates
/// the sentence from the next one. It is false for the last sentence of the text.
#[derive(Debug, PartialEq)]
pub struct Sentence {
    pub range: Range<usize>,
    pub ends_paragraph: bool,
}

/// Returns the sentences of `text` in order. Together, the sentences cover all of the text except white space.
pub fn sentences(text: &str) -> Vec<Sentence> {
    let flat = unwrap_lines(text);
    let mut found: Vec<Sentence> = Vec::new();
    let mut open: Option<Range<usize>> = None;
    let bounds: &mut dyn Iterator<Item = Range<usize>> = if is_lower_cased(text) {
        &mut stops(&flat)
    } else {
        &mut flat.split_sentence_bound_indices().map(|(at, bound)| at..at + bound.len())
    };
    for bound in bounds {
        let Some(range) = trim(text, bound) else {
            continue;
        };
        let Some(before) = open.take() else {
            open = Some(range);
            continue;
        };
        let gap = text.get(before.end..range.start).unwrap_or_default();
        let blank = is_blank_line(gap);
        let no_end = !blank && runs_on(&text[before.clone()], &text[range.clone()]);
        if no_end {
            open = Some(before.start..range.end);
        } else {
            found.push(Sentence { range: before, ends_paragraph: blank });
            open = Some(range);
        }
    }
    found.extend(open.map(|range| Sentence { range, ends_paragraph: false }));
    found
}

/// Returns whether the text seems to have been converted to lower case. This is so if the text is long enough to
/// decide and has no capital letter. In such a text the Unicode rules miss most sentence ends, because these rules
/// find no end before a lower-case letter.
fn is_lower_cased(text: &str) -> bool {
    text.len() > 80 && text.bytes().any(|b| b.is_ascii_lowercase()) && !text.chars().any(char::is_uppercase)
}

/// Splits a text that was converted to lower case. The Unicode rules do not work for such a text. It is split at
/// blank lines, and at white space after a full stop, question mark or exclamation mark.
fn stops(flat: &str) -> impl Iterator<Item = Range<usize>> {
    let mut from = 0;
    std::iter::from_fn(move || {
        let rest = flat.get(from..).filter(|r| !r.is_empty())?;
        let mut before = ' ';
        let end = rest.char_indices().find_map(|(i, c)| {
            let stop = c.is_whitespace() && matches!(before, '.' | '?' | '!') || matches!(c, '\n' | '\u{2029}');
            before = c;
            stop.then_some(i + c.len_utf8())
        });
        let start = from;
        from += end.unwrap_or(rest.len());
        Some(start..from)
    })
}

/// Replaces single line breaks by spaces, because the Unicode rules would end a sentence at each line break. All
/// offsets stay the same.
fn unwrap_lines(text: &str) -> String {
    let mut flat = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find(['\n', '\r']) {
        let (line, tail) = rest.split_at(at);
        flat.push_str(line);
        let breaks = tail.len() - tail.trim_start_matches(['\n', '\r', ' ', '\t']).len();
        let (gap, after) = tail.split_at(breaks);
        if is_blank_line(gap) {
            flat.push_str(gap);
        } else {
            flat.extend(gap.chars().map(|c| if matches!(c, '\n' | '\r') { ' ' } else { c }));
        }
        rest = after;
    }
    flat.push_str(rest);
    flat
}

fn is_blank_line(gap: &str) -> bool {
    gap.matches('\n').count() > 1 || gap.contains('\u{2029}')
}

fn trim(text: &str, range: Range<usize>) -> Option<Range<usize>> {
    let slice = text.get(range.clone())?;
    let start = range.end - slice.trim_start().len();
    let end = range.start + slice.trim_end().len();
    (start < end).then_some(start..end)
}

/// Returns whether `before` and `after` are parts of one sentence. They are if the full stop at the end of `before`
/// belongs to an abbreviation, an initial or an ordinal.
fn runs_on(before: &str, after: &str) -> bool {
    let Some(stem) = before.strip_suffix('.') else {
        return false;
    };
    let word = last_word(stem);
    let mut chars = word.chars();
    let initial = matches!((chars.next(), chars.next()), (Some(c), None) if c.is_alphabetic() && c.is_uppercase());
    let abbreviation = word.len() <= 8 && ABBREVIATIONS.binary_search(&word.to_lowercase().as_str()).is_ok();
    let ordinal = !word.is_empty() && word.len() <= 2 && word.bytes().all(|b| b.is_ascii_digit());
    initial || abbreviation || (ordinal && (stem.len() == word.len() || after.starts_with(char::is_lowercase)))
}

fn last_word(text: &str) -> &str {
    // An abbreviation is short, so inspect only the last few characters.
    let from = text.char_indices().rev().take(12).last().map_or(0, |(i, _)| i);
    let tail = &text[from..];
    let cut = tail
        .rfind(|c: char| !(c.is_alphanumeric() || c == '.'))
        .map(|i| i + tail[i..].chars().next().map_or(1, char::len_utf8));
    &tail[cut.unwrap_or(0)..]
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<&str> {
        sentences(text).into_iter().map(|s| &text[s.range]).collect()
    }

    #[test]
    fn the_list_is_sorted() {
        assert!(ABBREVIATIONS.is_sorted());
    }

    #[test]
    fn sentences_end_where_a_reader_ends_them() {
        let cases: &[(&str, &[&str])] = &[
            ("One. Two! Three?", &["One.", "Two!", "Three?"]),
            ("Dr. Smith met J. Doe. They left.", &["Dr. Smith met J. Doe.", "They left."]),
            ("See Fig. 3 and e.g. Table 2. Next.", &["See Fig. 3 and e.g. Table 2.", "Next."]),
            ("It rose 3.5 percent. Then it fell.", &["It rose 3.5 percent.", "Then it fell."]),
            ("A line\nthat wraps. And\r\nanother.", &["A line\nthat wraps.", "And\r\nanother."]),
            ("No stop\n\nNew paragraph", &["No stop", "New paragraph"]),
            ("これは文です。次の文です。", &["これは文です。", "次の文です。"]),
            ("Am 3. mai war es. Gut.", &["Am 3. mai war es.", "Gut."]),
            (
                "as of december 31, the tax was 3.5 percent of income. a deferred asset was set up, e.g. for losses. done",
                &[
                    "as of december 31, the tax was 3.5 percent of income.",
                    "a deferred asset was set up, e.g. for losses.",
                    "done",
                ],
            ),
            ("  \n ", &[]),
        ];
        for (text, expected) in cases {
            assert_eq!(split(text), *expected, "{text:?}");
        }
    }

    #[test]
    fn a_blank_line_ends_a_paragraph() {
        let all = sentences("One.\n \nTwo. Three.");
        assert_eq!(all.iter().map(|s| s.ends_paragraph).collect::<Vec<_>>(), [true, false, false]);
    }
}
