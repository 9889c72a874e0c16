//! Tests documents and requests that arrive through queues, with the real binary and the real events of a bucket.

use std::io::Write;
use std::process::{Command, Stdio};
use std::time::Duration;

use docweir_testkit::proxy::{Act, Proxy};
use docweir_testkit::servers::{program, shared_ministack};
use rustix::process::Signal;
use serde_json::{Value, json};

use crate::account::Account;
use crate::kit::{Running, eventually};

const SERVE: [&str; 4] = ["serve", "--json", "--progress", "none"];

/// Sends each line of its input to a queue.
const SEND: &str = r"
import sys, boto3, itertools
sqs = boto3.client('sqs', endpoint_url=sys.argv[1], region_name='eu-central-1')
url = sqs.get_queue_url(QueueName=sys.argv[2])['QueueUrl']
lines = [line.rstrip('\n') for line in sys.stdin]
for at in range(0, len(lines), 10):
    entries = [{'Id': str(n), 'MessageBody': body} for n, body in enumerate(lines[at:at + 10])]
    if sys.argv[2].endswith('.fifo'):
        entries = [{**entry, 'MessageGroupId': str(hash(entry['MessageBody']) % 7)} for entry in entries]
    assert not sqs.send_message_batch(QueueUrl=url, Entries=entries).get('Failed')
";

/// Creates an account with an intake queue and a compaction queue. The bucket sends its events to the intake queue.
pub fn account(more: &[(&'static str, &str)]) -> Option<Account> {
    account_with("", more)
}

/// Creates an account with both queues, as [`account`] does, and appends `ending` to the queues' names.
fn account_with(ending: &str, more: &[(&'static str, &str)]) -> Option<Account> {
    let server = shared_ministack()?;
    let mut account = Account::plain(server, server, false);
    account.more = vec![
        ("DOCWEIR__QUEUES__ENDPOINT", server.endpoint().to_owned()),
        ("DOCWEIR__QUEUES__INTAKE", intake(&account) + ending),
        ("DOCWEIR__QUEUES__COMPACTION", format!("{}-compaction{ending}", account.name)),
        ("DOCWEIR__QUEUES__WAIT_SECONDS", "1".to_owned()),
        ("DOCWEIR__QUEUES__HIDDEN_SECONDS", "6".to_owned()),
        ("DOCWEIR__QUEUES__BACKOFF_INITIAL_SECONDS", "0.2".to_owned()),
    ];
    account.more.extend(more.iter().map(|(name, value)| (*name, (*value).to_owned())));
    Some(account.made())
}

pub fn intake(account: &Account) -> String {
    format!("{}-intake", account.name)
}

/// Returns the URI of the prefix under which documents are written to the bucket.
pub fn input(account: &Account) -> String {
    format!("s3://{}/docs/input/", account.name)
}

pub fn put(account: &Account, file: &str, key: &str) {
    account.aws(account.s3, &["s3", "cp", file, &format!("{}{key}", input(account))]);
}

pub fn send(account: &Account, queue: &str, bodies: &[String]) {
    let mut command = Command::new(program("python").unwrap());
    command.args(["-c", SEND, account.s3.endpoint(), queue]);
    command.env("AWS_ACCESS_KEY_ID", "x").env("AWS_SECRET_ACCESS_KEY", "x").env("AWS_EC2_METADATA_DISABLED", "true");
    let mut sending = command.stdin(Stdio::piped()).spawn().unwrap();
    sending.stdin.take().unwrap().write_all(bodies.join("\n").as_bytes()).unwrap();
    assert!(sending.wait().unwrap().success());
}

/// Formats an event as S3 sends it, with a URL-encoded key. The argument `key` is not yet encoded.
pub fn event(account: &Account, name: &str, key: &str, sequencer: u32) -> String {
    let plain = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'/' | b'.' | b'-' | b'_');
    let encoded = key.bytes().map(|b| match b {
        b' ' => "+".to_owned(),
        b if plain(b) => char::from(b).to_string(),
        b => format!("%{b:02X}"),
    });
    let object =
        json!({"key": encoded.collect::<String>(), "size": 1, "eTag": "x", "sequencer": format!("{sequencer:X}")});
    json!({"Records": [{"eventName": name, "s3": {"bucket": {"name": account.name}, "object": object}}]}).to_string()
}

/// Returns the number of messages that wait in a queue, and the number that are received but not yet deleted.
pub fn messages(account: &Account, queue: &str) -> (u64, u64) {
    let url = account.aws(account.s3, &["sqs", "get-queue-url", "--queue-name", queue]);
    let url = serde_json::from_str::<Value>(&url).unwrap()["QueueUrl"].as_str().unwrap().to_owned();
    let read =
        account.aws(account.s3, &["sqs", "get-queue-attributes", "--queue-url", &url, "--attribute-names", "All"]);
    let read: Value = serde_json::from_str(&read).unwrap();
    let number = |name: &str| read["Attributes"][name].as_str().unwrap().parse().unwrap();
    (number("ApproximateNumberOfMessages"), number("ApproximateNumberOfMessagesNotVisible"))
}

/// Starts a service that writes its log to a file. A pipe would fill up, because the test does not read the log while
/// the service runs.
pub fn serve(account: &Account, replica: &str) -> Running {
    let log = std::fs::File::create(account.place.path().join(format!("{replica}.log"))).unwrap();
    let mut command = account.command(replica, &["serve", "--progress", "none"]);
    Running::of(command.stdout(Stdio::null()).stderr(log).spawn().unwrap())
}

fn records(account: &Account) -> Vec<Value> {
    account.run("reader", &["status", "--all", "--json"]).code(0).json()
}

/// Returns the number of documents with a status.
pub fn with_status(account: &Account, status: &str) -> usize {
    records(account).iter().filter(|record| record["status"] == status).count()
}

#[track_caller]
pub fn wait_for_complete(account: &Account, documents: usize) {
    eventually("the documents are complete", || with_status(account, "COMPLETED") == documents);
}

#[track_caller]
pub fn wait_for_empty(account: &Account, queue: &str) {
    eventually("the queue is empty", || messages(account, queue) == (0, 0));
}

#[track_caller]
pub fn stop(service: Running) {
    service.signal(Signal::TERM);
    service.finish().code(143);
}

#[test]
fn what_becomes_of_a_buckets_objects_becomes_of_its_documents() {
    let Some(account) = account(&[("DOCWEIR__QUEUES__FOLLOW_REMOVALS", "true")]) else { return };
    account.run("one", &["infra", "check"]).code(0);
    let service = account.spawn("one", &SERVE);
    account.place.generate(4);
    account.place.write("poison.pdf", docweir_testkit::hostile::encrypted_rc4());
    account.aws(account.s3, &["s3", "cp", "docs", &input(&account), "--recursive"]);
    put(&account, "docs/0001.pdf", "notes.bin");
    wait_for_complete(&account, 4);
    eventually("the unreadable document is in quarantine", || with_status(&account, "QUARANTINED") == 1);
    // The quarantine stores the original under the watched prefix, so the queue received an event for the copy too.
    wait_for_empty(&account, &intake(&account));
    let listed = account.aws(account.s3, &["s3", "ls", &format!("{}_quarantine/", input(&account)), "--recursive"]);
    assert!(listed.contains("poison.pdf"), "{listed}");
    assert_eq!(records(&account).len(), 5);

    // The event of `poison.pdf` and the same object are sent again. The document must keep its only record, must be
    // quarantined only once, and must not be processed again.
    send(&account, &intake(&account), &vec![event(&account, "ObjectCreated:Put", "docs/input/poison.pdf", 1); 30]);
    put(&account, "docs/poison.pdf", "poison.pdf");
    // One object gets a new version, one is removed, and one is renamed.
    put(&account, "docs/0002.pdf", "0001.pdf");
    account.aws(account.s3, &["s3", "rm", &format!("{}0000.pdf", input(&account))]);
    account.aws(
        account.s3,
        &["s3", "mv", &format!("{}0003.pdf", input(&account)), &format!("{}three.pdf", input(&account))],
    );
    eventually("all events done", || with_status(&account, "DELETED") == 2 && with_status(&account, "COMPLETED") == 3);
    wait_for_empty(&account, &intake(&account));
    let all = records(&account);
    let of = |name: &str| all.iter().find(|r| r["source"].as_str().unwrap().ends_with(name)).unwrap();
    assert_eq!((&of("0001.pdf")["version"], &of("0001.pdf")["status"]), (&2.into(), &"COMPLETED".into()));
    let poison = of("poison.pdf");
    assert_eq!((&poison["version"], &poison["status"]), (&1.into(), &"QUARANTINED".into()));
    let audit_log = account.run("reader", &["audit", poison["document_id"].as_str().unwrap(), "--json"]).code(0).json();
    let times = |event: &str| audit_log.iter().filter(|e| e["event_type"] == event).count();
    assert_eq!((times("DOCUMENT_RECEIVED"), times("DOCUMENT_FAILED")), (1, 1), "{audit_log:?}");
    assert_eq!(messages(&account, &format!("{}-dead", intake(&account))), (0, 0));
    stop(service);
    account.run("reader", &["store", "verify"]).code(0);
}

/// Runs two services. One of them is killed, and a third service replaces it.
#[test]
fn events_by_the_thousand_in_any_order_make_each_document_once() {
    let Some(account) = account(&[]) else { return };
    const DOCUMENTS: u64 = 20;
    account.place.generate(DOCUMENTS);
    // The objects exist before any service runs. This test checks the messages that are sent below.
    let names: Vec<String> = (0..DOCUMENTS).map(|n| format!("{n:04}.pdf")).collect();
    account.aws(account.s3, &["s3", "cp", "docs", &input(&account), "--recursive"]);
    put(&account, "docs/0000.pdf", "a b+ü.pdf");
    put(&account, "docs/0001.pdf", "100%.PDF");
    let mut keys: Vec<String> = names.iter().map(|name| format!("docs/input/{name}")).collect();
    keys.extend(["docs/input/a b+ü.pdf".to_owned(), "docs/input/100%.PDF".to_owned()]);
    let mut random = fastrand::Rng::with_seed(7);
    let mut bodies = Vec::new();
    for n in 0..2_000 {
        let key = &keys[n % keys.len()];
        let name = if random.f32() < 0.2 { "ObjectRemoved:Delete" } else { "ObjectCreated:Put" };
        bodies.push(event(&account, name, key, random.u32(..)));
    }
    let malformed = ["{", "[]", "hunter2", r#"{"Records": 7}"#, r#"{"Records": [{"eventName": "ObjectCreated:Put"}]}"#];
    bodies.extend((0..200).map(|n| malformed[n % malformed.len()].to_owned()));
    let unknown = |n: u32| event(&account, "ObjectCreated:Put", &format!("docs/input/gone-{n}.pdf"), n);
    bodies.extend((0..100).map(unknown));
    bodies.extend((0..50).map(|n| event(&account, "ObjectCreated:Put", "docs/input/_quarantine/x.pdf", n)));
    random.shuffle(&mut bodies);
    send(&account, &intake(&account), &bodies);
    let (one, two) = (serve(&account, "one"), serve(&account, "two"));
    eventually("some documents are complete", || with_status(&account, "COMPLETED") >= 3);
    one.signal(Signal::KILL);
    one.finish();
    let three = serve(&account, "three");
    wait_for_complete(&account, keys.len());
    wait_for_empty(&account, &intake(&account));
    let dead = format!("{}-dead", intake(&account));
    // The server's own event for `100%.PDF`, whose key is not encoded as S3 would encode it, is none of them.
    assert_eq!(messages(&account, &dead), (200, 0), "only malformed messages may be dead letters");
    stop(two);
    stop(three);
    for replica in ["one", "two", "three"] {
        let log = std::fs::read_to_string(account.place.path().join(format!("{replica}.log"))).unwrap();
        assert!(log.contains("message is not a bucket event") && !log.contains("hunter2"), "{log}");
    }
    account.assert_complete(keys.len());
}

/// Checks that a service registers only as many documents as its pools and its received messages can hold. All other
/// messages must stay in the queue.
/// Events are received during a backlog, but only until a number of documents is pending.
#[test]
fn events_are_received_up_to_a_number_of_pending_documents() {
    let limits = [("DOCWEIR__QUEUES__MESSAGES", "2"), ("DOCWEIR__QUEUES__MAX_PENDING", "5")];
    let more = [("DOCWEIR__INTAKE__CLAIM_BATCH", "1"), limits[0], limits[1]];
    let Some(account) = account(&more) else { return };
    const DOCUMENTS: usize = 40;
    account.place.generate(DOCUMENTS as u64);
    account.aws(account.s3, &["s3", "cp", "docs", &input(&account), "--recursive"]);
    let mut slow = SERVE.to_vec();
    let pools = ["extract", "chunk", "enrich", "embed", "load"];
    let sets: Vec<String> =
        pools.iter().flat_map(|pool| [format!("{pool}.queue_documents=1"), format!("{pool}.workers.max=1")]).collect();
    slow.extend(sets.iter().filter(|set| !set.starts_with("load.workers")).flat_map(|set| ["--set", set]));
    slow.extend(["--set", "embed.options.hashed_milliseconds=100", "--set", "load.options.max_wait_milliseconds=0"]);
    let service = account.spawn("one", &slow);
    let mut looks = 0;
    eventually("all documents are complete", || {
        let all = records(&account);
        let with = |status: &str| all.iter().filter(|record| record["status"] == status).count();
        // Four are pending when messages are received; then come those that are in hand and one reply of two.
        assert!(with("PENDING") <= 8, "{} pending of {}", with("PENDING"), all.len());
        looks += usize::from(messages(&account, &intake(&account)).0 >= 10);
        with("COMPLETED") == DOCUMENTS
    });
    assert!(looks >= 1, "the queue was never full");
    wait_for_empty(&account, &intake(&account));
    stop(service);
}

/// Throttles S3 while a service receives messages. The outage must not turn any message into a dead letter, although
/// the queue allows only one receive per message.
#[test]
fn an_outage_of_s3_sends_nothing_to_the_dead_letters() {
    let Some(server) = shared_ministack() else { return };
    let proxy = Proxy::start(server.endpoint().trim_start_matches("http://")).unwrap();
    let endpoint = format!("http://{}", proxy.address());
    let more = [
        ("DOCWEIR__S3__ENDPOINT", endpoint.as_str()),
        ("DOCWEIR__QUEUES__MAX_RECEIVES", "1"),
        ("DOCWEIR__AWS__ATTEMPTS", "1"),
    ];
    let Some(account) = account(&more) else { return };
    const SLOW_DOWN: &str = "<Error><Code>SlowDown</Code><Message>Please reduce your request rate.</Message></Error>";
    proxy.set(|head| match head.contains("/input/") {
        true => Act::Reply(format!(
            "HTTP/1.1 503 Slow Down\r\nContent-Type: application/xml\r\nContent-Length: {}\r\nConnection: close\r\n\r\n{}",
            SLOW_DOWN.len(),
            if head.starts_with("HEAD") { "" } else { SLOW_DOWN }
        )),
        false => Act::Pass,
    });
    account.place.generate(3);
    account.aws(account.s3, &["s3", "cp", "docs", &input(&account), "--recursive"]);
    let service = account.spawn("one", &SERVE);
    eventually("the messages are received", || messages(&account, &intake(&account)).1 >= 3);
    // This is longer than a message stays hidden without a heartbeat (6 s).
    std::thread::sleep(Duration::from_secs(14));
    assert_eq!(messages(&account, &format!("{}-dead", intake(&account))), (0, 0));
    assert_eq!(records(&account).len(), 0);
    // During the outage, a second service replaces the first. No message may be lost.
    stop(service);
    let service = account.spawn("two", &SERVE);
    eventually("the messages are received again", || messages(&account, &intake(&account)).1 >= 3);
    proxy.set(|_| Act::Pass);
    wait_for_complete(&account, 3);
    wait_for_empty(&account, &intake(&account));
    assert_eq!(messages(&account, &format!("{}-dead", intake(&account))), (0, 0));
    stop(service);
}

#[test]
fn a_collection_is_merged_on_request_and_commits_are_told_of() {
    let more = [("DOCWEIR__COMPACTION__AUTOMATIC", "false"), ("DOCWEIR__COMPACTION__DELTAS", "3")];
    let Some(account) = account(&more) else { return };
    let queue = format!("{}-compaction", account.name);
    let ingest = |n: u64, more: &[&str]| {
        account.place.write(format!("{n}.txt"), format!("The lease of harbour {n} is fenced by epoch {n}.\n"));
        let path = format!("docs/{n}.txt");
        account.run("one", &[&["ingest", &path, "--json", "--progress", "none"], more].concat()).code(0);
    };
    ingest(0, &["--set", "queues.skip_notification=true"]);
    assert_eq!(messages(&account, &queue), (0, 0), "no notification may be sent");
    (1..4).for_each(|n| ingest(n, &[]));
    assert_eq!(messages(&account, &queue).0, 3, "each commit sends one notification");
    let live = || account.run("reader", &["store", "info", "--json"]).code(0).json().remove(0)["live"].clone();
    let count = |kind: &str| live().as_array().unwrap().iter().filter(|file| file["kind"] == kind).count();
    assert_eq!((count("delta"), count("snapshot")), (4, 0));
    let service = account.spawn("two", &SERVE);
    eventually("the deltas are merged", || (count("delta"), count("snapshot")) == (0, 1));
    wait_for_empty(&account, &queue);
    // Three requests are sent by hand: a valid one, one for an unknown collection, and a malformed one.
    (4..7).for_each(|n| ingest(n, &["--set", "queues.skip_notification=true"]));
    send(
        &account,
        &queue,
        &["{\"collection\": \"chunks\"}".into(), "{\"collection\": \"nothing\"}".into(), "{".into()],
    );
    eventually("the new deltas are merged", || count("delta") == 0);
    wait_for_empty(&account, &queue);
    assert_eq!(messages(&account, &format!("{queue}-dead")), (1, 0));
    stop(service);
}

#[test]
fn submit_registers_and_does_nothing_and_the_quarantine_is_refused_whoever_registers_it() {
    let Some(account) = account(&[]) else { return };
    account.place.generate(3);
    account.aws(account.s3, &["s3", "cp", "docs", &input(&account), "--recursive"]);
    put(&account, "docs/0000.pdf", "_quarantine/doc_1/v1/x.pdf");
    let submitted = account.run("one", &["submit", &input(&account), "--json"]);
    let told = submitted.code(0).json();
    let events: Vec<&str> = told.iter().map(|line| line["event"].as_str().unwrap()).collect();
    assert_eq!(events, ["registered", "registered", "registered", "summary"], "{}", submitted.out);
    assert_eq!(told.last().unwrap()["registered"], 3);
    let again = account.run("two", &["submit", &input(&account)]);
    assert!(again.code(0).out.contains("0 documents registered, 3 unchanged, 0 unreadable"), "{}", again.out);
    let none = account.run("two", &["submit", &format!("s3://{}/none/", account.name)]);
    none.code(1);
    assert_eq!(with_status(&account, "PENDING"), 3, "`submit` must not process documents");

    // The former system registers an object in the quarantine as input.
    let (id, table) = ("doc_20250131_abc123", format!("{}-control", account.name));
    let text = |text: &str| json!({ "S": text });
    let at = "2025-01-31T10:00:00.000000Z";
    let item = json!({
        "document_id": text(id), "processing_version": text("v1"), "source_bucket": text(&account.name),
        "source_s3_key": text("docs/input/_quarantine/doc_1/v1/x.pdf"), "status": text("PENDING"),
        "current_stage": text("SUBMITTED"), "created_at": text(at), "updated_at": text(at), "upload_timestamp": text(at),
        "retry_count": {"N": "0"}, "max_retries": {"N": "3"},
    });
    account.aws(account.dynamo, &["dynamodb", "put-item", "--table-name", &table, "--item", &item.to_string()]);
    let service = account.spawn("one", &SERVE);
    wait_for_complete(&account, 3);
    eventually("the object in the quarantine is refused", || account.item(id)["status"]["S"] == "QUARANTINED");
    let refused = account.item(id);
    assert!(refused["last_error"]["S"].as_str().unwrap().contains("lies in the quarantine"), "{refused}");
    assert!(
        refused.get("quarantine_original").is_none(),
        "an object in the quarantine must not be copied to the quarantine again: {refused}"
    );
    stop(service);
    let local = account.place.run(["submit", "docs", "--json"]);
    assert_eq!(local.code(0).json().last().unwrap()["registered"], 3, "`submit` must register local files too");
}

/// Formats an event as EventBridge sends it. Unlike S3, EventBridge does not encode the key.
fn bridged(account: &Account, key: &str) -> String {
    json!({
        "source": "aws.s3", "detail-type": "Object Created",
        "detail": {"bucket": {"name": account.name}, "object": {"key": key, "size": 1, "etag": "x"}},
    })
    .to_string()
}

#[test]
fn fifo_queues_serve_as_others_do() {
    let more = [
        ("DOCWEIR__COMPACTION__AUTOMATIC", "false"),
        ("DOCWEIR__COMPACTION__DELTAS", "2"),
        // A malformed message blocks its message group until it has been received this number of times.
        ("DOCWEIR__QUEUES__MAX_RECEIVES", "2"),
    ];
    let Some(account) = account_with(".fifo", &more) else { return };
    let (intake, compaction) = (format!("{}.fifo", intake(&account)), format!("{}-compaction.fifo", account.name));
    let check = account.run("one", &["infra", "check", "--json"]);
    assert!(
        !check.code(0).out.contains("events"),
        "`infra check` must not expect events for a FIFO queue, because S3 sends none: {}",
        check.out
    );
    for queue in [&intake, &compaction] {
        let url = account.aws(account.s3, &["sqs", "get-queue-url", "--queue-name", queue]);
        let url = serde_json::from_str::<Value>(&url).unwrap()["QueueUrl"].as_str().unwrap().to_owned();
        let all = ["sqs", "get-queue-attributes", "--queue-url", &url, "--attribute-names", "All"];
        let read: Value = serde_json::from_str(&account.aws(account.s3, &all)).unwrap();
        let attributes = &read["Attributes"];
        assert_eq!(
            (&attributes["FifoQueue"], &attributes["ContentBasedDeduplication"]),
            (&"true".into(), &"true".into())
        );
        let dead = queue.replace(".fifo", "-dead.fifo");
        assert!(attributes["RedrivePolicy"].as_str().unwrap().contains(&dead), "{attributes}");
    }
    account.place.generate(6);
    account.aws(account.s3, &["s3", "cp", "docs", &input(&account), "--recursive"]);
    put(&account, "docs/0001.pdf", "a b+ü.pdf");
    let mut keys: Vec<String> = (0..6).map(|n| format!("docs/input/{n:04}.pdf")).collect();
    keys.push("docs/input/a b+ü.pdf".into());
    let mut bodies: Vec<String> = keys.iter().map(|key| bridged(&account, key)).collect();
    bodies.extend(keys.iter().map(|key| event(&account, "ObjectCreated:Put", key, 1)));
    bodies.extend(bodies.clone());
    bodies.push("hunter2".into());
    send(&account, &intake, &bodies);
    let service = account.spawn("one", &SERVE);
    wait_for_complete(&account, keys.len());
    wait_for_empty(&account, &intake);
    assert_eq!(
        messages(&account, &intake.replace(".fifo", "-dead.fifo")),
        (1, 0),
        "the dead-letter queue must hold the one malformed message"
    );
    put(&account, "docs/0002.pdf", "later.pdf");
    send(&account, &intake, &[bridged(&account, "docs/input/later.pdf")]);
    wait_for_complete(&account, keys.len() + 1);
    // The service sends a request to merge after each of its own commits.
    let live = || account.run("reader", &["store", "info", "--json"]).code(0).json().remove(0)["live"].clone();
    eventually("the deltas are merged", || live().as_array().unwrap().iter().any(|file| file["kind"] == "snapshot"));
    wait_for_empty(&account, &compaction);
    stop(service);
    account.assert_complete(keys.len() + 1);
}
