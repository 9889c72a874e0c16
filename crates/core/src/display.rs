//! Makes text of documents, states and users safe to print.
//!
//! A terminal obeys control characters, and direction marks reorder the text around them: a file name could clear the
//! screen, or look like another name. Every command passes its whole output through this module.

use std::io;

use serde::Serialize;
use serde_json::ser::{CompactFormatter, Formatter, Serializer};

/// Returns whether a character is invisible and changes the text around it: a mark or override of the direction, a
/// line separator that is not a line feed, or a tag.
fn is_hidden(c: char) -> bool {
    matches!(c,
        '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2066}'..='\u{206f}' | '\u{feff}'
        | '\u{fff9}'..='\u{fffb}' | '\u{e0000}'..='\u{e007f}')
}

fn push(out: &mut String, c: char) {
    match c {
        c if c.is_control() => out.push('\u{fffd}'),
        c if is_hidden(c) => out.extend(c.escape_unicode()),
        c => out.push(c),
    }
}

/// Returns the text without effects on a terminal. A control character other than a line feed or a tab becomes U+FFFD. An
/// invisible character that changes the direction becomes an escape such as `\u{202e}`.
pub fn printable(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    for c in text.chars() {
        if matches!(c, '\n' | '\t') { out.push(c) } else { push(&mut out, c) }
    }
    out
}

/// Returns the text like [`printable`], on one line: line feeds and tabs become U+FFFD as well.
pub fn printable_line(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    text.chars().for_each(|c| push(&mut out, c));
    out
}

/// Returns the text like [`printable`], but keeps sequences that set the colour or the weight of the text. If a line
/// contains such a sequence, the colours are reset at its end.
pub fn printable_with_colours(text: &str) -> String {
    let mut out = String::with_capacity(text.len());
    let (mut rest, mut coloured) = (text, false);
    while let Some(c) = rest.chars().next() {
        if let Some(sequence) = colour_sequence(rest) {
            coloured = sequence != RESET;
            out.push_str(sequence);
            rest = rest.get(sequence.len()..).unwrap_or_default();
            continue;
        }
        if c == '\n' && std::mem::take(&mut coloured) {
            out.push_str(RESET);
        }
        if matches!(c, '\n' | '\t') {
            out.push(c)
        } else {
            push(&mut out, c)
        }
        rest = rest.get(c.len_utf8()..).unwrap_or_default();
    }
    if coloured {
        out.push_str(RESET);
    }
    out
}

const RESET: &str = "\x1b[0m";

/// Returns the sequence at the start of the text that sets colours or weights (`ESC [ numbers m`), if there is one.
fn colour_sequence(text: &str) -> Option<&str> {
    let body = text.strip_prefix("\x1b[")?;
    let end = body.bytes().take(12).position(|b| b == b'm')?;
    let known = |number: &str| matches!(number.parse(), Ok(0..=4 | 22..=24 | 30..=37 | 39 | 90..=97));
    let plain = body.get(..end)?.split(';').all(|n| n.bytes().all(|b| b.is_ascii_digit()) && known(n));
    if plain { text.get(..end + 3) } else { None }
}

/// Returns a value as JSON on one line. Control characters, direction marks and line separators in its strings are
/// escaped, so that the text is safe to print and still holds the exact value.
///
/// # Errors
/// Fails if the value has no form in JSON, such as a map whose keys are not strings.
pub fn to_json(value: &impl Serialize) -> serde_json::Result<String> {
    let mut out = Vec::new();
    value.serialize(&mut Serializer::with_formatter(&mut out, Escaping))?;
    // The serializer writes only whole strings and ASCII.
    Ok(String::from_utf8(out).unwrap_or_default())
}

struct Escaping;

impl Formatter for Escaping {
    fn write_string_fragment<W: ?Sized + io::Write>(&mut self, writer: &mut W, fragment: &str) -> io::Result<()> {
        let mut rest = fragment;
        while let Some(at) = rest.find(|c: char| c.is_control() || is_hidden(c)) {
            let (before, from) = rest.split_at(at);
            CompactFormatter.write_string_fragment(writer, before)?;
            let mut chars = from.chars();
            let mut units = [0; 2];
            for unit in chars.next().unwrap_or_default().encode_utf16(&mut units) {
                write!(writer, "\\u{unit:04x}")?;
            }
            rest = chars.as_str();
        }
        CompactFormatter.write_string_fragment(writer, rest)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_character_drives_the_terminal_or_hides() {
        assert_eq!(printable("a\x1b[2Jb\tc\nd\u{9b}31m"), "a\u{fffd}[2Jb\tc\nd\u{fffd}31m");
        assert_eq!(printable("invoice\u{202e}fdp.exe"), "invoice\\u{202e}fdp.exe");
        assert_eq!(printable("ünïcode שלום مرحبا 🦀 नमस्ते"), "ünïcode שלום مرحبا 🦀 नमस्ते");
        assert_eq!(printable_line("a\nb\tc\r"), "a\u{fffd}b\u{fffd}c\u{fffd}");
    }

    #[test]
    fn only_colours_pass_and_they_end_with_their_line() {
        assert_eq!(printable_with_colours("\x1b[1;33mword\x1b[0m!"), "\x1b[1;33mword\x1b[0m!");
        assert_eq!(printable_with_colours("\x1b[31mred\nplain"), "\x1b[31mred\x1b[0m\nplain");
        for (hostile, shown) in [
            ("\x1b[2J", "\u{fffd}[2J"),
            ("\x1b[8mhidden", "\u{fffd}[8mhidden"),
            ("\x1b[mx", "\u{fffd}[mx"),
            ("\x1b[+1mx", "\u{fffd}[+1mx"),
            ("\x1b]0;title\x07", "\u{fffd}]0;title\u{fffd}"),
            ("\x1b[111111111111111111mx", "\u{fffd}[111111111111111111mx"),
            ("\x1b", "\u{fffd}"),
            ("\u{202e}x", "\\u{202e}x"),
        ] {
            assert_eq!(printable_with_colours(hostile), shown);
        }
    }

    #[test]
    fn json_escapes_what_a_terminal_obeys_and_keeps_the_value() {
        let value = serde_json::json!({"a\u{9b}": ["\x1b[2J\x7f\u{85}\u{202e}\u{e0041}\n\"\\", "é🦀", 1.5, null]});
        let text = to_json(&value).unwrap();
        assert_eq!(text, r#"{"a\u009b":["\u001b[2J\u007f\u0085\u202e\udb40\udc41\n\"\\","é🦀",1.5,null]}"#);
        assert_eq!(serde_json::from_str::<serde_json::Value>(&text).unwrap(), value);
    }
}
