//! Writes to standard output and standard error. If standard output is a pipe whose reader exits early (`| head`),
//! output stops without an error.

use std::io::{self, IsTerminal, Write};

use super::args::When;
use crate::config::render::group_digits;

/// Writes to standard output, with or without colours.
#[derive(Clone, Copy)]
pub struct Out {
    pub colour: bool,
}

impl Out {
    pub fn new(when: When) -> Self {
        let colour = match when {
            When::Always => true,
            When::Never => false,
            When::Auto => io::stdout().is_terminal() && std::env::var_os("NO_COLOR").is_none_or(|v| v.is_empty()),
        };
        Self { colour }
    }

    /// Prints one or more lines. If the output is a pipe and its reader has exited, nothing is printed. The command
    /// continues nevertheless, so that its exit code still reports its outcome.
    pub fn line(&self, text: impl AsRef<str>) {
        let mut out = io::stdout().lock();
        let written = out.write_all(text.as_ref().as_bytes()).and_then(|()| out.write_all(b"\n"));
        let _ = written.and_then(|()| out.flush());
    }

    pub fn json(&self, value: &impl serde::Serialize) {
        if let Ok(text) = serde_json::to_string(value) {
            self.line(text);
        }
    }

    pub fn bold(&self, text: &str) -> String {
        self.paint(text, "1")
    }

    pub fn dim(&self, text: &str) -> String {
        self.paint(text, "2")
    }

    pub fn red(&self, text: &str) -> String {
        self.paint(text, "31")
    }

    pub fn green(&self, text: &str) -> String {
        self.paint(text, "32")
    }

    pub fn yellow(&self, text: &str) -> String {
        self.paint(text, "33")
    }

    /// Highlights a matched word of a passage.
    pub fn mark(&self, text: &str) -> String {
        self.paint(text, "1;33")
    }

    fn paint(&self, text: &str, code: &str) -> String {
        if self.colour { format!("\x1b[{code}m{text}\x1b[0m") } else { text.to_owned() }
    }
}

/// Prints a message to standard error. A failed write is ignored, because it cannot be reported anywhere else.
pub fn print_error(text: impl AsRef<str>) {
    let _ = writeln!(io::stderr().lock(), "docweir: {}", printable(text.as_ref()));
}

/// Makes the text of a document safe for a terminal. Control characters are replaced, because they could start escape
/// sequences.
pub fn printable(text: &str) -> String {
    text.chars().map(|c| if c.is_control() && c != '\n' && c != '\t' { '\u{fffd}' } else { c }).collect()
}

/// Formats `1234567` as `1,234,567`.
pub fn count(n: u64) -> String {
    group_digits(&n.to_string(), ',')
}

/// Formats a duration as `3.4 s`, `2 min 05 s` or `1 h 02 min`.
pub fn duration(seconds: f64) -> String {
    let whole = seconds as u64;
    match whole {
        0..60 => format!("{seconds:.1} s"),
        60..3600 => format!("{} min {:02} s", whole / 60, whole % 60),
        _ => format!("{} h {:02} min", whole / 3600, whole % 3600 / 60),
    }
}

/// Formats a number with its noun: `1 document`, `2 documents`.
pub fn plural(n: u64, noun: &str) -> String {
    let ending = match n {
        1 => "",
        _ if noun.ends_with("ch") => "es",
        _ => "s",
    };
    format!("{} {noun}{ending}", count(n))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_are_written_for_people() {
        assert_eq!(count(0), "0");
        assert_eq!(count(1234567), "1,234,567");
        assert_eq!(duration(3.44), "3.4 s");
        assert_eq!(duration(125.0), "2 min 05 s");
        assert_eq!(duration(3725.0), "1 h 02 min");
        assert_eq!(plural(1, "page"), "1 page");
        assert_eq!(plural(2000, "page"), "2,000 pages");
    }

    #[test]
    fn a_document_cannot_drive_the_terminal() {
        assert_eq!(printable("a\x1b[2Jb\tc\nd"), "a\u{fffd}[2Jb\tc\nd");
    }
}
