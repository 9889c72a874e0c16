//! Tests `docweir doctor` by provoking each finding.

use serde_json::{Value, json};

use crate::kit::{Ran, TestFolder};

/// Returns the finding of a check, and asserts that the check has exactly one finding.
#[track_caller]
pub fn finding(ran: &Ran, check: &str) -> Value {
    let found: Vec<Value> = ran.json().into_iter().filter(|f| f["check"] == check).collect();
    assert_eq!(found.len(), 1, "{check}: {}{}", ran.out, ran.err);
    found[0].clone()
}

#[track_caller]
fn is(finding: &Value, verdict: &str, parts: &[&str]) {
    assert_eq!(finding["verdict"], verdict, "{finding}");
    let text = format!("{} {}", finding["text"], finding["fix"]);
    for part in parts {
        assert!(text.contains(part), "{part:?} is not in {finding}");
    }
    let has_fix = finding["fix"].as_str().is_some_and(|fix| !fix.is_empty());
    assert_eq!(has_fix, verdict != "fine", "{finding}");
}

#[test]
fn a_fresh_machine_is_fine_and_nothing_is_made() {
    let place = TestFolder::new();
    let ran = place.run(["doctor", "--json"]);
    is(&finding(ran.code(0), "state folder"), "fine", &["first run"]);
    is(&finding(&ran, "model"), "warning", &["hashed"]);
    assert!(!place.state().exists());
    place.generate(1);
    place.ingest(&[]).code(0);
    is(&finding(place.run(["doctor", "--json"]).code(0), "state folder"), "fine", &["is writable"]);
    let shown = place.run(["doctor"]);
    assert!(shown.code(0).out.contains("a run can start; "), "{}", shown.out);
    assert!(shown.out.contains("to do: "), "{}", shown.out);
}

#[test]
fn a_machine_that_lacks_something_is_told_what() {
    let place = TestFolder::new();
    let ran = place.run(["doctor", "--json", "--set", "doctor.min_free_bytes=1125899906842624"]);
    is(&finding(ran.code(0), "disk"), "warning", &["doctor.min_free_bytes", "state.folder"]);
    let ran = place.run(["doctor", "--json", "--set", "doctor.min_descriptors=1073741824"]);
    is(&finding(ran.code(0), "open files"), "warning", &["ulimit -n"]);
    let ran = place.run(["doctor", "--json", "--set", "extract.options.memory_limit_bytes=1099511627776"]);
    is(&finding(ran.code(0), "memory"), "warning", &["extract.workers.max"]);
    std::fs::create_dir(place.path().join("thesis")).unwrap();
    std::fs::write(place.path().join("thesis/one.tex"), "mine").unwrap();
    let ran = place.run(["doctor", "--json", "--state", "thesis"]);
    is(&finding(ran.code(1), "state folder"), "problem", &["state.folder"]);
}

/// Checks a full disk and a read-only disk. Only root can mount them; without root, the test is skipped.
#[test]
fn a_full_disk_and_a_read_only_one_are_problems() {
    let place = TestFolder::new();
    let script = "mkdir -p small && mount -t tmpfs -o size=512k tmpfs small && \
        { \"$0\" doctor --json --state small/.docweir; echo \"code $?\"; mount -o remount,ro small; \
          \"$0\" doctor --json --state small/.docweir; echo \"code $?\"; }";
    let own = place.command(["doctor"]);
    let program = own.get_program().to_owned();
    let mut command = std::process::Command::new("unshare");
    command.args(["--mount", "sh", "-c", script]).arg(program).current_dir(place.path());
    command.env("DOCWEIR__EMBED__OPTIONS__PROVIDER", "hashed");
    let ran = Ran::of(command.output().unwrap());
    if ran.out.is_empty() {
        println!("skipped: cannot mount a file system here: {}", ran.err);
        return;
    }
    let states: Vec<Value> = ran
        .out
        .lines()
        .filter_map(|line| serde_json::from_str::<Value>(line).ok())
        .filter(|finding| finding["check"] == "state folder")
        .collect();
    is(&states[0], "problem", &["free some space"]);
    is(&states[1], "problem", &["mount the disk writable"]);
    assert_eq!(ran.out.lines().filter(|line| *line == "code 1").count(), 2, "{}", ran.out);
}

#[test]
fn an_endpoint_without_a_key_with_a_wrong_one_or_out_of_reach_is_a_problem() {
    let mock = docweir_mock_provider::MockProvider::start(docweir_mock_provider::Options {
        keys: vec!["sk-right".into()],
        ..docweir_mock_provider::Options::default()
    });
    let mock = mock.unwrap();
    let place = TestFolder::new();
    let run = |url: &str, key: Option<&str>, model: &str| {
        let mut command = place.command(["doctor", "--json"]);
        command
            .env("DOCWEIR__EMBED__OPTIONS__PROVIDER", "openai")
            .env("DOCWEIR__EMBED__OPTIONS__OPENAI__BASE_URL", url)
            .env("DOCWEIR__EMBED__OPTIONS__OPENAI__MODEL", model)
            .env("DOCWEIR__EMBED__OPTIONS__OPENAI__DIMENSIONS", "1536")
            .env_remove("OPENAI_API_KEY");
        if let Some(key) = key {
            command.env("OPENAI_API_KEY", key);
        }
        let ran = Ran::of(command.output().unwrap());
        assert!(!ran.out.contains("sk-"), "{}", ran.out);
        let code = ran.status.code();
        (finding(&ran, "embeddings"), code)
    };
    let small = "text-embedding-3-small";
    let (found, code) = run(&mock.base_url(), Some("sk-right"), small);
    is(&found, "fine", &["accepts the key, and returns vectors of text-embedding-3-small"]);
    assert_eq!(code, Some(0));
    let (found, code) = run(&mock.base_url(), Some("sk-wrong"), small);
    is(&found, "problem", &["401", "$OPENAI_API_KEY"]);
    assert_eq!(code, Some(1));
    is(&run(&mock.base_url(), None, small).0, "problem", &["OPENAI_API_KEY"]);
    is(&run(&mock.base_url(), Some("sk-right"), "no-such-model").0, "problem", &["no-such-model"]);
    is(&run("http://127.0.0.1:9/v1", Some("sk-right"), small).0, "problem", &["base_url"]);
    // One call was made, and is in the ledger.
    let charged = mock.charges().live;
    assert_eq!(charged.requests, 1);
    let cost = place.run(["cost", "--by", "stage", "--json"]);
    let line = cost.code(0).json().remove(0);
    assert_eq!((&line["name"], &line["tokens"]), (&json!("doctor"), &json!(charged.tokens)), "{line}");
    // Without a budget, no call is made.
    let mut command = place.command(["doctor", "--json", "--set", "budget.day_usd=0.00000001"]);
    command
        .env("DOCWEIR__EMBED__OPTIONS__PROVIDER", "openai")
        .env("DOCWEIR__EMBED__OPTIONS__OPENAI__BASE_URL", mock.base_url())
        .env("OPENAI_API_KEY", "sk-right");
    let ran = Ran::of(command.output().unwrap());
    is(&finding(ran.code(0), "embeddings"), "warning", &["the budget for today is used up"]);
    assert_eq!(mock.charges().live.requests, 1);
}
