//! Tests the results of batches that fail on demand.

use std::time::Duration;

use docweir_mock_provider::{Act, MockProvider, On, Options, Pace, Rule};
use serde_json::{Value, json};

use crate::client::{Client, floats, ids, rows, start};

fn with(rule: Rule) -> (MockProvider, Client) {
    start(Options { faults: vec![rule], ..Options::default() })
}

fn outcome(act: Act) -> Rule {
    Rule::new(On::BatchOutcome, act)
}

/// Runs a batch of ten rows until it has the status. Returns the batch and the text of its output file.
fn run(rule: Rule, status: &str) -> (MockProvider, Client, Value, String) {
    let (mock, client) = with(rule);
    let batch = client.wait(&client.submit(&rows(10)), status);
    let output = match batch["output_file_id"].is_null() {
        true => String::new(),
        false => client.content(&batch["output_file_id"]).text(),
    };
    (mock, client, batch, output)
}

fn parsed(output: &str) -> Vec<Value> {
    output.lines().filter_map(|line| serde_json::from_str(line).ok()).collect()
}

#[test]
fn fail() {
    let (mock, client, batch, output) = run(outcome(Act::Fail).times(1), "failed");
    assert_eq!((&batch["errors"]["data"][0]["code"], &output[..]), (&json!("server_error"), ""));
    assert_eq!(mock.charges().batch.tokens, 0);
    client.wait(&client.submit(&rows(2)), "completed");
    assert_eq!(mock.charges().faults["batch_outcome:fail"], 1);
}

#[test]
fn expire_after_a_share() {
    let (mock, client, batch, output) = run(outcome(Act::Expire).share(0.3), "expired");
    assert_eq!(ids(&parsed(&output)), [0, 1, 2]);
    assert_eq!(ids(&client.content(&batch["error_file_id"]).lines()), [3, 4, 5, 6, 7, 8, 9]);
    assert_eq!(mock.charges().batch.requests, 3);
}

#[test]
fn cancelled_by_somebody_else() {
    let (mock, _client, batch, output) = run(outcome(Act::Cancel), "cancelled");
    assert_eq!((ids(&parsed(&output)), &batch["error_file_id"]), (vec![0, 1, 2, 3, 4], &Value::Null));
    assert_eq!(mock.charges().batch.requests, 5);
}

#[test]
fn stuck_until_it_expires() {
    let pace = Pace { expire: Duration::from_millis(1500), ..Pace::default() };
    let (_mock, client) = start(Options { pace, faults: vec![outcome(Act::Stuck)], ..Options::default() });
    let id = client.submit(&rows(10));
    client.wait(&id, "in_progress");
    let batch = client.wait(&id, "expired");
    assert_eq!(batch["output_file_id"], Value::Null);
    assert_eq!(client.content(&batch["error_file_id"]).lines().len(), 10);
}

#[test]
fn shuffled() {
    let (_mock, _client, _, output) = run(outcome(Act::Shuffled), "completed");
    let lines = parsed(&output);
    assert_eq!(ids(&lines), (0..10).collect::<Vec<_>>());
    let order: Vec<_> = lines.iter().map(|line| line["custom_id"].to_string()).collect();
    assert!(!order.is_sorted(), "{order:?}");
}

#[test]
fn a_line_that_is_no_json() {
    let (mock, _client, batch, output) = run(outcome(Act::BadLine), "completed");
    assert_eq!((output.lines().count(), parsed(&output).len()), (10, 9));
    assert_eq!((&batch["request_counts"]["completed"], mock.charges().batch.requests), (&json!(10), 10));
}

#[test]
fn lines_that_are_there_twice() {
    let (mock, _client, _, output) = run(outcome(Act::DuplicateLines).share(0.2), "completed");
    assert_eq!(ids(&parsed(&output)), [0, 1, 2, 3, 4, 4, 5, 6, 7, 8, 9, 9]);
    assert_eq!(mock.charges().batch.requests, 10, "each row must be charged once");
}

#[test]
fn rows_that_fail() {
    let (mock, client, batch, output) = run(outcome(Act::ErrorLines).share(0.4), "completed");
    let errors = client.content(&batch["error_file_id"]).lines();
    assert_eq!((parsed(&output).len(), errors.len()), (6, 4));
    let status: Vec<_> = errors.iter().map(|line| line["response"]["status_code"].as_u64().unwrap()).collect();
    assert!(status.contains(&400) && status.contains(&500), "{status:?}");
    assert_eq!(batch["request_counts"], json!({"total": 10, "completed": 6, "failed": 4}));
    assert_eq!(mock.charges().batch.requests, 6);

    let (_mock, client, batch, _) = run(outcome(Act::ErrorLines).code(429).share(1.0), "completed");
    assert!(client.content(&batch["error_file_id"]).lines().iter().all(|line| line["response"]["status_code"] == 429));
}

#[test]
fn vectors_that_are_too_short() {
    let (_mock, _client, _, output) = run(outcome(Act::WrongDimension).share(0.5), "completed");
    let length = |line: &Value| floats(&line["response"]["body"]["data"][0]["embedding"]).len();
    let lengths: Vec<_> = parsed(&output).iter().map(length).collect();
    assert_eq!(lengths, [16, 15, 16, 15, 16, 15, 16, 15, 16, 15]);
}

#[test]
fn a_file_that_ends_too_early() {
    let (_mock, _client, batch, output) = run(outcome(Act::Truncated), "completed");
    assert_eq!((output.lines().count(), parsed(&output).len(), output.ends_with('\n')), (10, 9, false));
    assert_eq!(batch["request_counts"]["completed"], 10);
}

#[test]
fn rows_in_neither_file() {
    let (mock, _client, batch, output) = run(outcome(Act::MissingLines).share(0.2), "completed");
    assert_eq!((ids(&parsed(&output)), &batch["error_file_id"]), (vec![0, 1, 2, 3, 5, 6, 7, 8], &Value::Null));
    assert_eq!(batch["request_counts"], json!({"total": 10, "completed": 8, "failed": 0}));
    assert_eq!(mock.charges().batch.requests, 8);
}
