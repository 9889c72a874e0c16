//! Tests requests that fail on demand, and the charges of these requests.

use std::time::Duration;

use docweir_mock_provider::{Act, On, Options, Rule, vector};
use serde_json::{Value, json};
use tokio::time::Instant;

use crate::client::{Reply, floats, rows, start};

/// Applies the fault to one request. Returns the reply to the request and the number of charged tokens.
fn embed(rule: Rule) -> (Option<Reply>, u64) {
    let (mock, client) = start(Options { faults: vec![rule.times(1)], ..Options::default() });
    let body = json!({"model": crate::client::SMALL, "input": ["one", "two", "three"], "dimensions": 8});
    let reply = client.send("POST", "/v1/embeddings", &[], body.to_string().as_bytes());
    let charged = mock.charges().live.tokens;
    assert_eq!(mock.charges().faults.values().sum::<u64>(), 1);
    let healed = client.post("/v1/embeddings", &body).json();
    assert_eq!(floats(&healed["data"][2]["embedding"]), vector("three", 8), "the fault must apply only once");
    (reply, charged)
}

fn on_embeddings(act: Act) -> Rule {
    Rule::new(On::Embeddings, act)
}

#[test]
fn statuses_with_and_without_a_time_to_wait() {
    for code in [500, 502, 503, 429] {
        let (reply, charged) = embed(on_embeddings(Act::Status).code(code));
        let reply = reply.unwrap();
        assert_eq!((reply.status, charged, reply.headers.contains_key("retry-after")), (code, 0, false));
        reply.error();
    }
    let (reply, _) = embed(on_embeddings(Act::Status).code(503).retry_after(2.5));
    let reply = reply.unwrap();
    assert_eq!((&reply.headers["retry-after"][..], &reply.headers["retry-after-ms"][..]), ("3", "2500"));
    let (reply, charged) = embed(on_embeddings(Act::InsufficientQuota));
    assert_eq!((reply.unwrap().error().2, charged), (json!("insufficient_quota"), 0));
}

#[test]
fn connections_that_end_before_after_and_in_the_middle() {
    let (reply, charged) = embed(on_embeddings(Act::CutBefore));
    assert!(reply.is_none() && charged == 0);
    let (reply, charged) = embed(on_embeddings(Act::CutAfter));
    assert!(reply.is_none() && charged == 3, "the request must be executed and charged");
    let (reply, charged) = embed(on_embeddings(Act::CutMiddle));
    let reply = reply.unwrap();
    assert_eq!((reply.status, reply.whole, charged), (200, false, 3));
    assert!(!reply.body.is_empty() && serde_json::from_slice::<Value>(&reply.body).is_err());
}

#[test]
fn replies_that_are_wrong() {
    let (reply, charged) = embed(on_embeddings(Act::Garbage));
    let reply = reply.unwrap();
    assert_eq!((reply.status, reply.whole, charged), (200, true, 3));
    assert!(serde_json::from_slice::<Value>(&reply.body).is_err());

    let data = |act| embed(on_embeddings(act)).0.unwrap().json()["data"].clone();
    assert!(data(Act::WrongDimension).as_array().unwrap().iter().all(|item| floats(&item["embedding"]).len() == 7));
    assert_eq!(data(Act::MissingVector).as_array().unwrap().len(), 2);
    let shuffled = data(Act::ShuffledData);
    assert_eq!(shuffled[0]["index"], 2);
    assert_eq!(floats(&shuffled[0]["embedding"]), vector("three", 8));
    assert!(embed(on_embeddings(Act::Nan)).0.unwrap().text().contains("[NaN,"));
}

#[test]
fn a_vector_with_nan_in_base64() {
    let (_mock, client) = start(Options { faults: vec![on_embeddings(Act::Nan)], ..Options::default() });
    let body = json!({"model": crate::client::SMALL, "input": "a", "encoding_format": "base64"});
    let reply = client.post("/v1/embeddings", &body).json();
    assert!(
        reply["data"][0]["embedding"].as_str().unwrap().starts_with("AADAf"),
        "the first value must be NaN (0x7fc00000)"
    );
}

#[test]
fn slow_is_slow() {
    let began = Instant::now();
    let (reply, charged) = embed(on_embeddings(Act::Slow).seconds(0.2));
    assert!(reply.unwrap().status == 200 && charged == 3);
    assert!(began.elapsed() >= Duration::from_millis(200));
}

#[test]
fn each_endpoint_has_its_own_faults() {
    let (mock, client) = start(Options::default());
    let file = client.upload(&rows(2));
    let id = client.submit(&rows(2));
    client.wait(&id, "completed");
    let batch = json!({"input_file_id": file, "endpoint": "/v1/embeddings", "completion_window": "24h"});
    for (on, method, path, body) in [
        ("files", "POST", "/v1/files".to_string(), Value::Null),
        ("content", "GET", format!("/v1/files/{file}/content"), Value::Null),
        ("batches", "POST", "/v1/batches".into(), batch.clone()),
        ("batch_get", "GET", format!("/v1/batches/{id}"), Value::Null),
        ("cancel", "POST", format!("/v1/batches/{id}/cancel"), Value::Null),
        ("list", "GET", "/v1/batches".into(), Value::Null),
        ("any", "GET", "/v1/models".into(), Value::Null),
    ] {
        let rule = json!([{"on": on, "do": "status", "code": 502, "times": 1}]);
        assert_eq!(client.set_faults(rule).status, 200);
        let send = || client.send(method, &path, &[], body.to_string().as_bytes()).unwrap().status;
        assert_eq!(send(), 502, "{on}");
        assert_ne!(send(), 502, "{on}");
    }
    assert_eq!(mock.charges().refused[&502], 7);
}

#[test]
fn a_batch_whose_creation_was_not_answered_exists() {
    let (_mock, client) = start(Options::default());
    let file = client.upload(&rows(2));
    client.set_faults(json!([{"on": "batches", "do": "cut_after", "times": 1}]));
    let body = json!({"input_file_id": file, "endpoint": "/v1/embeddings", "completion_window": "24h",
        "metadata": {"ours": "7"}});
    assert!(client.send("POST", "/v1/batches", &[], body.to_string().as_bytes()).is_none());
    let listed = client.get("/v1/batches").json();
    assert_eq!((listed["data"].as_array().unwrap().len(), &listed["data"][0]["metadata"]["ours"]), (1, &json!("7")));
}

#[test]
fn a_download_can_break_off_and_an_upload_get_lost() {
    let (_mock, client) = start(Options::default());
    let content = rows(5000);
    let file = client.upload(&content);
    client.set_faults(json!([{"on": "content", "do": "cut_middle"}, {"on": "files", "do": "cut_after"}]));
    let cut = client.get(&format!("/v1/files/{file}/content"));
    assert!(!cut.whole && cut.body == content[..content.len() / 2]);
    assert!(client.try_upload("batch", b"a").is_none());
    client.send("DELETE", "/_mock/faults", &[], b"").unwrap();
    assert_eq!(
        client.get("/v1/files").json()["data"].as_array().unwrap().len(),
        2,
        "the upload whose reply was lost must be stored"
    );
    assert!(client.content(&json!(file)).whole);
}

#[test]
fn rules_are_set_shown_and_refused_over_the_wire() {
    let (_mock, client) = start(Options::default());
    let rule = json!([{"on": "any", "do": "slow", "seconds": 1.0, "probability": 0.5, "after": 0}]);
    assert_eq!(client.set_faults(rule.clone()).json(), rule);
    assert_eq!(client.get("/_mock/faults").json(), rule);
    assert_eq!(client.set_faults(json!([{"on": "any", "do": "explode"}])).error().0, 400);
    assert_eq!(client.get("/_mock/faults").json(), rule, "an invalid rule must not change the rules");
    assert_eq!(client.get("/_mock/nothing").error().0, 404);
}
