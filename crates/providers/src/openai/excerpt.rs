//! Quotes the body of an answer in a message, without secrets and without the texts of the request.

use std::collections::HashSet;

use docweir_core::display::printable_line;
use serde_json::Value;

/// Maximum number of characters that are quoted.
const MOST: usize = 300;
/// Maximum size of a body, in bytes, of which more than the beginning is looked at.
const WHOLE_BYTES: usize = 64 << 10;
/// Number of bytes in a row from which on a quotation of a sent text is removed.
const QUOTED: usize = 16;
/// Minimum length, in bytes, of a short text that is removed.
const SHORT: usize = 4;
/// Maximum number of escaped characters in a row that are quoted.
const MOST_ESCAPES: usize = 2;

/// Returns the first 300 characters of a body on one line. The API key, other words that look like keys, and parts of
/// the texts in `sent` are removed, because servers may quote the request.
pub fn excerpt(body: &[u8], key: Option<&str>, sent: &[&str]) -> String {
    let body = body.get(..WHOLE_BYTES).unwrap_or(body);
    // Equal texts are escaped equally afterwards.
    let text = match serde_json::from_slice::<Value>(body) {
        Ok(value) => value.to_string(),
        Err(_) => String::from_utf8_lossy(body).into_owned(),
    };
    let text = match key.filter(|key| key.len() >= SHORT) {
        Some(key) => text.replace(key, "[key]"),
        None => text,
    };
    let text = without_texts(&without_keys(&text), sent);
    let line = text.split_whitespace().collect::<Vec<_>>().join(" ");
    match line.char_indices().nth(MOST) {
        Some((end, _)) => format!("{}…", printable_line(line.get(..end).unwrap_or_default())),
        None => printable_line(&line),
    }
}

/// Replaces words that look like API keys.
fn without_keys(text: &str) -> String {
    let part_of_key = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.' | '*');
    let mut out = String::with_capacity(text.len());
    let mut after_bearer = false;
    for piece in text.split_inclusive(|c: char| !part_of_key(c)) {
        let word = piece.trim_end_matches(|c: char| !part_of_key(c));
        let is_key = word.len() >= 8 && (after_bearer || word.starts_with("sk-"));
        after_bearer = word.eq_ignore_ascii_case("bearer") || (after_bearer && word.is_empty());
        out.push_str(if is_key { "[key]" } else { word });
        out.push_str(piece.get(word.len()..).unwrap_or_default());
    }
    out
}

/// Replaces runs of escaped characters, because such a run can be a text that was sent.
fn without_escapes(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(at) = rest.find('\\') {
        let (before, from) = rest.split_at(at);
        out.push_str(before);
        let (mut end, mut count) = (0, 0);
        while let Some(length) = from.get(end..).and_then(escape) {
            end += length;
            count += 1;
        }
        let (run, after) = from.split_at(end.max(1));
        out.push_str(if count > MOST_ESCAPES { "…" } else { run });
        rest = after;
    }
    out.push_str(rest);
    out
}

/// Returns the length of a Unicode escape at the beginning of `text`: one or two backslashes, `u` and four hexadecimal
/// digits.
fn escape(text: &str) -> Option<usize> {
    let bytes = text.as_bytes();
    let slashes = bytes.iter().take(3).take_while(|b| **b == b'\\').count();
    let digits = bytes.get(slashes + 1..slashes + 5)?;
    let is_escape =
        (1..=2).contains(&slashes) && bytes.get(slashes) == Some(&b'u') && digits.iter().all(u8::is_ascii_hexdigit);
    is_escape.then_some(slashes + 5)
}

/// Replaces the parts of `text` that quote a text in `sent`, and runs of escaped characters.
fn without_texts(text: &str, sent: &[&str]) -> String {
    let bytes = text.as_bytes();
    let windows: HashSet<&[u8]> = bytes.windows(QUOTED).collect();
    let mut found: HashSet<&[u8]> = HashSet::new();
    let mut short: Vec<String> = Vec::new();
    for one in sent {
        // Serialising a string cannot fail.
        let escaped = serde_json::to_string(one).unwrap_or_default();
        let escaped = escaped.trim_matches('"');
        if (SHORT..QUOTED).contains(&escaped.len()) {
            short.push(escaped.to_owned());
        }
        for form in [escaped.as_bytes(), one.as_bytes()] {
            found.extend(form.windows(QUOTED).filter_map(|window| windows.get(window).copied()));
        }
    }
    let mut hidden = vec![false; bytes.len()];
    let mut hide = |from: usize, length: usize| hidden.iter_mut().skip(from).take(length).for_each(|h| *h = true);
    for (at, window) in bytes.windows(QUOTED).enumerate() {
        if found.contains(window) {
            hide(at, QUOTED);
        }
    }
    short.iter().for_each(|one| text.match_indices(one.as_str()).for_each(|(at, _)| hide(at, one.len())));
    let mut out = String::with_capacity(text.len());
    let mut before = false;
    for (at, c) in text.char_indices() {
        let now = hidden.get(at).copied().unwrap_or_default();
        match (before, now) {
            (false, true) => out.push_str("[text]"),
            (_, false) => out.push(c),
            (true, true) => {}
        }
        before = now;
    }
    without_escapes(&out)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_beginning_is_quoted_without_keys_and_texts() {
        let sent = ["The quarterly figures are secret.\nNobody may read them.", "Grüße", "of"];
        let table: [(&str, &str); 10] = [
            ("<html>\n  <b>502</b>\x1b[2J", "<html> <b>502</b>\u{fffd}[2J"),
            (r#"{"error": "no key-1234567 here"}"#, r#"{"error":"no [key] here"}"#),
            ("Incorrect API key provided: sk-proj-abc_123-XYZ.", "Incorrect API key provided: [key]"),
            ("authorization: Bearer abcdefgh1234, x", "authorization: Bearer [key], x"),
            ("at 'figures are secret.\nNobody may' of", "at '[text]' of"),
            (
                r#"{"input":"figures are secret.\nNobody may","x":"Gr\u00fc\u00dfe"}"#,
                r#"{"input":"[text]","x":"[text]"}"#,
            ),
            (r"at \u0434\u0430\u0020 of", "at … of"),
            (r"at \\u0434\\u0430\\u0020 of", "at … of"),
            (r"at \u0434\u0430 of", r"at \u0434\u0430 of"),
            ("", ""),
        ];
        for (body, expected) in table {
            assert_eq!(excerpt(body.as_bytes(), Some("key-1234567"), &sent), expected, "{body}");
        }
        let long = excerpt("ä".repeat(100_000).as_bytes(), None, &[]);
        assert_eq!((long.chars().count(), long.ends_with("ä…")), (301, true));
    }
}
