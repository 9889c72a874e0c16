//! Splits digits with commas between them: numbers with thousands separators, decimal numbers and lists.

use std::ops::Range;

use super::{Kind, Token};

/// Maximum number of groups of digits that are taken together.
const MAX_GROUPS: usize = 32;

/// Calls `f` with the terms of groups of digits that commas separate, beginning at `start`. Returns the end of the
/// groups, or `None` if there are not at least two groups.
///
/// - `1,250,000` is one number, so that it meets `1250000`. Its groups are indexed too, because `100,200,300` may
///   also be a list.
/// - `3,5` is indexed as `3.5`, and as the two numbers of a list.
/// - Anything else is a list, such as `4471,4472`.
pub(super) fn groups(text: &str, start: usize, term: &mut String, f: &mut impl FnMut(Token<'_>)) -> Option<usize> {
    let bytes = text.as_bytes();
    let digit = |at: usize| bytes.get(at).is_some_and(u8::is_ascii_digit);
    let digits_end = |mut at: usize| {
        while digit(at) {
            at += 1;
        }
        at
    };
    let mut groups: Vec<Range<usize>> = Vec::new();
    groups.push(start..digits_end(start));
    while let Some(last) = groups.last().filter(|_| groups.len() < MAX_GROUPS)
        && bytes.get(last.end) == Some(&b',')
        && digit(last.end + 1)
    {
        groups.push(last.end + 1..digits_end(last.end + 1));
    }
    let mut end = groups.last()?.end;
    if text.get(end..)?.chars().next().is_some_and(char::is_alphanumeric) {
        // The last group is the beginning of a word, such as `500g`.
        groups.pop();
        end = groups.last()?.end;
    }
    if groups.len() < 2 {
        return None;
    }
    let decimals = match bytes.get(end) == Some(&b'.') && digit(end + 1) {
        true => end..digits_end(end + 1),
        false => end..end,
    };
    let is_number = is_number(&groups);
    let whole = start..decimals.end;
    term.clear();
    let mut kind = Kind::Word;
    if is_number {
        groups.iter().for_each(|g| term.push_str(text.get(g.clone()).unwrap_or_default()));
        term.push_str(text.get(decimals.clone()).unwrap_or_default());
        f(Token { term, bytes: whole, kind });
        kind = Kind::Fragment;
    } else if let [before, after] = groups.as_slice()
        && before.len() <= 6
        && after.len() <= 3
        && decimals.is_empty()
    {
        term.push_str(text.get(before.clone()).unwrap_or_default());
        term.push('.');
        term.push_str(text.get(after.clone()).unwrap_or_default());
        f(Token { term, bytes: whole, kind: Kind::Whole { parts: 2 } });
    }
    if let Some(last) = groups.last_mut() {
        last.end = decimals.end;
    }
    for group in groups {
        term.clear();
        term.push_str(text.get(group.clone()).unwrap_or_default());
        f(Token { term, bytes: group, kind });
    }
    Some(decimals.end)
}

/// Returns whether the commas between the groups may be thousands separators.
fn is_number(groups: &[Range<usize>]) -> bool {
    let [first, others @ ..] = groups else { return false };
    first.len() <= 3 && others.iter().all(|group| group.len() == 3)
}
