//! Tests the real binary with servers that answer differently from OpenAI. Each run comes to its end.

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::process::{Command, Stdio};

use docweir_mock_provider::{Act, Dialect, MockProvider, On, Options, Rule, UNEMBEDDABLE};
use docweir_testkit::encrypted::{certificate, encrypted_server};
use serde_json::json;

use crate::kit::{Ran, Running, TestFolder, eventually};
use crate::shop::{BatchTest, plain};

const INGEST: [&str; 5] = ["ingest", "docs", "--json", "--progress", "none"];

fn mock(change: impl FnOnce(&mut Options)) -> MockProvider {
    let mut options = Options { charges_by_text: true, ..Options::default() };
    change(&mut options);
    MockProvider::start(options).unwrap()
}

/// Returns a command that embeds at `base_url`.
fn command(place: &TestFolder, base_url: &str, args: &[&str]) -> Command {
    let mut command = place.command(args);
    command
        .env("OPENAI_API_KEY", "test-key")
        .env("DOCWEIR__EMBED__OPTIONS__PROVIDER", "openai")
        .env("DOCWEIR__EMBED__OPTIONS__OPENAI__BASE_URL", base_url)
        .env("DOCWEIR__EMBED__OPTIONS__OPENAI__LIMITS__BACKOFF_INITIAL_SECONDS", "0.05")
        .env("DOCWEIR__RETRY__WAITS_SECONDS", "[0.0, 0.1]");
    command
}

fn run(place: &TestFolder, base_url: &str, args: &[&str]) -> Ran {
    Ran::of(command(place, base_url, args).output().unwrap())
}

/// Describes a server, and the path of the configured address.
type Server = (&'static str, fn(&mut Options), &'static str);

#[test]
fn a_run_with_each_dialect_comes_to_its_end_and_pays_once() {
    use Dialect::*;
    let servers: Vec<Server> = vec![
        ("usage null", |o| o.dialects = vec![UsageNull], "/v1"),
        ("usage partly null", |o| o.dialects = vec![UsagePartlyNull], "/v1"),
        ("usage float", |o| o.dialects = vec![UsageFloat], "/v1"),
        ("usage absent", |o| o.dialects = vec![UsageAbsent], "/v1"),
        ("index absent", |o| o.dialects = vec![IndexAbsent], "/v1"),
        ("index zero", |o| o.dialects = vec![IndexZero], "/v1"),
        ("gzip", |o| o.dialects = vec![Gzip], "/v1"),
        ("no base64", |o| o.dialects = vec![NoBase64], "/v1"),
        ("lists of numbers", |o| o.floats = true, "/v1"),
        ("error in 200", |o| (o.dialects, o.faults) = (vec![ErrorIn200], throttle()), "/v1"),
        ("error as text", |o| (o.dialects, o.faults) = (vec![ErrorText], throttle()), "/v1"),
        ("error as detail", |o| (o.dialects, o.faults) = (vec![ErrorDetail], throttle()), "/v1"),
        ("wait as date", |o| (o.dialects, o.faults) = (vec![RetryAfterDate], throttle()), "/v1"),
        ("limit of two texts", |o| o.limits.inputs_per_request = 2, "/v1"),
        ("limit, 413", |o| (o.limits.inputs_per_request, o.dialects) = (2, vec![Limit413]), "/v1"),
        ("limit, 422", |o| (o.limits.inputs_per_request, o.dialects) = (2, vec![Limit422]), "/v1"),
        ("redirection", |o| o.redirect = Some("/moved/v1".into()), "/v1"),
        ("slash at the end", |_| {}, "/v1/"),
        ("version missing", |_| {}, ""),
        ("version needless", |o| o.root = String::new(), "/v1"),
        ("azure", |o| o.root = "/openai/v1".into(), "/openai/v1"),
    ];
    for (name, change, path) in servers {
        let (mock, place) = (mock(change), TestFolder::new());
        place.generate(4);
        let base = format!("http://127.0.0.1:{}{path}", mock.port());
        let ran = run(&place, &base, &INGEST);
        assert_eq!(ran.status.code(), Some(0), "{name}: {}\n{}", ran.out, ran.err);
        place.assert_complete(4);
        let (summary, charges) = (ran.summary(), mock.charges());
        assert_eq!(charges.texts_paid_twice(), Vec::<&str>::new(), "{name}");
        assert_eq!(summary["tokens"], charges.live.tokens, "{name}: {summary}");
        assert_eq!(summary["quarantined"], json!([]), "{name}: {summary}");
    }
}

fn throttle() -> Vec<Rule> {
    vec![Rule::new(On::Embeddings, Act::Status).code(429).retry_after(0.2).times(1)]
}

#[test]
fn a_document_whose_text_gets_no_vector_fails_alone() {
    for dialect in [Dialect::NullVector, Dialect::ZeroVector, Dialect::CrashOnText, Dialect::VagueOnText] {
        let (mock, place) = (mock(|o| o.dialects = vec![dialect]), TestFolder::new());
        place.generate(3);
        place.write("bad.md", format!("# One\n\nThis passage is {UNEMBEDDABLE}.\n"));
        let ran = run(&place, &mock.base_url(), &INGEST);
        let summary = ran.code(3).summary();
        assert_eq!(summary["completed"], 3, "{dialect:?} {summary}");
        assert_eq!(summary["quarantined"].as_array().map(Vec::len), Some(1), "{dialect:?} {summary}");
        let charges = mock.charges();
        let good = charges.by_text.values().filter(|times| times.live == 1).count();
        assert!(good >= 3, "{dialect:?}: the texts of the other documents are paid once: {:?}", charges.by_text);
    }
}

#[test]
fn a_record_that_gets_no_vector_has_a_limited_number_of_attempts() {
    let shop = BatchTest::new(|o| o.dialects = vec![Dialect::NullVector]);
    shop.records(20, |i| if i == 7 { UNEMBEDDABLE.into() } else { plain(i) });
    let ran = shop.ingest_records(&["--set", "embed.mode=live", "--set", "retry.attempts=2"]);
    let records = &ran.code(3).summary()["records"];
    assert_eq!(records["stored"], 19, "{records}");
    let items = shop.items("products");
    assert_eq!((&items["success"], &items["failed"], &items["none"]), (&json!(19), &json!(1), &json!(0)), "{items}");
    let charges = shop.mock.charges();
    let most = charges.by_text.values().map(|times| times.live).max();
    assert_eq!(most, Some(2), "the record was tried twice");
}

#[test]
fn a_run_ends_after_some_answers_that_cannot_be_read_and_nothing_is_lost() {
    let (mock, place) = (mock(|o| o.faults = vec![Rule::new(On::Embeddings, Act::Garbage)]), TestFolder::new());
    place.generate(6);
    let three = ["--set", "embed.options.openai.limits.unreadable_answers=3"];
    let ran = run(&place, &mock.base_url(), &[&INGEST[..], &three].concat());
    ran.code(70);
    for part in ["200 OK", "<html><body>upstream says hello", "embed.options.openai.base_url"] {
        assert!(ran.err.contains(part), "{part}: {}", ran.err);
    }
    assert!(!ran.err.contains("test-key") && !ran.out.contains("test-key"));
    assert_eq!(mock.charges().live.requests, 3, "no more calls are made");
    for record in place.records() {
        assert_eq!(record["retry_count"], 0, "{record}");
    }
    mock.set_faults(Vec::new()).unwrap();
    run(&place, &mock.base_url(), &INGEST).code(0);
    place.assert_complete(6);
}

/// Returns the status and the body of `/ready`.
fn ready(address: &str) -> Option<(u16, String)> {
    let mut stream = TcpStream::connect(address).ok()?;
    stream.write_all(b"GET /ready HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n").ok()?;
    let mut text = String::new();
    stream.read_to_string(&mut text).ok()?;
    let status = text.split(' ').nth(1)?.parse().ok()?;
    Some((status, text.rsplit("\r\n").next()?.to_owned()))
}

#[test]
fn a_service_is_not_ready_while_answers_cannot_be_read_and_goes_on_afterwards() {
    let (mock, place) = (mock(|o| o.faults = vec![Rule::new(On::Embeddings, Act::Garbage)]), TestFolder::new());
    place.generate(3);
    run(&place, &mock.base_url(), &["submit", "docs"]).code(0);
    let port = TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let two = "embed.options.openai.limits.unreadable_answers=2";
    let args = ["serve", "--metrics-addr", &address, "--progress", "none", "--set", two];
    let mut serve = command(&place, &mock.base_url(), &args);
    let mut serve = Running::of(serve.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().unwrap());
    eventually("the service is not ready", || ready(&address).is_some_and(|(status, _)| status == 503));
    let why = || ready(&address).map(|(_, why)| why).unwrap_or_default();
    eventually("the answer is quoted", || why().contains("upstream says hello"));
    assert!(why().contains("provider unavailable"), "{}", why());
    assert!(serve.is_running());
    mock.set_faults(Vec::new()).unwrap();
    eventually("the service is ready again", || ready(&address).is_some_and(|(status, _)| status == 200));
    eventually("the documents are complete", || place.records().iter().all(|record| record["status"] == "COMPLETED"));
    serve.signal(rustix::process::Signal::TERM);
    serve.finish();
}

#[test]
fn the_provider_s_error_is_shown_for_each_rejected_text() {
    let (mock, place) = (mock(|o| o.limits.tokens_per_input = 40), TestFolder::new());
    let section = |n: u32| format!("# Part {n}\n\n{}\n\n", format!("Passage {n} is long enough. ").repeat(40));
    place.write("long.md", section(1) + &section(2));
    run(&place, &mock.base_url(), &INGEST).code(3);
    let shown = run(&place, &mock.base_url(), &["quarantine", "show", "docs/long.md"]);
    let text = &shown.code(0).out;
    let error =
        "400 Bad Request: {\"error\":{\"code\":null,\"message\":\"Invalid 'input[0]': maximum input length is 40";
    assert!(text.contains("provider_refused"), "{text}");
    for chunk in ["chunk 1: ", "chunk 2: "] {
        let line = text.lines().find(|line| line.contains(chunk)).unwrap_or_else(|| panic!("{chunk}: {text}"));
        assert!(line.contains(error), "{line}");
    }
    assert!(!text.contains("long enough"), "the text is not quoted: {text}");
}

#[test]
fn a_certificate_of_an_unknown_authority_ends_the_run_and_is_accepted_once_it_is_named() {
    let place = TestFolder::new();
    place.generate(1);
    let base = format!("https://127.0.0.1:{}/v1", encrypted_server().unwrap());
    let ran = run(&place, &base, &INGEST);
    ran.code(70);
    for part in ["Example Private Authority, Example Company", "SSL_CERT_FILE"] {
        assert!(ran.err.contains(part), "{part}: {}", ran.err);
    }
    let ran =
        Ran::of(command(&place, &base, &INGEST).env("SSL_CERT_FILE", certificate("authority.pem")).output().unwrap());
    assert!(ran.err.contains("404 Not Found") && !ran.err.contains("SSL_CERT_FILE"), "{}", ran.err);
}

#[test]
fn a_machine_without_certificate_authorities_can_use_an_endpoint_without_encryption() {
    let (mock, place) = (mock(|_| {}), TestFolder::new());
    place.generate(2);
    let without = |base: &str| {
        let mut command = command(&place, base, &INGEST);
        command.env("SSL_CERT_FILE", "/does/not/exist").env("SSL_CERT_DIR", "/does/not/exist");
        Ran::of(command.output().unwrap())
    };
    without(&mock.base_url()).code(0);
    place.assert_complete(2);
    place.generate(3);
    let ran = without(&format!("https://127.0.0.1:{}/v1", encrypted_server().unwrap()));
    assert!(ran.code(70).err.contains("this machine has no certificate authorities"), "{}", ran.err);
}
