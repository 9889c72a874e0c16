//! Writes the log to standard error. Log lines do not disturb the live display and contain no text of documents.

use std::io::{self, IsTerminal, Write};
use std::sync::Arc;

use docweir_core::clock::SystemClock;
use docweir_core::display::printable_with_colours;
use tracing_subscriber::EnvFilter;
use tracing_subscriber::fmt::MakeWriter;
use tracing_subscriber::fmt::format::JsonFields;

use super::args::When;
use super::output::wants_colours;
use super::progress::suspended;
use crate::config::{LogFormat, LogOptions};
use crate::exit::{Exit, Failure};
use crate::telemetry::json::JsonLines;

/// Starts the log of the process. Later calls have no effect.
pub fn start(options: &LogOptions, color: When) -> Result<(), Failure> {
    let filter = EnvFilter::builder().parse(&options.level).map_err(|e| {
        let text = format!("`log.level` is invalid: {e}; use a level (warn, info, debug) or module=level pairs");
        Failure::new(Exit::Configuration, text)
    })?;
    let colour = match color {
        When::Always => true,
        When::Never => false,
        When::Auto => wants_colours(io::stderr().is_terminal()),
    };
    let log = tracing_subscriber::fmt().with_env_filter(filter).with_writer(Terminal).with_ansi(colour);
    // This fails only on a second call in the process; the first log stays in use.
    let _ = match options.format {
        LogFormat::Text => log.with_target(false).try_init(),
        LogFormat::Json => {
            let lines = JsonLines(Arc::new(SystemClock));
            log.fmt_fields(JsonFields::new()).event_format(lines).try_init()
        }
    };
    Ok(())
}

/// Installs a hook that logs the source location of each panic. The panic message is logged only if it is a constant
/// string, because a formatted message may quote a document.
pub fn log_panics() {
    std::panic::set_hook(Box::new(|panic| {
        let place = panic.location().map(|l| format!("{}:{}", l.file(), l.line())).unwrap_or_default();
        let text = panic.payload().downcast_ref::<&'static str>().copied().unwrap_or("(message left out)");
        let thread = std::thread::current();
        tracing::error!(place, thread = thread.name().unwrap_or("unnamed"), "panic: {text}");
    }));
}

/// Writes log lines to standard error. The live display is removed while a line is written.
struct Terminal;

impl<'a> MakeWriter<'a> for Terminal {
    type Writer = LogLine;

    fn make_writer(&'a self) -> LogLine {
        LogLine(Vec::new())
    }
}

/// Collects the bytes of one log event. All bytes are written together when the value is dropped.
struct LogLine(Vec<u8>);

impl Write for LogLine {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

impl Drop for LogLine {
    fn drop(&mut self) {
        suspended(|| {
            let text = printable_with_colours(&String::from_utf8_lossy(&self.0));
            let _ = io::stderr().lock().write_all(text.as_bytes());
        });
    }
}
