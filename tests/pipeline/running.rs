//! Tests a running ingest: other processes on the same state folder, signals and monitoring.

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use rustix::process::Signal;

use crate::kit::{TestFolder, eventually};

fn slow(place: &TestFolder) -> crate::kit::Running {
    place.generate(40);
    place.spawn_ingest(&["--set", "embed.options.hashed_milliseconds=200"])
}

#[test]
fn one_orchestrator_a_folder_and_readers_beside_it() {
    let place = TestFolder::new();
    let first = slow(&place);
    eventually("the first process has the lock", || place.state().join("control.db").exists());
    std::thread::sleep(Duration::from_millis(300));
    let second = place.ingest(&[]);
    second.code(5);
    assert!(second.err.contains(&format!("process {}", first.id())), "{}", second.err);
    assert!(second.err.contains("docweir ingest docs"), "{}", second.err);
    place.run(["status"]).code(0);
    first.signal(Signal::KILL);
    first.finish();
    place.ingest(&[]).code(0);
    place.assert_complete(40);
}

#[test]
fn a_signal_finishes_what_runs_and_the_next_run_goes_on() {
    for (signal, code) in [(Signal::INT, 130), (Signal::TERM, 143)] {
        let place = TestFolder::new();
        let run = slow(&place);
        eventually("work has started", || place.artefacts("embeddings/").len() > 2);
        run.signal(signal);
        let ran = run.finish();
        ran.code(code);
        let done = ran.summary()["completed"].as_u64().unwrap();
        assert!(done < 40, "the run must stop before all 40 documents are complete, but {done} are");
        let pending = place.records().iter().filter(|r| r["status"] == "IN_PROGRESS").count();
        assert_eq!(pending, 0, "all claims must be released");
        let next = place.ingest(&[]);
        next.code(0);
        place.assert_complete(40);
    }
}

#[test]
fn a_second_signal_stops_at_once() {
    let place = TestFolder::new();
    place.generate(10);
    let run = place.spawn_ingest(&["--set", "embed.options.hashed_milliseconds=3000"]);
    eventually("work has started", || place.artefacts("enriched/").len() > 2);
    run.signal(Signal::INT);
    std::thread::sleep(Duration::from_millis(200));
    let before = std::time::Instant::now();
    run.signal(Signal::INT);
    run.finish().code(130);
    assert!(before.elapsed() < Duration::from_secs(2), "{:?}", before.elapsed());
    place.ingest(&[]).code(0);
    place.assert_complete(10);
}

#[test]
fn metrics_and_the_supervision_tree_are_served() {
    let place = TestFolder::new();
    place.generate(30);
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    let address = format!("127.0.0.1:{port}");
    let run = place.spawn_ingest(&["--metrics-addr", &address, "--set", "embed.options.hashed_milliseconds=150"]);
    eventually("the metrics page answers", || TcpStream::connect(&address).is_ok());
    eventually("documents are extracted", || {
        get(&address, "/metrics").contains("docweir_pool_jobs_done_total{pool=\"extract\"}")
    });
    let metrics = get(&address, "/metrics");
    for name in ["docweir_pool_blocked_seconds", "docweir_pool_in_flight_jobs", "docweir_pool_workers"] {
        assert!(metrics.contains(name), "{name} is not in:\n{metrics}");
    }
    let answer = get(&address, "/supervision");
    let tree: serde_json::Value = serde_json::from_str(answer.split("\r\n\r\n").nth(1).unwrap()).unwrap();
    assert_eq!(tree["pools"].as_array().unwrap().len(), 5, "{tree}");
    assert!(tree["services"]["committer"].is_object(), "{tree}");
    assert!(get(&address, "/nothing").starts_with("HTTP/1.1 404"));
    run.finish().code(0);
}

#[test]
fn what_is_deleted_during_a_run_leaves_nothing_behind_and_the_run_ends() {
    let place = TestFolder::new();
    place.write("long.txt", docweir_testkit::plain_text(1, 200));
    let run = place.spawn_ingest(&["--set", "embed.options.hashed_milliseconds=20", "--set", "intake.poll_seconds=1"]);
    // The only document is deleted while it is embedded.
    eventually("embedding is about to start", || !place.artefacts("enriched/").is_empty());
    let deleted = place.run(["delete", "docs/long.txt"]);
    deleted.code(0);
    run.finish().code(0);
    for prefix in ["extracted/", "chunks/", "enriched/", "embeddings/"] {
        assert!(place.artefacts(prefix).is_empty(), "{prefix}");
    }
    assert!(place.visible().is_empty());
}

/// Work on a document that is to be deleted is cancelled. Otherwise it would go on for more than a minute.
#[test]
fn work_on_a_deleted_document_is_cancelled() {
    let place = TestFolder::new();
    place.write("long.txt", docweir_testkit::plain_text(1, 400));
    let run = place.spawn_ingest(&["--set", "embed.options.hashed_milliseconds=2000"]);
    eventually("embedding is about to start", || !place.artefacts("enriched/").is_empty());
    let began = std::time::Instant::now();
    place.run(["delete", "docs/long.txt"]).code(0);
    run.finish().code(0);
    assert!(began.elapsed() < Duration::from_secs(60), "{:?}", began.elapsed());
    assert!(place.visible().is_empty());
}

/// Deletes and retries documents while many others wait. The commands do not wait for them.
#[test]
fn a_deletion_and_a_retry_pass_a_backlog() {
    let place = TestFolder::new();
    const DOCUMENTS: u64 = 300;
    place.generate(DOCUMENTS);
    let slow = ["embed.options.hashed_milliseconds=100", "embed.workers.max=1", "intake.claim_batch=100"];
    let run = place.spawn_ingest(&slow.iter().flat_map(|set| ["--set", set]).collect::<Vec<_>>());
    let count = |status: &str| place.records().iter().filter(|record| record["status"] == status).count() as u64;
    eventually("the run has its state", || place.run(["status"]).status.success());
    eventually("the backlog is registered", || place.records().len() as u64 == DOCUMENTS && count("COMPLETED") >= 2);
    let done: Vec<String> = (place.records().iter().filter(|record| record["status"] == "COMPLETED"))
        .map(|record| record["document_id"].as_str().unwrap().to_owned())
        .collect();
    place.run(["delete", &done[0]]).code(0);
    place.run(["retry", &done[1]]).code(0);
    let of = |id: &str| place.records().into_iter().find(|record| record["document_id"] == *id).unwrap();
    eventually("both are done", || {
        let (deleted, retried) = (of(&done[0]), of(&done[1]));
        deleted["status"] == "DELETED" && retried["status"] == "COMPLETED" && retried["loaded_version"] == 2
    });
    let waiting = DOCUMENTS - count("COMPLETED");
    assert!(waiting > DOCUMENTS / 2, "only {waiting} documents still wait");
    run.signal(Signal::KILL);
    run.finish();
}

#[test]
fn a_database_that_somebody_looks_at_for_long_is_waited_for() {
    let place = TestFolder::new();
    place.generate(3);
    place.ingest(&[]).code(0);
    place.generate(6);
    let mut db = rusqlite::Connection::open(place.state().join("control.db")).unwrap();
    let held = db.transaction_with_behavior(rusqlite::TransactionBehavior::Immediate).unwrap();
    let run = place.spawn_ingest(&["--set", "control.busy_timeout_milliseconds=300"]);
    std::thread::sleep(Duration::from_millis(1_500));
    held.rollback().unwrap();
    run.finish().code(0);
    place.assert_complete(6);
}

fn get(address: &str, path: &str) -> String {
    let Ok(mut stream) = TcpStream::connect(address) else { return String::new() };
    stream.set_read_timeout(Some(Duration::from_secs(5))).unwrap();
    let _ = write!(stream, "GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    let mut answer = String::new();
    let _ = stream.read_to_string(&mut answer);
    answer
}

#[test]
fn a_reset_by_hand_in_the_database_is_picked_up() {
    let place = TestFolder::new();
    place.write("a.txt", "Reset me.\n");
    place.ingest(&[]).code(0);
    let before = place.records()[0]["version"].as_u64().unwrap();
    let db = rusqlite::Connection::open(place.state().join("control.db")).unwrap();
    let changed = db.execute("UPDATE document_processing_control SET status = 'PENDING', retry_count = 0", []).unwrap();
    assert_eq!(changed, 1);
    drop(db);
    place.ingest(&[]).code(0);
    place.assert_complete(1);
    assert_eq!(
        place.records()[0]["version"].as_u64().unwrap(),
        before + 1,
        "the document must be processed again as a new version"
    );
}
