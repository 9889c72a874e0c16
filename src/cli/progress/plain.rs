//! Writes progress as lines to standard error. Every few seconds, a line shows the totals, unless these are
//! unchanged. A document that is quarantined, unreadable or retried is reported immediately.

use std::path::PathBuf;
use std::time::Duration;

use super::{Fetch, Figures, Numbers, ProgressDisplay, figures};
use crate::cli::output::{count, duration, plural, printable, write_error_line};
use crate::intake::source;
use crate::messages::event::Event;

const EVERY: Duration = Duration::from_secs(5);

pub struct Plain {
    here: PathBuf,
    told: Duration,
    last: Numbers,
    /// Amount that was downloaded when the last line was printed, in complete steps of ten megabytes.
    fetched: Option<u64>,
}

impl Plain {
    pub fn new() -> Self {
        let here = std::env::current_dir().unwrap_or_default();
        Self { here, told: Duration::ZERO, last: Numbers::default(), fetched: None }
    }
}

impl ProgressDisplay for Plain {
    fn event(&mut self, event: &Event) {
        if let Some(line) = line(event, &self.here) {
            write_error_line(&line);
        }
    }

    fn tick(&mut self, figures: &Figures) {
        if figures.elapsed.saturating_sub(self.told) >= EVERY && figures.numbers != self.last {
            (self.told, self.last) = (figures.elapsed, figures.numbers);
            write_error_line(&figures::plain(figures));
        }
    }

    /// Prints a line for every ten megabytes of a download.
    fn fetch(&mut self, fetch: &Fetch) {
        let step = fetch.bytes / 10_000_000;
        if self.fetched != Some(step) || fetch.total == Some(fetch.bytes) {
            self.fetched = Some(step);
            write_error_line(&fetch.line());
        }
    }

    fn end(&mut self, _: u64) {}
}

/// Returns the line to print for an event, or `None` if nothing is printed for this kind of event.
pub fn line(event: &Event, here: &std::path::Path) -> Option<String> {
    let path = |uri: &str| source::display(uri, here);
    let line = match event {
        Event::Unreadable { source, reason } => format!("unreadable: {}: {reason}", path(source)),
        Event::Retried { source, stage, wait_seconds, error, .. } => {
            let wait = duration(*wait_seconds);
            format!("retry in {wait}: {}: {}: {error}", path(source), stage.verb())
        }
        Event::Quarantined { source, stage, error, .. } => {
            format!("quarantined: {}: {}: {error}", path(source), stage.verb())
        }
        Event::Parked { source, stage, reason, .. } => format!("parked: {}: {}: {reason}", path(source), stage.verb()),
        Event::RecordRefused { source, line: 0, reason } => format!("refused: {}: {reason}", path(source)),
        Event::RecordRefused { source, line, reason } => format!("refused: {}:{line}: {reason}", path(source)),
        Event::RecordNoted { source, line: 0, text } => format!("note: {}: {text}", path(source)),
        Event::RecordNoted { source, line, text } => format!("note: {}:{line}: {text}", path(source)),
        Event::BatchSubmitted { batch, space, items, .. } => {
            format!("sent: {batch}: {} of {space}", plural(*items, "text"))
        }
        Event::BatchEnded { batch, space, status, stored, failed, stale, returned, .. } => {
            let mut parts = vec![format!("{} stored", count(*stored))];
            let asides = [(*failed, "refused"), (*stale, "stale"), (*returned, "to be sent again")];
            parts.extend(asides.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", count(*n))));
            format!("{}: {batch}: {space}: {}", status.to_lowercase(), parts.join(", "))
        }
        Event::Notice { text } | Event::BudgetSpent { text } => text.clone(),
        _ => return None,
    };
    Some(printable(&line))
}

#[cfg(test)]
mod tests {
    use docweir_core::documents::{DocumentId, Stage};
    use docweir_core::error::StageError;

    use super::*;

    #[test]
    fn only_what_a_person_should_act_on_is_told_at_once() {
        let document = || DocumentId::mint(0, 1);
        let source = || "file:///home/me/a%1B.pdf".to_owned();
        let error = StageError::permanent("encrypted", "the file needs a password");
        let here = std::path::Path::new("/home/me");
        let quarantined =
            Event::Quarantined { document: document(), source: source(), stage: Stage::Extraction, error };
        assert_eq!(line(&quarantined, here).unwrap(), "quarantined: a\u{fffd}.pdf: extract: the file needs a password");
        let unreadable = Event::Unreadable { source: source(), reason: "permission denied".into() };
        assert_eq!(line(&unreadable, here).unwrap(), "unreadable: a\u{fffd}.pdf: permission denied");
        assert_eq!(line(&Event::Deleted { document: document(), source: source() }, here), None);
    }
}
