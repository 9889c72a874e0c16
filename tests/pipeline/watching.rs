//! Tests the log lines and metrics of a run.

use std::collections::{BTreeMap, BTreeSet};
use std::process::Command;

use serde_json::Value;

use crate::kit::{Ran, TestFolder};

const INGEST: [&str; 5] = ["ingest", "docs", "--json", "--progress", "none"];
/// Texts that occur in the documents, their file names or their folder. No log line may contain any of them.
const PRIVATE: [&str; 6] = [
    "Zenobia",
    "Quillfeather",
    "zenobia.q@example.org",
    "DE89 3704 0044 0532 0130 00",
    "+49 30 901820",
    "4111 1111 1111 1111",
];

fn logged(place: &TestFolder, args: &[&str], level: &str) -> (Ran, Vec<Value>) {
    let mut command = place.command(args);
    command.env("DOCWEIR__LOG__LEVEL", level).env("DOCWEIR__LOG__FORMAT", "json");
    let ran = Ran::of(command.output().unwrap());
    let parse = |line: &str| serde_json::from_str(line).unwrap_or_else(|e| panic!("{e}: {line}"));
    let lines = ran.err.lines().filter(|line| line.starts_with('{')).map(parse).collect();
    (ran, lines)
}

fn text<'v>(line: &'v Value, name: &str) -> &'v str {
    line[name].as_str().unwrap_or_default()
}

/// Returns the trace ids of each document version. Asserts that each log line about a document has all required fields.
fn traces(lines: &[Value]) -> BTreeMap<(String, u64), BTreeSet<String>> {
    let mut traces: BTreeMap<(String, u64), BTreeSet<String>> = BTreeMap::new();
    for line in lines {
        assert!(!text(line, "timestamp").is_empty() && !text(line, "level").is_empty(), "{line}");
        let of_stages = ["stage completed", "attempt failed", "document ", "rows visible"];
        if of_stages.iter().any(|m| text(line, "message").starts_with(m)) || line.get("document_id").is_some() {
            assert!(text(line, "document_id").starts_with("doc_"), "{line}");
            assert!(!text(line, "stage").is_empty() && line["attempt"].as_u64() >= Some(1), "{line}");
            let trace = text(line, "trace_id");
            assert!(trace.len() == 32 && trace.bytes().all(|b| b.is_ascii_hexdigit()), "{line}");
            let version = line["version"].as_u64().unwrap();
            traces.entry((text(line, "document_id").to_owned(), version)).or_default().insert(trace.to_owned());
        }
    }
    traces
}

#[test]
fn each_line_about_a_document_says_which_and_none_says_what_is_in_it() {
    let place = TestFolder::new();
    place.generate(3);
    let letter = format!(
        "# A letter\n\nFrom {} {}, {}, {}, {}, {}.\n",
        PRIVATE[0], PRIVATE[1], PRIVATE[2], PRIVATE[3], PRIVATE[4], PRIVATE[5]
    );
    place.write("Zenobia Quillfeather/her letter.md", &letter);
    place.write("Zenobia Quillfeather.pdf", "%PDF-1.7\nno document of Zenobia Quillfeather's at all");
    let (ran, lines) = logged(&place, &INGEST, "trace");
    ran.code(3);
    let said = |lines: &[Value], message: &str| lines.iter().filter(|l| text(l, "message") == message).count();
    assert_eq!(said(&lines, "document registered"), 5);
    assert_eq!(said(&lines, "stage completed"), 4 * 5);
    assert_eq!(said(&lines, "document quarantined"), 1);
    for line in ran.err.lines() {
        let told = PRIVATE.iter().find(|private| line.contains(**private));
        assert_eq!(told, None, "{line}");
    }
    let first = traces(&lines);
    assert_eq!(first.len(), 5);
    assert!(first.values().all(|traces| traces.len() == 1), "{first:?}");
    assert_eq!(first.values().flatten().collect::<BTreeSet<_>>().len(), 5, "each document must have its own trace id");
}

/// Checks that two processes that work on the same document version use the same trace id.
#[test]
fn a_trace_goes_on_in_the_next_process() {
    let place = TestFolder::new();
    place.generate(3);
    let log = |command: &mut Command| {
        let ran =
            Ran::of(command.env("DOCWEIR__LOG__LEVEL", "info").env("DOCWEIR__LOG__FORMAT", "json").output().unwrap());
        let lines: Vec<Value> = ran.err.lines().filter_map(|line| serde_json::from_str(line).ok()).collect();
        (ran, traces(&lines))
    };
    let (killed, first) = log(place.command(INGEST).env("DOCWEIR_FAILPOINT", "embedding.begun=2"));
    assert_eq!(killed.status.code(), None, "the process must be killed");
    let (ran, second) = log(&mut place.command(INGEST));
    ran.code(0);
    place.assert_complete(3);
    assert_eq!(second.len(), 3, "{second:?}");
    for (version, trace) in second {
        assert_eq!(first.get(&version), Some(&trace), "{version:?}");
    }
}

/// Checks that the log lines of a failed attempt and of the next attempt contain the number of the attempt.
#[test]
fn a_failed_attempt_and_the_next_one_have_their_numbers() {
    let place = TestFolder::new();
    place.generate(1);
    let mut command = place.command(INGEST);
    command.env("DOCWEIR__LOG__LEVEL", "info").env("DOCWEIR__LOG__FORMAT", "json");
    command.env("DOCWEIR__RETRY__WAITS_SECONDS", "[0.0, 0.1, 0.1]").env("DOCWEIR_FAILPOINT", "chunking.work=panic:1");
    let ran = Ran::of(command.output().unwrap());
    ran.code(0);
    let lines: Vec<Value> = ran.err.lines().filter_map(|l| serde_json::from_str(l).ok()).collect();
    let attempt = |message: &str| {
        let found = lines.iter().find(|l| text(l, "message").starts_with(message) && text(l, "stage") == "chunking");
        found.unwrap_or_else(|| panic!("{message}: {}", ran.err))["attempt"].clone()
    };
    assert_eq!((attempt("attempt failed"), attempt("stage completed")), (1.into(), 2.into()));
    let panic = lines.iter().find(|l| text(l, "message").starts_with("panic")).unwrap();
    assert_eq!((text(panic, "stage"), &panic["attempt"]), ("chunking", &1.into()), "{panic}");
}

/// Checks the metrics that a run prints on standard output in the embedded metric format, next to its events.
#[test]
fn figures_as_lines_add_up_to_the_summary() {
    let place = TestFolder::new();
    place.generate(12);
    place.write("broken.pdf", "%PDF-1.7\nno document");
    let mut command = place.command(INGEST);
    command
        .env("DOCWEIR__CLOUDWATCH__MODE", "emf")
        .env("DOCWEIR__CLOUDWATCH__INTERVAL_SECONDS", "0.1")
        .env("DOCWEIR__CLOUDWATCH__ENVIRONMENT", "test");
    let ran = Ran::of(command.output().unwrap());
    let summary = ran.code(3).summary();
    assert_eq!(summary["completed"], 12);
    let lines: Vec<Value> = ran.json().into_iter().filter(|line| line.get("_aws").is_some()).collect();
    let sum = |name: &str, stage: &str| -> f64 {
        let of = lines.iter().filter(|l| l["stage"] == stage && l["environment"] == "test");
        of.filter_map(|l| l[name].as_f64().or_else(|| l[name]["Count"].as_f64())).sum()
    };
    for stage in ["extraction", "chunking", "enrichment", "embedding", "loading"] {
        assert_eq!(sum("DocumentsProcessed", stage), 12.0, "{stage}");
        assert_eq!(sum("PoolJobsDone", stage), 12.0, "{stage}");
    }
    assert_eq!((sum("DocumentsFailed", "extraction"), sum("ExtractionDuration", "extraction")), (1.0, 12.0));
    for line in &lines {
        let directive = &line["_aws"]["CloudWatchMetrics"][0];
        assert_eq!(directive["Namespace"], "Docweir");
        for name in directive["Metrics"].as_array().unwrap().iter().map(|m| text(m, "Name")) {
            assert!(line.get(name).is_some(), "{name} is not in {line}");
        }
    }
}
