//! Tests embedding with live calls, with the real binary and a mock provider that speaks OpenAI's protocol.

use std::process::Command;

use docweir_mock_provider::{Act, MockProvider, On, Options, Rule};

use crate::kit::{Ran, TestFolder};

const KEY: &str = "sk-test-do-not-log-9f2c";

fn mock(faults: Vec<Rule>) -> MockProvider {
    MockProvider::start(Options { keys: vec![KEY.into()], faults, charges_by_text: true, ..Options::default() })
        .unwrap()
}

fn with_key(mut command: Command, mock: &MockProvider, key: Option<&str>) -> Ran {
    command
        .env("DOCWEIR__EMBED__OPTIONS__PROVIDER", "openai")
        .env("DOCWEIR__EMBED__OPTIONS__OPENAI__BASE_URL", mock.base_url())
        .env("DOCWEIR__EMBED__OPTIONS__OPENAI__LIMITS__BACKOFF_INITIAL_SECONDS", "0.1")
        .env("DOCWEIR__RETRY__WAITS_SECONDS", "[0.0, 0.1, 0.2]")
        .env("DOCWEIR__RETRY__ATTEMPTS", "8")
        .env_remove("OPENAI_API_KEY");
    if let Some(key) = key {
        command.env("OPENAI_API_KEY", key);
    }
    Ran::of(command.output().unwrap())
}

const INGEST: [&str; 5] = ["ingest", "docs", "--json", "--progress", "none"];

#[test]
fn documents_are_embedded_by_an_endpoint_that_fails_now_and_then() {
    let on = |act, probability| Rule::new(On::Embeddings, act).probability(probability);
    let mock = mock(vec![
        on(Act::Status, 0.1).code(500),
        on(Act::Status, 0.1).code(429).retry_after(0.05),
        on(Act::CutBefore, 0.15),
        on(Act::ShuffledData, 0.1),
    ]);
    let place = TestFolder::new();
    place.generate(30);
    let ran = with_key(place.command(INGEST), &mock, Some(KEY));
    let summary = ran.code(0).summary();
    assert!(!ran.out.contains(KEY) && !ran.err.contains(KEY), "{} {}", ran.out, ran.err);
    place.assert_complete(30);
    let charges = mock.charges();
    assert!(charges.refused.len() == 2 && charges.faults.len() == 3, "{:?} {:?}", charges.refused, charges.faults);
    assert_eq!(charges.texts_paid_twice(), Vec::<&str>::new());
    assert_eq!(summary["tokens"], charges.live.tokens, "{summary}");
    let cost = summary["cost_usd"].as_f64().unwrap();
    assert!((cost * 1e9 - charges.live.nanodollars as f64).abs() < 1.0, "{cost} {}", charges.live.nanodollars);

    // A second run pays nothing. A search pays for the embedding of its question.
    with_key(place.command(INGEST), &mock, Some(KEY)).code(0);
    assert_eq!(mock.charges().live.tokens, charges.live.tokens);
    mock.set_faults(Vec::new()).unwrap();
    let marker = docweir_testkit::marker(7, 1);
    let found = with_key(place.command(["search", &marker, "--json"]), &mock, Some(KEY));
    assert!(found.code(0).out.contains("0007.pdf"), "{}", found.out);

    // The key is in no file and in no message.
    for entry in walkdir::WalkDir::new(place.state()).into_iter().filter_map(Result::ok) {
        if entry.file_type().is_file() {
            let body = std::fs::read(entry.path()).unwrap();
            assert!(!body.windows(KEY.len()).any(|w| w == KEY.as_bytes()), "{}", entry.path().display());
        }
    }
}

#[test]
fn a_key_that_is_missing_or_wrong_is_said_at_once_and_never_repeated() {
    let mock = mock(Vec::new());
    let place = TestFolder::new();
    place.generate(2);
    let ran = with_key(place.command(INGEST), &mock, None);
    assert_ne!(ran.status.code(), Some(0));
    assert!(ran.err.contains("OPENAI_API_KEY"), "{}", ran.err);
    assert_eq!(mock.charges().refused.len(), 0, "no request may be sent");

    let ran = with_key(place.command(INGEST), &mock, Some("sk-wrong-1234567890"));
    assert_ne!(ran.status.code(), Some(0));
    assert!(ran.err.contains("401") && ran.err.contains("$OPENAI_API_KEY"), "{}", ran.err);
    assert!(!ran.err.contains("sk-wrong") && !ran.out.contains("sk-wrong"), "{} {}", ran.out, ran.err);
    // The failed runs do not count as attempts. With the right key, the documents complete.
    with_key(place.command(INGEST), &mock, Some(KEY)).code(0);
    place.assert_complete(2);
}
