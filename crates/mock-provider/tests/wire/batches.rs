//! Tests the steps of a batch without faults, from the upload to the results.

use std::time::Duration;

use docweir_mock_provider::{Limits, Options, Pace, vector};
use serde_json::{Value, json};

use crate::client::{SMALL, floats, ids, row, rows, start};

fn pace(items_per_second: f64) -> Pace {
    Pace { items_per_second: Some(items_per_second), ..Pace::default() }
}

#[test]
fn a_batch_is_worked_off_and_its_lines_say_so() {
    let (mock, client) = start(Options::default());
    let created = client.create(&client.upload(&rows(100))).json();
    assert_eq!((&created["object"], &created["status"]), (&json!("batch"), &json!("validating")));
    assert_eq!((&created["endpoint"], &created["completion_window"]), (&json!("/v1/embeddings"), &json!("24h")));
    assert_eq!(created["metadata"], json!({"ours": "batch 1"}));
    assert_eq!(created["request_counts"], json!({"total": 0, "completed": 0, "failed": 0}));
    let at = |batch: &Value, name: &str| batch[name].as_u64();
    assert_eq!(at(&created, "expires_at"), at(&created, "created_at").map(|at| at + 24 * 3600));

    let batch = client.wait(created["id"].as_str().unwrap(), "completed");
    assert_eq!(batch["request_counts"], json!({"total": 100, "completed": 100, "failed": 0}));
    assert_eq!((&batch["error_file_id"], &batch["errors"]), (&Value::Null, &Value::Null));
    let times = ["created_at", "in_progress_at", "finalizing_at", "completed_at"].map(|name| at(&batch, name).unwrap());
    assert!(times.is_sorted(), "{times:?}");
    for name in ["failed_at", "expired_at", "cancelling_at", "cancelled_at"] {
        assert_eq!(batch[name], Value::Null);
    }

    let lines = client.content(&batch["output_file_id"]).lines();
    assert_eq!(ids(&lines), (0..100).collect::<Vec<_>>());
    let line = &lines[7];
    assert!(line["id"].as_str().unwrap().starts_with("batch_req_"));
    assert_eq!((&line["error"], &line["response"]["status_code"]), (&Value::Null, &json!(200)));
    let body = &line["response"]["body"];
    assert_eq!(floats(&body["data"][0]["embedding"]), vector("text number 7", 16));
    assert_eq!((&body["model"], &body["usage"]["total_tokens"]), (&json!(SMALL), &json!(4)));
    let file = client.get(&format!("/v1/files/{}", batch["output_file_id"].as_str().unwrap())).json();
    assert_eq!(file["purpose"], "batch_output");
    assert_eq!(mock.charges().batch.requests, 100);
}

#[test]
fn rows_that_break_a_limit_end_in_the_error_file() {
    let (mock, client) = start(Options::default());
    let long = row("row-1", &"word ".repeat(8200));
    let content = row("row-0", "good") + &long + &row("row-2", "");
    let batch = client.wait(&client.submit(content.as_bytes()), "completed");
    assert_eq!(batch["request_counts"], json!({"total": 3, "completed": 1, "failed": 2}));
    assert_eq!(ids(&client.content(&batch["output_file_id"]).lines()), [0]);
    let errors = client.content(&batch["error_file_id"]).lines();
    assert_eq!(ids(&errors), [1, 2]);
    assert_eq!(errors[0]["response"]["status_code"], 400);
    assert_eq!(errors[0]["response"]["body"]["error"]["type"], "invalid_request_error");
    assert_eq!(mock.charges().batch.tokens, 1, "only the valid row may be charged");

    let all_bad = client.wait(&client.submit(row("row-0", "").as_bytes()), "completed");
    assert_eq!(all_bad["output_file_id"], Value::Null, "without a valid row there is no output file");
}

#[test]
fn a_bad_input_file_fails_the_batch_and_names_the_line() {
    let (mock, client) = start(Options::default());
    let good = row("row-0", "a");
    let other_model = row("row-1", "a").replace("small", "large");
    for (content, code, line, param) in [
        (good.clone() + "{\"custom_id\":\n", "invalid_json_line", json!(2), Value::Null),
        (good.clone() + &good, "duplicate_custom_id", json!(2), json!("custom_id")),
        (good.replace("custom_id", "id"), "missing_required_parameter", json!(1), json!("custom_id")),
        (good.replace("POST", "GET"), "invalid_method", json!(1), json!("method")),
        (good.replace("/v1/embeddings", "/v1/chat/completions"), "invalid_url", json!(1), json!("url")),
        (good.replace(SMALL, "gpt-4o-mini"), "model_not_found", json!(1), json!("body.model")),
        (good.clone() + &other_model, "mismatched_model", json!(2), json!("body.model")),
        ("\n\n".into(), "empty_file", Value::Null, Value::Null),
    ] {
        let batch = client.wait(&client.submit(content.as_bytes()), "failed");
        let errors = &batch["errors"];
        assert_eq!(errors["object"], "list");
        let error = &errors["data"][0];
        assert_eq!((&error["code"], &error["line"], &error["param"]), (&json!(code), &line, &param));
        assert!(error["message"].is_string() && batch["failed_at"].is_u64());
    }
    let missing = client.create("file-of-nobody").json();
    assert_eq!(client.wait(missing["id"].as_str().unwrap(), "failed")["errors"]["data"][0]["code"], "file_not_found");
    assert_eq!(mock.charges().batch.requests, 0);
}

#[test]
fn too_many_rows_or_inputs_fail_the_batch() {
    let limits = Limits { requests_per_batch: 3, inputs_per_batch: 4, ..Limits::default() };
    let (_mock, client) = start(Options { limits, ..Options::default() });
    client.wait(&client.submit(&rows(3)), "completed");
    let batch = client.wait(&client.submit(&rows(4)), "failed");
    assert_eq!(batch["errors"]["data"][0]["code"], "too_many_tasks");
    let wide = json!({"model": SMALL, "input": ["a", "b", "c", "d", "e"]});
    let line = json!({"custom_id": "row-0", "method": "POST", "url": "/v1/embeddings", "body": wide});
    client.wait(&client.submit(line.to_string().as_bytes()), "failed");
}

#[test]
fn the_queue_has_a_limit_in_tokens() {
    let limits = Limits { enqueued_tokens: 100, ..Limits::default() };
    let (_mock, client) = start(Options { limits, pace: pace(15.0), ..Options::default() });
    // Each row has four tokens, and the limit is 100 tokens.
    let first = client.submit(&rows(20));
    client.wait(&first, "in_progress");
    let second = client.wait(&client.submit(&rows(10)), "failed");
    assert_eq!(second["errors"]["data"][0]["code"], "token_limit_exceeded");
    client.wait(&first, "completed");
    client.wait(&client.submit(&rows(10)), "completed");
    client.wait(&client.submit(&rows(26)), "failed");
}

#[test]
fn creation_refuses_what_openai_refuses() {
    let (_mock, client) = start(Options::default());
    let file = client.upload(&rows(1));
    let good = json!({"input_file_id": file, "endpoint": "/v1/embeddings", "completion_window": "24h"});
    let pairs = |count: usize| (0..count).map(|n| (n.to_string(), json!("x"))).collect::<Value>();
    for (name, value) in [
        ("input_file_id", Value::Null),
        ("endpoint", json!("/v1/chat/completions")),
        ("completion_window", json!("1h")),
        ("metadata", pairs(17)),
        ("metadata", json!({"a": 1})),
        ("metadata", json!({"a": "x".repeat(513)})),
    ] {
        let mut body = good.clone();
        body[name] = value;
        let error = client.post("/v1/batches", &body).error();
        assert_eq!((error.0, error.3), (400, json!(name)));
    }
    let mut body = good.clone();
    body["metadata"] = pairs(16);
    let batch = client.post("/v1/batches", &body).json();
    assert_eq!(client.batch(batch["id"].as_str().unwrap())["metadata"], pairs(16));
    assert_eq!(client.get("/v1/batches/batch_none").error().0, 404);
}

#[test]
fn batches_are_listed_newest_first() {
    let (_mock, client) = start(Options::default());
    let ids: Vec<_> = (0..5).map(|_| client.submit(&rows(1))).collect();
    let mut seen = Vec::new();
    let mut query = String::new();
    loop {
        let page = client.get(&format!("/v1/batches?limit=2{query}")).json();
        let data = page["data"].as_array().unwrap();
        assert_eq!((&page["first_id"], &page["last_id"]), (&data[0]["id"], &data[data.len() - 1]["id"]));
        seen.extend(data.iter().map(|batch| batch["id"].as_str().unwrap().to_string()));
        query = format!("&after={}", seen[seen.len() - 1]);
        if page["has_more"] == json!(false) {
            break;
        }
    }
    assert!(seen.iter().eq(ids.iter().rev()), "{seen:?}");
    assert_eq!(client.get("/v1/batches?limit=101").error().0, 400);
    assert_eq!(client.get("/v1/batches?after=batch_none").error().0, 400);
}

#[test]
fn a_cancelled_batch_keeps_and_charges_what_was_done() {
    let (mock, client) = start(Options { pace: pace(100.0), ..Options::default() });
    let id = client.submit(&rows(1000));
    while client.batch(&id)["request_counts"]["completed"].as_u64().unwrap() < 5 {
        crate::client::pause(5);
    }
    let cancel = format!("/v1/batches/{id}/cancel");
    assert_eq!(client.post(&cancel, &json!({})).json()["status"], "cancelling");
    let batch = client.wait(&id, "cancelled");
    assert!(batch["cancelling_at"].is_u64() && batch["cancelled_at"].is_u64());
    let lines = client.content(&batch["output_file_id"]).lines();
    assert!((5..1000).contains(&lines.len()), "{}", lines.len());
    assert_eq!(batch["request_counts"]["completed"], json!(lines.len()));
    assert_eq!(mock.charges().batch.requests, lines.len() as u64);
    assert_eq!(client.post(&cancel, &json!({})).error().0, 409);
    assert_eq!(client.post("/v1/batches/batch_none/cancel", &json!({})).error().0, 404);
}

#[test]
fn a_batch_that_is_too_slow_expires_with_what_it_has() {
    let pace = Pace { expire: Duration::from_millis(1000), ..pace(100.0) };
    let (mock, client) = start(Options { pace, ..Options::default() });
    let batch = client.wait(&client.submit(&rows(200)), "expired");
    let done = client.content(&batch["output_file_id"]).lines();
    let missed = client.content(&batch["error_file_id"]).lines();
    assert!(!done.is_empty() && !missed.is_empty());
    assert_eq!(ids(&[done.clone(), missed.clone()].concat()), (0..200).collect::<Vec<_>>());
    assert_eq!((&missed[0]["response"], &missed[0]["error"]["code"]), (&Value::Null, &json!("batch_expired")));
    assert_eq!(mock.charges().batch.requests, done.len() as u64);
    assert!(batch["expired_at"].is_u64());
}
