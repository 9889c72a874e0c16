//! Formats the summary that a run prints at its end.

use std::path::Path;
use std::time::Duration;

use serde::Serialize;

use super::output::{Out, count, duration, plural, printable};
use super::table::{Paint, Table, left, right};
use crate::actors::run_summary::{PruneRefused, Records, RunSummary, WaitReason};
use crate::exit::Exit;
use crate::intake::source;

/// Maximum number of failures that a section of the summary lists. Further failures are only counted.
const LISTED: usize = 20;

/// Holds everything that is reported about a finished run.
pub struct RunReport<'a> {
    pub summary: &'a RunSummary,
    pub elapsed: Duration,
    /// Text that shows users where the state is stored.
    pub state: String,
    /// Folder that paths are shown relative to.
    pub here: &'a Path,
    /// Number of the signal that stopped the run, if any.
    pub interrupted: Option<i32>,
    /// Reason for the system failure, if any.
    pub failed: Option<&'a str>,
    /// Number of open batches, and number of items that wait to be sent.
    pub outside: (u64, u64),
}

#[derive(Serialize)]
pub struct ReportLine<'a> {
    event: &'static str,
    /// Outcome of the run: `finished`, `interrupted` or `failed`.
    ended: &'static str,
    exit_code: u8,
    #[serde(flatten)]
    summary: &'a RunSummary,
    unfinished: u64,
    batches_under_way: u64,
    items_unsent: u64,
    elapsed_seconds: f64,
    pages_per_second: f64,
    state: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    failure: Option<&'a str>,
}

impl RunReport<'_> {
    pub fn exit(&self) -> Exit {
        match (self.failed, self.interrupted) {
            (Some(_), _) => Exit::System,
            (None, Some(signal)) => Exit::Signal(signal),
            (None, None) if !self.summary.prune_refused.is_empty() => Exit::Failed,
            (None, None) if !self.summary.all_well() => Exit::Rejected,
            (None, None) if self.waits_for_budget().is_some() => Exit::Budget,
            (None, None) => Exit::Success,
        }
    }

    /// Returns why documents or items wait for the budget, or `None` if none do.
    fn waits_for_budget(&self) -> Option<&str> {
        let waits = self.summary.parked_for(WaitReason::Budget) + self.outside.1 > 0;
        self.summary.budget_spent.as_deref().filter(|_| waits)
    }

    fn pages_per_second(&self) -> f64 {
        self.summary.pages as f64 / self.elapsed.as_secs_f64().max(1e-3)
    }

    /// Returns the number of documents that the run registered or resumed but did not finish.
    fn unfinished(&self) -> u64 {
        let t = self.summary;
        (t.registered + t.resumed).saturating_sub(t.completed + t.quarantined_now() + t.superseded + t.parked)
    }

    /// Returns the last line of the `--json` output.
    pub fn json(&self) -> ReportLine<'_> {
        let ended = match self.exit() {
            Exit::System => "failed",
            Exit::Signal(_) => "interrupted",
            _ => "finished",
        };
        ReportLine {
            event: "summary",
            ended,
            exit_code: self.exit().code(),
            summary: self.summary,
            unfinished: self.unfinished(),
            batches_under_way: self.outside.0,
            items_unsent: self.outside.1,
            elapsed_seconds: (self.elapsed.as_secs_f64() * 1e3).round() / 1e3,
            pages_per_second: (self.pages_per_second() * 1e2).round() / 1e2,
            state: self.state.clone(),
            failure: self.failed,
        }
    }

    pub fn lines(&self, out: &Out) -> Vec<String> {
        let mut lines = vec![self.headline(out), String::new()];
        lines.extend(self.sums().lines(out));
        if let Some(reason) = self.waits_for_budget() {
            lines.extend([String::new(), out.bold("Waiting"), format!("  {}", printable(reason))]);
        }
        self.not_pruned(out, &mut lines);
        self.rejected(out, &mut lines);
        self.unreadable(out, &mut lines);
        self.refused(out, &mut lines);
        self.notes(out, &mut lines);
        lines.push(String::new());
        lines.push(format!("  {} {}", out.dim("state"), printable(&self.state)));
        if let Some(next) = self.next() {
            lines.push(format!("  {}  {next}", out.dim("next")));
        }
        lines
    }

    fn headline(&self, out: &Out) -> String {
        let (t, time) = (self.summary, duration(self.elapsed.as_secs_f64()));
        let left = match self.unfinished() {
            0 => "no documents unfinished".to_owned(),
            n => format!("{} unfinished", plural(n, "document")),
        };
        if self.failed.is_some() {
            return out.red(&format!("Failed after {time}: {left}, no data is lost"));
        }
        if self.interrupted.is_some() {
            return out.yellow(&format!("Stopped after {time}: {left}"));
        }
        let r = &t.records;
        let rejected = t.quarantined_now() + t.unreadable_now() + t.still_quarantined;
        let did = t.completed + t.deleted + t.moved + r.stored + r.failed + t.batches.submitted + t.batches.ended > 0;
        let text = match (did, rejected, t.files + r.new + r.changed + r.unchanged + r.refused_now()) {
            _ if self.waits_for_budget().is_some() => format!("Stopped at the budget after {time}"),
            (false, 0, _) if self.outside.0 > 0 => format!("No batch ended within {time}"),
            (false, 0, 0) if t.unchanged + t.parked == 0 => format!("Nothing to do: no documents were found ({time})"),
            (false, 0, _) => format!("Nothing to do: everything is up to date ({time})"),
            _ => format!("Done in {time}"),
        };
        let text = if t.prune_refused.is_empty() { text } else { format!("{text}; not pruned") };
        match (rejected, r.refused_now() + r.failed + r.still_failed) {
            (0, 0) if !t.prune_refused.is_empty() => out.yellow(&text),
            (0, 0) if self.waits_for_budget().is_some() => out.yellow(&text),
            (0, 0) => out.green(&text),
            (0, n) => out.yellow(&format!("{text}; {} rejected", plural(n, "record"))),
            (n, _) => out.yellow(&format!("{text}; {} rejected", plural(n, "document"))),
        }
    }

    /// Builds the table of totals. Zero counts are left out, except for finished documents.
    fn sums(&self) -> Table {
        let t = self.summary;
        let mut table = Table::indented(2);
        let mut row = |name: &str, n: u64, aside: String| {
            table.row([left(name).painted(Paint::Dim), right(count(n)), left(aside).painted(Paint::Dim)]);
        };
        let asides = [(t.replaced, "replaced"), (t.resumed, "resumed"), (t.retried, "retried")];
        let asides: Vec<String> =
            asides.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", count(*n))).collect();
        let documents = t.files + t.registered + t.resumed + t.completed + t.deleted + t.unchanged > 0;
        if documents || t.records == Records::default() {
            row("done", t.completed, asides.join(", "));
        }
        let mut some = |name: &str, n: u64, aside: String| {
            if n > 0 {
                row(name, n, aside);
            }
        };
        some("unchanged", t.unchanged, String::new());
        some("moved", t.moved, "the same documents under new paths".into());
        some("deleted", t.deleted, String::new());
        let outside =
            [(WaitReason::Batch, "for a batch"), (WaitReason::Budget, "for the budget"), (WaitReason::Other, "other")];
        let outside = outside.map(|(what, text)| (t.parked_for(what), text));
        let outside: Vec<String> =
            outside.iter().filter(|(n, _)| *n > 0).map(|(n, text)| format!("{} {text}", count(*n))).collect();
        some("waiting", t.parked, outside.join(", "));
        some("left alone", t.left_alone.total(), printable(&t.left_alone.describe()));
        some("superseded", t.superseded, "changed or claimed by another process meanwhile".into());
        let still = match t.still_quarantined {
            0 => String::new(),
            n => format!("and {} from earlier runs", count(n)),
        };
        let quarantined = t.quarantined_now();
        match (quarantined, t.still_quarantined) {
            (0, n) => some("quarantined", n, "from earlier runs, unchanged since".into()),
            (n, _) => some("quarantined", n, still),
        }
        some("unreadable", t.unreadable_now(), String::new());
        some("pages", t.pages, format!("{:.1}/s", self.pages_per_second()));
        some("chunks", t.chunks, String::new());
        some("vectors", t.vectors, String::new());
        let r = &t.records;
        let all = r.new + r.changed + r.unchanged;
        let asides = [(r.new, "new"), (r.changed, "changed"), (r.unchanged, "unchanged"), (r.noise, "noise")];
        let asides: Vec<String> =
            asides.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{} {what}", count(*n))).collect();
        some("records", all, asides.join(", "));
        some("stored", r.stored, String::new());
        some("refused", r.refused_now(), "lines that are not valid records".into());
        some("failed", r.failed + r.still_failed, "refused by the provider".into());
        let b = t.batches;
        let ended = if b.ended > 0 { format!("{} ended", count(b.ended)) } else { String::new() };
        match b.submitted {
            0 => some("batches", b.ended, "ended".into()),
            n => some("batches", n, ended),
        }
        some("open", self.outside.0, "batches at the provider".into());
        some("unsent", self.outside.1, "texts and records not sent yet".into());
        some("stale", b.stale, "changed or deleted after they were sent".into());
        let cached = if t.cached_tokens > 0 { format!("and {} cached", count(t.cached_tokens)) } else { String::new() };
        if t.tokens + t.cached_tokens > 0 {
            row("tokens", t.tokens, cached);
            table.row([left("cost").painted(Paint::Dim), right(dollars(t.cost_usd))]);
        }
        table
    }

    fn rejected(&self, out: &Out, lines: &mut Vec<String>) {
        let t = self.summary;
        if t.quarantined.is_empty() {
            return;
        }
        lines.extend([String::new(), out.bold("Quarantined")]);
        let mut table = Table::indented(2);
        for one in t.quarantined.iter().take(LISTED) {
            table.row([
                left(source::display(&one.source, self.here)),
                left(one.stage.verb()).painted(Paint::Dim),
                left(one.error.code.as_str()).painted(Paint::Red),
                left(printable(&one_line(&one.error.to_string()))),
            ]);
        }
        lines.extend(table.lines(out));
        let more = t.quarantined_now().saturating_sub(LISTED as u64);
        if more > 0 {
            lines.push(format!("  and {} more: docweir quarantine list", count(more)));
        }
    }

    fn not_pruned(&self, out: &Out, lines: &mut Vec<String>) {
        let refused = &self.summary.prune_refused;
        if refused.is_empty() {
            return;
        }
        lines.extend([String::new(), out.bold("Not pruned")]);
        let line = |one: &PruneRefused| format!("  {}: {}", source::display(&one.folder, self.here), one.reason);
        lines.extend(refused.iter().take(LISTED).map(line));
    }

    fn unreadable(&self, out: &Out, lines: &mut Vec<String>) {
        let t = self.summary;
        if t.unreadable.is_empty() {
            return;
        }
        lines.extend([String::new(), out.bold("Unreadable")]);
        let mut table = Table::indented(2);
        for one in t.unreadable.iter().take(LISTED) {
            table.row([left(source::display(&one.source, self.here)), left(printable(&one_line(&one.reason)))]);
        }
        lines.extend(table.lines(out));
        let more = t.unreadable_now().saturating_sub(LISTED as u64);
        if more > 0 {
            lines.push(format!("  and {} more", count(more)));
        }
    }

    fn refused(&self, out: &Out, lines: &mut Vec<String>) {
        let r = &self.summary.records;
        if r.refused.is_empty() {
            return;
        }
        lines.extend([String::new(), out.bold("Refused")]);
        let mut table = Table::indented(2);
        for one in r.refused.iter().take(LISTED) {
            table.row([left(self.place(&one.source, one.line)), left(printable(&one_line(&one.reason)))]);
        }
        lines.extend(table.lines(out));
        let more = r.refused_now().saturating_sub(LISTED as u64);
        if more > 0 {
            lines.push(format!("  and {} more", count(more)));
        }
    }

    /// Returns the place of a record. The line is 0 if the source has no lines.
    fn place(&self, uri: &str, line: u64) -> String {
        let source = source::display(uri, self.here);
        if line == 0 { source } else { format!("{source}:{line}") }
    }

    fn notes(&self, out: &Out, lines: &mut Vec<String>) {
        let r = &self.summary.records;
        if self.summary.notes.is_empty() && r.notes.is_empty() {
            return;
        }
        lines.extend([String::new(), out.bold("Notes")]);
        let mut notes: Vec<_> = self.summary.notes.iter().collect();
        notes.sort_by_key(|(text, n)| (std::cmp::Reverse(**n), text.as_str()));
        for (text, n) in notes.iter().take(LISTED) {
            lines.push(format!("  {}: {}", plural(**n, "document"), printable(&one_line(text))));
        }
        let more = notes.len().saturating_sub(LISTED);
        if more > 0 {
            lines.push(format!("  and {}", plural(more as u64, "more kind")));
        }
        let mut table = Table::indented(2);
        for one in r.notes.iter().take(LISTED) {
            table.row([left(self.place(&one.source, one.line)), left(printable(&one_line(&one.text)))]);
        }
        lines.extend(table.lines(out));
        let more = (r.notes.len() as u64 + r.notes_unlisted).saturating_sub(LISTED as u64);
        if more > 0 {
            lines.push(format!("  and {}", plural(more, "more note")));
        }
    }

    fn next(&self) -> Option<&'static str> {
        let t = self.summary;
        if self.failed.is_some() || self.interrupted.is_some() {
            return Some("run the same command again to continue at the unfinished stage");
        }
        if t.quarantined_now() + t.still_quarantined > 0 {
            return Some("docweir quarantine list");
        }
        if t.records.failed + t.records.still_failed > 0 {
            return Some("docweir batch retry");
        }
        if self.waits_for_budget().is_some() || !t.prune_refused.is_empty() {
            return None;
        }
        match self.outside {
            (_, 1..) => return Some("docweir batch submit --wait"),
            (1.., _) => return Some("docweir batch poll --wait"),
            _ => {}
        }
        if t.records.stored + t.records.unchanged > 0 {
            return Some("docweir search --collection … \"…\"");
        }
        if t.completed + t.unchanged > 0 {
            return Some("docweir search \"…\"");
        }
        if t.parked + t.records.refused_now() > 0 {
            return None;
        }
        (t.files + t.deleted == 0).then_some("add other extensions with --include, or name the files")
    }
}

/// Joins the lines of a message into one line, because line breaks would break the table.
fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Formats an amount in US dollars, such as `$1.50`. Amounts below one cent get six decimal places.
pub fn dollars(usd: f64) -> String {
    if usd != 0.0 && usd < 0.01 { format!("${usd:.6}") } else { format!("${usd:.2}") }
}

#[cfg(test)]
mod tests {
    use docweir_core::documents::{DocumentId, Stage};
    use docweir_core::error::StageError;

    use super::*;
    use crate::actors::run_summary::{Rejected, Unreadable};
    use crate::intake::walk::Reason;
    use crate::messages::event::Event;

    const PLAIN: Out = Out { colour: false };

    fn report<'a>(summary: &'a RunSummary, interrupted: Option<i32>, failed: Option<&'a str>) -> RunReport<'a> {
        let elapsed = Duration::from_secs(10);
        RunReport {
            summary,
            elapsed,
            state: ".docweir".into(),
            here: Path::new("/home/me"),
            interrupted,
            failed,
            outside: (0, 0),
        }
    }

    fn rejected(n: u32) -> Rejected {
        let error = StageError::permanent("encrypted", "the file needs\na password");
        let source = format!("file:///home/me/a{n}.pdf");
        Rejected { document: DocumentId::mint(0, n), source, stage: Stage::Extraction, error }
    }

    #[test]
    fn a_good_run_is_told_in_a_few_lines() {
        let mut summary = RunSummary {
            files: 9,
            registered: 7,
            completed: 7,
            unchanged: 2,
            replaced: 2,
            resumed: 1,
            ..RunSummary::default()
        };
        (summary.pages, summary.chunks, summary.vectors) = (41, 1096, 1096);
        (summary.tokens, summary.cached_tokens) = (123_456, 2_300);
        summary.notes = [("2 pages have no text layer".to_owned(), 1)].into();
        let summary = report(&summary, None, None);
        assert_eq!(summary.exit(), Exit::Success);
        let expected = "\
Done in 10.0 s

  done             7  2 replaced, 1 resumed
  unchanged        2
  pages           41  4.1/s
  chunks       1,096
  vectors      1,096
  tokens     123,456  and 2,300 cached
  cost         $0.00

Notes
  1 document: 2 pages have no text layer

  state .docweir
  next  docweir search \"…\"";
        assert_eq!(summary.lines(&PLAIN).join("\n"), expected);
    }

    #[test]
    fn every_rejected_document_has_its_reason_and_long_lists_are_cut() {
        let unreadable = vec![Unreadable { source: "file:///x/b.pdf".into(), reason: "permission denied".into() }];
        let summary = RunSummary {
            files: 24,
            registered: 23,
            completed: 1,
            quarantined: (0..22).map(rejected).collect(),
            unreadable,
            ..RunSummary::default()
        };
        let summary = report(&summary, None, None);
        assert_eq!(summary.exit(), Exit::Rejected);
        let text = summary.lines(&PLAIN).join("\n");
        assert!(text.starts_with("Done in 10.0 s; 23 documents rejected"), "{text}");
        assert!(text.contains("\n  a0.pdf   extract  encrypted  the file needs a password\n"), "{text}");
        assert!(text.contains("\n  and 2 more: docweir quarantine list\n"), "{text}");
        assert!(text.contains("\nUnreadable\n  /x/b.pdf  permission denied\n"), "{text}");
        assert!(text.ends_with("next  docweir quarantine list"), "{text}");
    }

    #[test]
    fn what_is_unfinished_goes_on_with_the_next_run() {
        let summary = RunSummary { files: 5, registered: 5, completed: 2, ..RunSummary::default() };
        let stopped = report(&summary, Some(15), None);
        assert_eq!(stopped.exit(), Exit::Signal(15));
        assert_eq!(stopped.lines(&PLAIN)[0], "Stopped after 10.0 s: 3 documents unfinished");
        let failed = report(&summary, Some(15), Some("the disk is full"));
        assert_eq!(failed.exit(), Exit::System);
        assert!(failed.lines(&PLAIN).join("\n").contains("run the same command again"));
        assert_eq!(serde_json::to_value(failed.json()).unwrap()["failure"], "the disk is full");
    }

    #[test]
    fn a_run_with_nothing_to_do_says_so() {
        let nothing = RunSummary::default();
        let lines = report(&nothing, None, None).lines(&PLAIN);
        assert_eq!(lines[0], "Nothing to do: no documents were found (10.0 s)");
        assert!(lines.join("\n").contains("--include"));
        let same = RunSummary { files: 3, unchanged: 3, ..RunSummary::default() };
        assert_eq!(report(&same, None, None).lines(&PLAIN)[0], "Nothing to do: everything is up to date (10.0 s)");
        let still = RunSummary { files: 3, unchanged: 3, still_quarantined: 1, ..RunSummary::default() };
        assert_eq!(report(&still, None, None).exit(), Exit::Rejected, "an unsolved case is not forgotten");
    }

    #[test]
    fn work_that_waits_for_the_budget_is_told_with_the_reason() {
        let mut summary = RunSummary { files: 3, registered: 3, ..RunSummary::default() };
        let reason = "the budget for today is used up ($1.00 of $1.00): raise `budget.day_usd` or wait";
        summary.add(&Event::Parked {
            document: DocumentId::mint(0, 1),
            source: "file:///a.pdf".into(),
            stage: Stage::Embedding,
            reason: reason.into(),
        });
        let run = report(&summary, None, None);
        assert_eq!(run.exit(), Exit::Budget);
        let text = run.lines(&PLAIN).join("\n");
        assert!(text.starts_with("Stopped at the budget after 10.0 s\n"), "{text}");
        assert!(
            text.contains("waiting  1  1 for the budget") && text.contains(&format!("\nWaiting\n  {reason}")),
            "{text}"
        );
        // Records wait too. They are counted as unsent.
        let mut summary = RunSummary::default();
        summary.add(&Event::BudgetSpent { text: reason.into() });
        assert_eq!(report(&summary, None, None).exit(), Exit::Success, "nothing waits");
        let run = RunReport { outside: (0, 60), ..report(&summary, None, None) };
        assert_eq!(run.exit(), Exit::Budget);
        assert_eq!(run.lines(&PLAIN)[0], "Stopped at the budget after 10.0 s");
        summary.quarantined.push(rejected(1));
        assert_eq!(report(&summary, None, None).exit(), Exit::Rejected, "a rejection is told first");
    }

    #[test]
    fn what_was_left_alone_is_counted_by_reason() {
        let mut summary = RunSummary { files: 1, unchanged: 1, ..RunSummary::default() };
        summary.left_alone.add(Reason::Extension("docx".into()));
        summary.left_alone.add(Reason::Hidden);
        let run = report(&summary, None, None);
        let text = run.lines(&PLAIN).join("\n");
        assert!(text.contains("\n  left alone  2  1 by extension (1 .docx), 1 hidden\n"), "{text}");
        let json = serde_json::to_value(run.json()).unwrap();
        assert_eq!((&json["left_alone"]["hidden"], &json["left_alone"]["extensions"]["docx"]), (&1.into(), &1.into()));
    }

    #[test]
    fn programs_get_the_same_sums() {
        let summary =
            RunSummary { files: 1, registered: 1, quarantined: vec![rejected(1)], pages: 5, ..RunSummary::default() };
        let json = serde_json::to_value(report(&summary, None, None).json()).unwrap();
        assert_eq!(json["event"], "summary");
        assert_eq!((json["exit_code"].as_u64(), json["pages"].as_u64()), (Some(3), Some(5)));
        assert_eq!(json["quarantined"][0]["error"]["code"], "encrypted");
        assert_eq!(json["pages_per_second"], 0.5);
    }

    #[test]
    fn small_costs_keep_their_digits() {
        assert_eq!(
            (dollars(0.0), dollars(0.0000213), dollars(1.5)),
            ("$0.00".into(), "$0.000021".into(), "$1.50".into())
        );
    }
}
