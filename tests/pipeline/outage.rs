//! Tests that an outage of the object store and the control store costs nothing but time.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use docweir_testkit::proxy::{Act, Proxy};
use serde_json::Value;

use crate::account::{Account, dynoxide, ministack, seaweedfs};
use crate::aws::INGEST;
use crate::kit::{Ran, eventually};
use crate::network::{dynamo_says, number, s3_says, through_proxies};

/// Makes both stores unavailable: requests are lost, are never answered, or get a server error.
fn take_down(proxies: &[Proxy; 2]) {
    let errors =
        [s3_says("503 Slow Down", "SlowDown"), dynamo_says("500 Internal Server Error", "InternalServerError")];
    for (proxy, error) in proxies.iter().zip(errors) {
        let mut turn = 0;
        proxy.set(move |_| {
            turn += 1;
            match turn % 3 {
                0 => Act::LoseRequest,
                1 => Act::Hang(Duration::from_secs(2)),
                _ => error.clone(),
            }
        });
    }
}

/// Returns the texts of each document in the index, by the name of the document.
fn index(account: &Account) -> BTreeMap<String, Vec<String>> {
    let all = account.run("reader", &["status", "--all", "--json"]).code(0).json();
    let mut index = BTreeMap::new();
    for record in all {
        let name = record["source"].as_str().unwrap().rsplit('/').next().unwrap().to_owned();
        let id = record["document_id"].as_str().unwrap();
        let key = format!("docs/embeddings/{id}_embeddings.json");
        let to = account.place.path().join("embeddings.json");
        let from = format!("s3://{}/{key}", account.name);
        account.aws(account.s3, &["s3", "cp", &from, to.to_str().unwrap(), "--quiet"]);
        let artefact: Value = serde_json::from_slice(&std::fs::read(&to).unwrap()).unwrap();
        let chunks = artefact["chunks"].as_array().unwrap().iter();
        index.insert(name, chunks.map(|c| format!("{}{}", c["content"], c["embedding"])).collect());
    }
    index
}

/// Takes both stores down while documents are processed. `DOCWEIR_TEST_OUTAGE_SECONDS` and
/// `DOCWEIR_TEST_OUTAGE_DOCUMENTS` make the test longer. The leases last six seconds, so they all expire meanwhile.
fn an_outage_costs_time_only(mut account: Account, archives: bool) {
    let documents = number("DOCWEIR_TEST_OUTAGE_DOCUMENTS", 24);
    let lasts = Duration::from_secs(number("DOCWEIR_TEST_OUTAGE_SECONDS", 20) as u64);
    account.place.generate(documents as u64);
    let proxies = through_proxies(&mut account);
    account.more.push(("DOCWEIR__AWS__ATTEMPT_SECONDS", "1".to_owned()));
    // Each text takes some time, so that the outage begins in the middle of the documents.
    account.more.push(("DOCWEIR__EMBED__OPTIONS__HASHED_MILLISECONDS", "40".to_owned()));
    account.more.push(("DOCWEIR__EMBED__WORKERS__MAX", "2".to_owned()));
    let running = account.spawn("one", &INGEST);
    account.more.clear();
    let completed = || {
        let counts = account.run("reader", &["status", "--json"]).json();
        counts.first().and_then(|s| s["documents"]["COMPLETED"].as_u64()).unwrap_or_default()
    };
    eventually("some documents are complete", || completed() >= documents as u64 / 6);
    take_down(&proxies);
    let began = Instant::now();
    // The state folder is that of the running process, and the connection to the stores is another one.
    let told = || account.run("one", &["status"]).out;
    eventually("`status` names the outage", || told().contains("Outage since"));
    let text = told();
    assert!(text.contains("unavailable") && text.contains("wait"), "{text}");
    let before = completed();
    std::thread::sleep(lasts.saturating_sub(began.elapsed()));
    assert!(completed() < documents as u64, "the outage began too late: {before} of {documents}");
    proxies.iter().for_each(|proxy| proxy.set(|_| Act::Pass));
    let ran = running.finish();
    let summary = ran.code(0).summary();
    assert_eq!(summary["completed"].as_u64(), Some(documents as u64), "{summary}");
    account.assert_complete(documents);
    assert!(!told().contains("Outage since"));
    // No attempt was consumed, and nobody took over a document.
    for record in account.run("reader", &["status", "--all", "--json"]).json() {
        let id = record["document_id"].as_str().unwrap();
        let audit_log = account.run("reader", &["audit", id, "--json"]).json();
        for entry in &audit_log {
            let metadata = &entry["metadata"];
            assert_ne!(metadata["consumes_attempt"], true, "{entry}");
            assert_eq!(metadata["interruptions"].as_u64().unwrap_or_default(), 0, "{entry}");
            assert_ne!(entry["event_type"], "DOCUMENT_QUARANTINED", "{entry}");
        }
        assert_eq!(record["interruptions"].as_u64().unwrap_or_default(), 0, "{record}");
    }
    let disturbed = index(&account);
    let undisturbed = Account::new(Some(account.s3), Some(account.dynamo), archives).unwrap();
    undisturbed.place.generate(documents as u64);
    undisturbed.run("one", &INGEST).code(0);
    assert_eq!(disturbed, index(&undisturbed));
}

#[test]
fn an_outage_costs_time_only_on_ministack_and_dynoxide() {
    let Some(account) = Account::new(ministack(), dynoxide(), true) else { return };
    an_outage_costs_time_only(account, true);
}

#[test]
fn an_outage_costs_time_only_on_seaweedfs_and_ministack() {
    let Some(account) = Account::new(seaweedfs(), ministack(), false) else { return };
    an_outage_costs_time_only(account, false);
}

/// A service is not ready during an outage, and goes on after it.
#[test]
fn a_service_is_not_ready_during_an_outage_and_goes_on_after_it() {
    let Some(mut account) = Account::new(ministack(), dynoxide(), true) else { return };
    account.place.generate(6);
    let proxies = through_proxies(&mut account);
    account.more.push(("DOCWEIR__AWS__ATTEMPT_SECONDS", "1".to_owned()));
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let serving = account.spawn("one", &["serve", "--metrics-addr", &address, "--progress", "none"]);
    let ready = || -> Option<(u16, String)> {
        use std::io::{Read, Write};
        let mut stream = std::net::TcpStream::connect(&address).ok()?;
        stream.write_all(b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
        let mut text = String::new();
        stream.read_to_string(&mut text).ok()?;
        let status = text.split(' ').nth(1)?.parse().ok()?;
        Some((status, text.rsplit("\r\n").next()?.to_owned()))
    };
    eventually("the service is ready", || ready().is_some_and(|(status, _)| status == 200));
    take_down(&proxies);
    eventually("the service is not ready", || ready().is_some_and(|(status, _)| status == 503));
    let (_, why) = ready().unwrap();
    assert!(why.starts_with("not ready: ") && why.contains("control store unavailable"), "{why}");
    proxies.iter().for_each(|proxy| proxy.set(|_| Act::Pass));
    eventually("the service is ready again", || ready().is_some_and(|(status, _)| status == 200));
    account.more.clear();
    let ran: Ran = account.run("two", &["submit", "docs"]);
    ran.code(0);
    eventually("the service processes documents", || {
        let counts = account.run("reader", &["status", "--json"]).json();
        counts.first().is_some_and(|s| s["documents"]["COMPLETED"] == 6)
    });
    serving.signal(rustix::process::Signal::TERM);
    let ended = serving.finish();
    assert!([0, 143].contains(&ended.status.code().unwrap_or(143)), "{}", ended.err);
}
