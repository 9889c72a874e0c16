//! Groups texts into calls of limited size.

use std::ops::Range;

/// Groups neighbouring texts into calls of at most `most_texts` texts and `most_tokens` tokens. A text with more than
/// `most_tokens` tokens gets a call of its own.
pub fn packed(tokens: &[u64], (most_texts, most_tokens): (usize, u64)) -> Vec<Range<usize>> {
    let mut calls = Vec::new();
    let (mut start, mut sum) = (0, 0);
    for (at, &tokens) in tokens.iter().enumerate() {
        if at > start && (at - start >= most_texts || sum + tokens > most_tokens) {
            calls.push(start..at);
            (start, sum) = (at, 0);
        }
        sum += tokens;
    }
    if start < tokens.len() {
        calls.push(start..tokens.len());
    }
    calls
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        // Columns: tokens, limits, and number of texts in each call.
        let table: [(&[u64], _, &[usize]); 6] = [
            (&[], (2, 10), &[]),
            (&[1, 1, 1], (2, 10), &[2, 1]),
            (&[5, 5, 5], (9, 10), &[2, 1]),
            (&[99, 1, 99], (9, 10), &[1, 1, 1]),
            (&[0, 0, 0], (9, 0), &[3]),
            (&[1, 2, 3], (usize::MAX, u64::MAX), &[3]),
        ];
        for (tokens, most, expected) in table {
            let calls = packed(tokens, most);
            assert_eq!(calls.iter().map(Range::len).collect::<Vec<_>>(), expected, "{tokens:?} {most:?}");
            assert!(
                calls.iter().cloned().flatten().eq(0..tokens.len()),
                "{tokens:?} {most:?}: each text once, in order"
            );
        }
    }
}
