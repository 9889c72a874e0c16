//! Tests state in AWS over a faulty network, and measures the number of requests for each document.

use std::collections::BTreeMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use docweir_testkit::proxy::{Act, Proxy};
use docweir_testkit::servers::Server;

use crate::account::{Account, dynoxide, ministack, seaweedfs};
use crate::aws::INGEST;

/// Puts a proxy in front of each of the account's two servers. Returns the proxy of S3, then that of DynamoDB.
pub fn through_proxies(account: &mut Account) -> [Proxy; 2] {
    let proxies = [account.s3, account.dynamo].map(|server| {
        let address = server.endpoint().trim_start_matches("http://");
        Proxy::start(address).unwrap()
    });
    for (name, proxy) in ["DOCWEIR__S3__ENDPOINT", "DOCWEIR__DYNAMODB__ENDPOINT"].into_iter().zip(&proxies) {
        account.more.push((name, format!("http://{}", proxy.address())));
    }
    proxies
}

fn reply(status: &str, kind: &str, body: &str) -> Act {
    let length = body.len();
    Act::Reply(format!(
        "HTTP/1.1 {status}\r\nContent-Type: {kind}\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n{body}"
    ))
}

pub fn s3_says(status: &str, code: &str) -> Act {
    let body = format!("<?xml version=\"1.0\"?><Error><Code>{code}</Code><Message>oh</Message></Error>");
    reply(status, "application/xml", &body)
}

pub fn dynamo_says(status: &str, word: &str) -> Act {
    let body = format!(r#"{{"__type":"com.amazonaws.dynamodb.v20120810#{word}","message":"oh"}}"#);
    reply(status, "application/x-amz-json-1.0", &body)
}

/// Returns the number in the environment variable `variable`, or `usual` if the variable is not set. A larger number
/// makes the test longer.
pub fn number(variable: &str, usual: usize) -> usize {
    std::env::var(variable).map_or(usual, |value| value.parse().unwrap())
}

/// Disturbs one request in twenty. The proxy loses the request or its reply, cuts the reply short, delays the request,
/// never answers, or replies with throttling or a server error.
fn whatever_the_network_does_every_document_is_complete(mut account: Account, documents: usize) {
    account.place.generate(documents as u64);
    let proxies = through_proxies(&mut account);
    let (asked, faults): (Arc<AtomicU64>, Arc<AtomicU64>) = Default::default();
    let network = [
        Act::LoseRequest,
        Act::LoseReply,
        Act::CutReply(40),
        Act::Delay(Duration::from_millis(400)),
        Act::Hang(Duration::from_secs(5)),
    ];
    let services = [
        [s3_says("503 Slow Down", "SlowDown"), s3_says("500 Internal Server Error", "InternalError")],
        [
            dynamo_says("400 Bad Request", "ProvisionedThroughputExceededException"),
            dynamo_says("500 Internal Server Error", "InternalServerError"),
        ],
    ];
    for (seed, (proxy, service)) in proxies.iter().zip(services).enumerate() {
        let acts: Vec<Act> = network.iter().cloned().chain(service).collect();
        let (asked, faults, mut random) = (asked.clone(), faults.clone(), fastrand::Rng::with_seed(seed as u64));
        proxy.set(move |_| {
            asked.fetch_add(1, Ordering::Relaxed);
            if random.f64() > 0.05 {
                return Act::Pass;
            }
            faults.fetch_add(1, Ordering::Relaxed);
            acts[random.usize(..acts.len())].clone()
        });
    }
    let mut command = account.command("one", &INGEST);
    // The time limit is short, so that the test does not wait long for requests that are never answered.
    command.env("DOCWEIR__AWS__ATTEMPT_SECONDS", "1.5");
    let summary = crate::kit::Ran::of(command.output().unwrap()).code(0).summary();
    assert_eq!(summary["completed"].as_u64(), Some(documents as u64), "{summary}");
    let (asked, faults) = (asked.load(Ordering::Relaxed), faults.load(Ordering::Relaxed));
    println!("{documents} documents: {asked} requests, {faults} of them failed");
    assert!(faults > asked / 40, "only {faults} of {asked} requests failed");
    account.more.clear();
    account.assert_complete(documents);
}

#[test]
fn whatever_the_network_does_on_seaweedfs_and_ministack() {
    let Some(account) = Account::new(seaweedfs(), ministack(), false) else { return };
    whatever_the_network_does_every_document_is_complete(account, number("DOCWEIR_TEST_FAULTY_DOCUMENTS", 40));
}

#[test]
fn whatever_the_network_does_on_ministack_and_dynoxide() {
    let Some(account) = Account::new(ministack(), dynoxide(), true) else { return };
    whatever_the_network_does_every_document_is_complete(account, number("DOCWEIR_TEST_FAULTY_DOCUMENTS", 40));
}

/// Counts requests by kind.
type Counts = Arc<Mutex<BTreeMap<String, u64>>>;

fn counted(proxies: &[Proxy; 2]) -> Counts {
    let counts = Counts::default();
    for (proxy, service) in proxies.iter().zip(["S3", "DynamoDB"]) {
        let counts = counts.clone();
        proxy.set(move |head| {
            *counts.lock().unwrap().entry(format!("{service} {}", kind(head))).or_default() += 1;
            Act::Pass
        });
    }
    counts
}

/// Returns the kind of a request, such as `PUT`, `LIST` or `TransactWriteItems`.
fn kind(head: &str) -> String {
    let target = head.lines().find_map(|line| {
        let (name, value) = line.split_once(':')?;
        name.eq_ignore_ascii_case("x-amz-target")
            .then(|| value.rsplit('.').next().unwrap_or_default().trim().to_owned())
    });
    let method = head.split(' ').next().unwrap_or_default();
    target.unwrap_or_else(|| if head.contains("list-type=2") { "LIST".to_owned() } else { method.to_owned() })
}

/// Returns the total size of all objects below a prefix, in bytes.
fn stored(account: &Account, s3: &Server, prefix: &str) -> u64 {
    let bucket = ["s3api", "list-objects-v2", "--bucket", &account.name, "--prefix", prefix];
    let listed: serde_json::Value = serde_json::from_str(&account.aws(s3, &bucket)).unwrap();
    listed["Contents"].as_array().unwrap().iter().map(|object| object["Size"].as_u64().unwrap()).sum()
}

/// Measures the requests and stored bytes for each document, from reading the bucket until the document is searchable.
/// Polls, commits and merges are included. `DOCWEIR_TEST_COSTS` sets the number of documents; the figures in
/// docs/performance.md were measured with 1,000 documents.
#[test]
fn a_document_of_ten_pages_takes_few_requests() {
    let Some(counts) = requests_for_each_document(false) else { return };
    // The limit is generous, because the requests of the run itself (probe, leases, manifest) are shared by few
    // documents.
    assert!(counts.values().sum::<f64>() < 25.0, "{counts:?}");
}

#[test]
fn packed_pages_save_requests_to_s3() {
    let Some(counts) = requests_for_each_document(true) else { return };
    let s3: f64 = counts.iter().filter(|(kind, _)| kind.starts_with("S3")).map(|(_, n)| n).sum();
    assert!(s3 <= 8.0, "{s3}: {counts:?}");
}

/// Ingests documents of ten pages. Returns the number of requests for each document, by kind.
fn requests_for_each_document(packed: bool) -> Option<BTreeMap<String, f64>> {
    let mut account = Account::new(ministack(), ministack(), true)?;
    let documents = number("DOCWEIR_TEST_COSTS", 40);
    for seed in 0..documents as u64 {
        account.place.write(format!("{seed:04}.pdf"), docweir_testkit::long_pages(10, 2, seed));
    }
    account.more.push(("DOCWEIR__BUCKETS__PACKED_PAGES", packed.to_string()));
    account.aws(account.s3, &["s3", "cp", "docs", &format!("s3://{}/input/", account.name), "--recursive"]);
    let proxies = through_proxies(&mut account);
    let counts = counted(&proxies);
    let input = format!("s3://{}/input/", account.name);
    let mut command = account.command("one", &["ingest", &input, "--json", "--progress", "none"]);
    // These variables shorten times for the other tests. Without them, this test uses the production defaults.
    for name in ["DOCWEIR__LEASE__SECONDS", "DOCWEIR__LEASE__HEARTBEAT_SECONDS", "DOCWEIR__INTAKE__POLL_SECONDS"] {
        command.env_remove(name);
    }
    let began = std::time::Instant::now();
    let summary = crate::kit::Ran::of(command.output().unwrap()).code(0).summary();
    let seconds = began.elapsed().as_secs_f64();
    assert_eq!(summary["completed"].as_u64(), Some(documents as u64), "{summary}");
    account.more.clear();
    let counts = counts.lock().unwrap().clone();
    let each = |n: u64| n as f64 / documents as f64;
    println!("{documents} documents of ten pages in {seconds:.1} s; per document:");
    for (kind, n) in &counts {
        println!("{:8.2} {kind}", each(*n));
    }
    let requests: u64 = counts.values().sum();
    let bytes = stored(&account, account.s3, "docs/");
    println!("{:8.2} requests, {:.2} MB stored", each(requests), each(bytes) / 1e6);
    assert!(each(bytes) < 2e6, "{bytes} bytes");
    Some(counts.into_iter().map(|(kind, n)| (kind, each(n))).collect())
}
