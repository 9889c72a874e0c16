//! Writes to standard output and standard error. All of it passes the filter of `docweir_core::display`.
//!
//! If standard output is a pipe whose reader exits early (`| head`), output stops without an error. After any other failed
//! write, such as to a full disk, the process ends with an error.

use std::io::{self, IsTerminal, Write};
use std::sync::OnceLock;

pub use docweir_core::display::printable;
use docweir_core::display::{printable_with_colours, to_json};

use super::args::When;
use crate::config::render::group_digits;

/// Returns whether output is coloured unless the user says otherwise. A terminal that is named `dumb` shows no colours.
pub fn wants_colours(is_terminal: bool) -> bool {
    let (no_colour, term) = (std::env::var_os("NO_COLOR"), std::env::var_os("TERM"));
    is_terminal && no_colour.is_none_or(|value| value.is_empty()) && term.is_none_or(|term| term != "dumb")
}

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
            When::Auto => wants_colours(io::stdout().is_terminal()),
        };
        Self { colour }
    }

    /// Prints one or more lines. If the output is a pipe and its reader has exited, nothing is printed. The command
    /// continues nevertheless, so that its exit code still reports its outcome.
    pub fn line(&self, text: impl AsRef<str>) {
        let text = text.as_ref();
        let _ = write_line(if self.colour { printable_with_colours(text) } else { printable(text) });
    }

    /// Prints a value as JSON on one line.
    pub fn json(&self, value: &impl serde::Serialize) {
        match to_json(value) {
            Ok(text) => drop(write_line(text)),
            Err(error) => failed(&error.into()),
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

/// First error of a write to standard output, unless the reader of the pipe had exited.
static FAILURE: OnceLock<String> = OnceLock::new();

/// Returns the first error of a write to standard output. The output of the process is then incomplete.
pub fn write_failure() -> Option<&'static str> {
    FAILURE.get().map(String::as_str)
}

fn failed(error: &io::Error) {
    if error.kind() != io::ErrorKind::BrokenPipe {
        let _ = FAILURE.set(error.to_string());
    }
}

/// Writes a line to standard output. Returns whether the line was written.
pub fn write_line(mut text: String) -> bool {
    text.push('\n');
    let mut out = io::stdout().lock();
    let written = out.write_all(text.as_bytes()).and_then(|()| out.flush());
    if let Err(error) = &written {
        failed(error);
    }
    written.is_ok()
}

/// Writes a line to standard error, with colours if it has any. A failed write is ignored, because it cannot be reported
/// anywhere else.
pub fn write_error_line(text: &str) {
    let _ = writeln!(io::stderr().lock(), "{}", printable_with_colours(text));
}

/// Prints a message to standard error. A failed write is ignored, because it cannot be reported anywhere else.
pub fn print_error(text: impl AsRef<str>) {
    let _ = writeln!(io::stderr().lock(), "docweir: {}", printable(text.as_ref()));
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
}
