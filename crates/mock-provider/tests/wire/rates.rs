//! Tests limits on rate, quota and concurrency over HTTP. Unit tests with a manual clock check the buckets themselves.

use std::thread;

use docweir_mock_provider::{Act, Limits, On, Options, Rates, Rule};
use serde_json::{Value, json};

use crate::client::{Client, pause, start};

#[test]
fn requests_over_the_limit_are_told_when_to_come_back() {
    let rates = Rates { requests_per_minute: Some(2), ..Rates::default() };
    let (mock, client) = start(Options { rates, ..Options::default() });
    let first = client.embed("a");
    assert_eq!(first.headers["x-ratelimit-limit-requests"], "2");
    assert_eq!(first.headers["x-ratelimit-remaining-requests"], "1");
    assert!(first.headers["x-ratelimit-reset-requests"].ends_with('s'));
    assert!(!first.headers.contains_key("x-ratelimit-limit-tokens"));
    assert_eq!(client.embed("a").status, 200);
    let refused = client.embed("a");
    assert_eq!(refused.error(), (429, json!("requests"), json!("rate_limit_exceeded"), Value::Null));
    let seconds: u64 = refused.headers["retry-after"].parse().unwrap();
    let ms: u64 = refused.headers["retry-after-ms"].parse().unwrap();
    assert!((1..=30).contains(&seconds) && ms.div_ceil(1000) == seconds, "{seconds} {ms}");
    assert_eq!(refused.headers["x-ratelimit-remaining-requests"], "0");
    let charges = mock.charges();
    assert_eq!((charges.live.tokens, charges.refused[&429]), (2, 1));
}

#[test]
fn a_client_that_waits_as_told_gets_through() {
    let rates = Rates { tokens_per_minute: Some(60_000), burst_share: 0.002, ..Rates::default() };
    let (_mock, client) = start(Options { rates, ..Options::default() });
    let text = "word ".repeat(110);
    assert_eq!(client.embed(text.trim()).status, 200);
    let refused = client.embed(text.trim());
    assert_eq!(refused.error().1, json!("tokens"));
    pause(refused.headers["retry-after-ms"].parse().unwrap());
    assert_eq!(client.embed(text.trim()).status, 200);
    assert_eq!(client.embed("word ".repeat(7000)).headers["x-ratelimit-limit-tokens"], "60000");
}

#[test]
fn an_exhausted_quota_is_not_a_rate_limit() {
    let (mock, client) = start(Options { quota_usd: Some(40e-9), ..Options::default() });
    assert_eq!(client.embed("hello world").status, 200);
    let refused = client.embed("a");
    assert_eq!(refused.error(), (429, json!("insufficient_quota"), json!("insufficient_quota"), Value::Null));
    assert!(!refused.headers.contains_key("retry-after"));
    assert_eq!(client.create("file-x").error().2, json!("insufficient_quota"));
    assert_eq!(mock.charges().live.nanodollars, 40);
}

#[test]
fn more_requests_at_once_than_allowed_are_refused() {
    let limits = Limits { concurrent_requests: Some(2), ..Limits::default() };
    let (mock, client) = start(Options { limits, ..Options::default() });
    // The body is large enough that several requests run concurrently on any machine.
    let body = json!(vec!["many words of one text"; 2048]);
    let port = client.port;
    let many: Vec<_> = (0..8)
        .map(|_| {
            let body = body.clone();
            thread::spawn(move || Client { port, key: "test-key" }.embed(body).status)
        })
        .collect();
    let statuses: Vec<_> = many.into_iter().map(|thread| thread.join().unwrap()).collect();
    assert!(statuses.iter().all(|status| [200, 429].contains(status)), "{statuses:?}");
    assert!(statuses.contains(&429) && statuses.contains(&200), "{statuses:?}");
    assert_eq!(mock.charges().live.requests, statuses.iter().filter(|status| **status == 200).count() as u64);
    mock.set_faults(vec![Rule::new(On::Any, Act::Status).code(429).retry_after(0.25)]).unwrap();
    let refused = client.embed("a");
    assert_eq!(
        (refused.status, &refused.headers["retry-after"][..], &refused.headers["retry-after-ms"][..]),
        (429, "1", "250")
    );
}
