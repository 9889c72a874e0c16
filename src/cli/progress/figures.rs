//! Computes the figures of the progress display: totals, rates over the last seconds, and the estimated remaining
//! time.

use std::collections::VecDeque;
use std::time::Duration;

use crate::actors::run_summary::RunSummary;
use crate::cli::output::{count, duration, plural};
use crate::messages::progress::{ProgressSnapshot, ProviderRow};

/// Time window over which rates are computed. The window is long enough for steady values and short enough to show a
/// change soon.
const WINDOW: Duration = Duration::from_secs(20);
/// Maximum number of samples in the window.
const SAMPLES: usize = 200;
/// Number of documents that must be finished before the remaining time is estimated. With fewer documents, the
/// estimate is poor.
const GUESS_DOCUMENTS: u64 = 3;
/// Minimum age of a run, in time since its start, before the remaining time is estimated.
const GUESS_AFTER: Duration = Duration::from_secs(3);

/// Holds the totals of a run so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Numbers {
    /// Number of documents that this run has to finish. The number grows while the run finds more documents.
    pub wanted: u64,
    /// Number of finished documents: completed, deleted, quarantined, parked or superseded.
    pub ended: u64,
    pub quarantined: u64,
    pub unreadable: u64,
    pub unchanged: u64,
    pub pages: u64,
    pub chunks: u64,
    pub records: Records,
}

/// Holds the totals of records and batches.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Records {
    pub read: u64,
    pub stored: u64,
    pub batches_sent: u64,
    pub batches_ended: u64,
}

impl Numbers {
    /// Computes the totals. `removals` is the number of requested deletions, because `summary` counts only deletions
    /// that were carried out.
    pub fn of(summary: &RunSummary, removals: u64) -> Self {
        let ended =
            summary.completed + summary.deleted + summary.quarantined_now() + summary.parked + summary.superseded;
        Self {
            wanted: (summary.registered + summary.resumed + removals).max(ended),
            ended,
            quarantined: summary.quarantined_now(),
            unreadable: summary.unreadable_now(),
            unchanged: summary.unchanged,
            pages: summary.pages,
            chunks: summary.chunks,
            records: Records {
                read: summary.records.new + summary.records.changed + summary.records.unchanged,
                stored: summary.records.stored,
                batches_sent: summary.batches.submitted,
                batches_ended: summary.batches.ended,
            },
        }
    }
}

/// Holds the figures of a run at one point in time.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Figures {
    pub elapsed: Duration,
    pub numbers: Numbers,
    pub progress: ProgressSnapshot,
    pub pages_per_second: f64,
    pub chunks_per_second: f64,
    pub left: Option<Duration>,
}

/// Keeps the samples of the last seconds. Rates are computed from these samples.
#[derive(Default)]
pub struct Recent(VecDeque<(Duration, Numbers)>);

impl Recent {
    /// Adds a sample, and returns the figures over the time window. `elapsed` is the time from the start of the run
    /// to this sample.
    pub fn figures(&mut self, elapsed: Duration, numbers: Numbers, progress: ProgressSnapshot) -> Figures {
        self.0.push_back((elapsed, numbers));
        let too_old = |at: Duration| elapsed.saturating_sub(at) > WINDOW;
        while self.0.len() > SAMPLES || (self.0.len() > 2 && self.0.get(1).is_some_and(|(at, _)| too_old(*at))) {
            self.0.pop_front();
        }
        let (begin, first) = match self.0.front() {
            // In the first seconds the window covers the whole run.
            Some((at, _)) if !too_old(Duration::ZERO) || *at == elapsed => (Duration::ZERO, Numbers::default()),
            Some((at, first)) => (*at, *first),
            None => (Duration::ZERO, Numbers::default()),
        };
        let seconds = elapsed.saturating_sub(begin).as_secs_f64().max(1e-3);
        let rate = |now: u64, then: u64| now.saturating_sub(then) as f64 / seconds;
        let documents = rate(numbers.ended, first.ended);
        let known = progress.intake.finished && numbers.ended >= GUESS_DOCUMENTS && elapsed >= GUESS_AFTER;
        let remaining = numbers.wanted.saturating_sub(numbers.ended);
        let left = (known && remaining > 0 && documents > 0.0)
            .then(|| Duration::try_from_secs_f64(remaining as f64 / documents).ok())
            .flatten();
        Figures {
            elapsed,
            numbers,
            pages_per_second: rate(numbers.pages, first.pages),
            chunks_per_second: rate(numbers.chunks, first.chunks),
            left,
            progress,
        }
    }
}

/// Formats the header: `12 of 40 documents · 3.2 pages/s · 8.1 chunks/s · about 2 min 05 s left`.
pub fn header(figures: &Figures) -> String {
    let n = &figures.numbers;
    let mut parts = what(figures);
    if n.pages > 0 {
        parts.push(format!("{:.1} pages/s", figures.pages_per_second));
    }
    if n.chunks > 0 {
        parts.push(format!("{:.1} chunks/s", figures.chunks_per_second));
    }
    if figures.progress.draining {
        parts.push("stopping".into());
    } else if let Some(left) = figures.left {
        parts.push(format!("about {} left", duration(left.as_secs_f64())));
    }
    parts.join(" · ")
}

/// Formats the counts of documents, records and batches. A kind that does not occur in the run is left out.
fn what(figures: &Figures) -> Vec<String> {
    let (n, r) = (&figures.numbers, &figures.numbers.records);
    let mut parts = Vec::new();
    if n.wanted + figures.progress.intake.files > 0 || r.read == 0 {
        parts.push(documents(figures));
    }
    if r.read > 0 {
        parts.push(format!("{}, {} stored", plural(r.read, "record"), count(r.stored)));
    }
    if r.batches_sent + r.batches_ended > 0 {
        parts.push(format!("{} sent, {} ended", plural(r.batches_sent, "batch"), count(r.batches_ended)));
    }
    parts
}

/// Formats the state of a provider: `text-embedding-3-small: 3 calls, 12 wait up to 4.0 s, 620,000 of 1,000,000
/// tokens a minute left`.
pub fn provider(row: &ProviderRow) -> String {
    let mut parts = vec![plural(row.running, "call")];
    let (waiting, longest) =
        row.waiting.iter().fold((0, 0.0f64), |(n, longest), w| (n + w.calls, longest.max(w.seconds)));
    if waiting > 0 {
        let verb = if waiting == 1 { "waits" } else { "wait" };
        parts.push(format!("{} {verb} up to {}", count(waiting), duration(longest)));
    }
    if let (Some(left), Some(limit)) = (row.tokens_left, row.tokens_per_minute) {
        parts.push(format!("{} of {} tokens a minute left", count(left.max(0.0) as u64), count(limit as u64)));
    }
    if let Some(closed) = row.closed {
        parts.push(format!("{closed} for {}", duration(row.closed_seconds)));
    }
    format!("{}: {}", row.name, parts.join(", "))
}

fn documents(figures: &Figures) -> String {
    let (n, intake) = (&figures.numbers, &figures.progress.intake);
    if n.wanted == 0 && !intake.finished {
        return format!("{} found", plural(intake.files, "file"));
    }
    let more = if intake.finished { "" } else { "+" };
    format!("{} of {}{more} documents", count(n.ended), count(n.wanted))
}

/// Formats one line per stage, in columns. Zero counts of retries and quarantined documents are left blank.
pub fn stages(progress: &ProgressSnapshot) -> Vec<String> {
    let some = |n: u64, what: &str| if n > 0 { format!("{:>5} {what}", count(n)) } else { String::new() };
    let line = |row: &crate::messages::progress::StageRow| {
        format!(
            "  {:<8} {:>6} waiting {:>4} in flight {:>8} done {:13} {}",
            row.stage.verb(),
            count(row.waiting),
            count(row.in_flight),
            count(row.done),
            some(row.retried, "retried"),
            some(row.quarantined, "quarantined"),
        )
        .trim_end()
        .to_owned()
    };
    let rows = progress.stages.iter().map(line);
    rows.chain(progress.provider.as_ref().map(|row| format!("  {}", provider(row)))).collect()
}

/// Formats the figures as one line, for logs and pipes.
pub fn plain(figures: &Figures) -> String {
    let n = &figures.numbers;
    let mut line = format!("{}: {}", duration(figures.elapsed.as_secs_f64()), what(figures).join(", "));
    let mut add = |part: String| {
        line.push_str(", ");
        line.push_str(&part);
    };
    if n.quarantined > 0 {
        add(format!("{} quarantined", count(n.quarantined)));
    }
    if n.pages > 0 {
        add(format!("{} ({:.1}/s)", plural(n.pages, "page"), figures.pages_per_second));
    }
    if n.chunks > 0 {
        add(plural(n.chunks, "chunk"));
    }
    if figures.progress.draining {
        add("stopping".into());
    } else if let Some(left) = figures.left {
        add(format!("about {} left", duration(left.as_secs_f64())));
    }
    let busy = |row: &&crate::messages::progress::StageRow| row.waiting + row.in_flight > 0;
    let at: Vec<String> = figures
        .progress
        .stages
        .iter()
        .filter(busy)
        .map(|row| format!("{} {}+{}", row.stage.verb(), count(row.waiting), count(row.in_flight)))
        .collect();
    if !at.is_empty() {
        line.push_str("; waiting+in flight: ");
        line.push_str(&at.join(", "));
    }
    if let Some(row) = figures.progress.provider.as_ref().filter(|p| p.running > 0 || p.closed.is_some()) {
        line.push_str("; ");
        line.push_str(&provider(row));
    }
    line
}

#[cfg(test)]
mod tests {
    use docweir_core::documents::Stage;

    use super::*;
    use crate::messages::progress::{IntakeRow, StageRow, WaitingRow};

    fn seconds(n: u64) -> Duration {
        Duration::from_secs(n)
    }

    fn progress(finished: bool) -> ProgressSnapshot {
        let intake = IntakeRow { files: 40, finished };
        let extract =
            StageRow { waiting: 12, in_flight: 2, done: 1234, retried: 1, ..StageRow::new(Stage::Extraction) };
        let embed = StageRow { done: 7, quarantined: 2, ..StageRow::new(Stage::Embedding) };
        ProgressSnapshot { intake, stages: vec![extract, embed], provider: None, draining: false }
    }

    fn numbers(ended: u64, pages: u64) -> Numbers {
        Numbers { wanted: 40, ended, pages, chunks: 2 * pages, ..Numbers::default() }
    }

    #[test]
    fn rates_follow_the_last_seconds_and_the_time_left_follows_the_rates() {
        let mut recent = Recent::default();
        let first = recent.figures(seconds(10), numbers(10, 100), progress(true));
        assert_eq!((first.pages_per_second, first.left), (10.0, Some(seconds(30))), "all of the run is recent");
        for at in 11..=60 {
            recent.figures(seconds(at), numbers(10, 100), progress(true));
        }
        let stalled = recent.figures(seconds(61), numbers(10, 100), progress(true));
        assert_eq!((stalled.pages_per_second, stalled.left), (0.0, None), "what was long ago does not count");
        let moving = recent.figures(seconds(62), numbers(20, 142), progress(true));
        assert_eq!(moving.pages_per_second, 2.0);
        assert_eq!(moving.left, Some(seconds(42)));
    }

    #[test]
    fn no_time_left_is_promised_before_it_can_be_known() {
        let guess =
            |at, ended, finished| Recent::default().figures(seconds(at), numbers(ended, 1), progress(finished)).left;
        assert!(guess(10, 10, true).is_some());
        assert_eq!(guess(10, 10, false), None, "still looking at files");
        assert_eq!(guess(10, 2, true), None, "too few documents");
        assert_eq!(guess(2, 10, true), None, "too early");
        assert_eq!(guess(10, 40, true), None, "nothing left");
    }

    #[test]
    fn lines_are_aligned_and_quiet() {
        let mut figures = Recent::default().figures(seconds(10), numbers(10, 32), progress(true));
        assert_eq!(header(&figures), "10 of 40 documents · 3.2 pages/s · 6.4 chunks/s · about 30.0 s left");
        assert_eq!(
            stages(&figures.progress),
            [
                "  extract      12 waiting    2 in flight    1,234 done     1 retried",
                "  embed         0 waiting    0 in flight        7 done                   2 quarantined",
            ]
        );
        let expected = "10.0 s: 10 of 40 documents, 32 pages (3.2/s), 64 chunks, about 30.0 s left; \
                        waiting+in flight: extract 12+2";
        assert_eq!(plain(&figures), expected);
        figures.progress.intake.finished = false;
        assert!(header(&figures).starts_with("10 of 40+ documents"));
        let looking = Recent::default().figures(seconds(1), Numbers::default(), progress(false));
        assert_eq!(header(&looking), "40 files found");
    }

    #[test]
    fn a_providers_budget_and_who_waits_for_it_are_told() {
        let waiting = |calls, seconds| WaitingRow { collection: "chunks".into(), calls, seconds };
        let row = ProviderRow {
            name: "m".into(),
            running: 3,
            waiting: vec![waiting(11, 4.0), waiting(1, 2.0)],
            tokens_left: Some(620_000.4),
            tokens_per_minute: Some(1e6),
            closed: Some("throttled"),
            closed_seconds: 1.5,
            ..ProviderRow::default()
        };
        let expected =
            "m: 3 calls, 12 wait up to 4.0 s, 620,000 of 1,000,000 tokens a minute left, throttled for 1.5 s";
        assert_eq!(provider(&row), expected);
        assert_eq!(provider(&ProviderRow { name: "m".into(), ..ProviderRow::default() }), "m: 0 calls");
        let mut figures = Figures { progress: ProgressSnapshot::default(), ..Figures::default() };
        figures.numbers.records = Records { read: 1_000, stored: 600, batches_sent: 4, batches_ended: 2 };
        assert_eq!(header(&figures), "1,000 records, 600 stored · 4 batches sent, 2 ended");
    }

    #[test]
    fn more_documents_may_end_than_were_known_to_begin() {
        let summary = RunSummary { registered: 2, completed: 3, ..RunSummary::default() };
        assert_eq!(Numbers::of(&summary, 0).wanted, 3);
        assert_eq!(Numbers::of(&summary, 5).wanted, 7);
    }
}
