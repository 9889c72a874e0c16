//! Tests that a mock provider continues with the data folder of an earlier one.

use std::fs::OpenOptions;
use std::io::Write;
use std::path::Path;
use std::time::Duration;

use docweir_mock_provider::{Act, On, Options, Pace, Rule};
use serde_json::json;

use crate::client::{ids, pause, rows, start};

fn options(data: &Path, items_per_second: f64) -> Options {
    let pace = Pace { items_per_second: Some(items_per_second), ..Pace::default() };
    Options { data: Some(data.to_path_buf()), pace, ..Options::default() }
}

#[test]
fn files_batches_and_ledger_are_there_again() {
    let folder = tempfile::tempdir().unwrap();
    let (mock, client) = start(options(folder.path(), 1e6));
    client.embed("a");
    client.embed("");
    let id = client.submit(&rows(10));
    let before = client.wait(&id, "completed");
    let (charges, files) = (mock.charges(), client.get("/v1/files").json());
    let output = client.content(&before["output_file_id"]).body;
    drop(mock);

    let (mock, client) = start(options(folder.path(), 1e6));
    // `accepted_requests` is not compared, because requests that only read the state increase it.
    let again = mock.charges();
    assert_eq!((again.live, again.batch, again.refused), (charges.live, charges.batch, charges.refused));
    assert_eq!((again.by_custom_id, again.batches), (charges.by_custom_id, charges.batches));
    assert_eq!((client.batch(&id), client.get("/v1/files").json()), (before.clone(), files));
    assert!(client.content(&before["output_file_id"]).body == output);
    assert_ne!(client.submit(&rows(1)), id, "a new batch must get a new id");
}

#[test]
fn a_batch_goes_on_and_pays_no_row_twice() {
    let folder = tempfile::tempdir().unwrap();
    let (mut mock, mut client) = start(options(folder.path(), 400.0));
    let id = client.submit(&rows(400));
    for least in [20, 100, 200] {
        while client.batch(&id)["request_counts"]["completed"].as_u64().unwrap() < least {
            pause(5);
        }
        drop(mock);
        // These bytes are what a kill leaves: an incomplete line in the journal, and an incomplete row in the output
        // file.
        append(&folder.path().join("journal.jsonl"), b"{\"event\":\"rows\",\"batch\":");
        for file in std::fs::read_dir(folder.path().join("files")).unwrap() {
            let path = file.unwrap().path();
            if std::fs::read(&path).unwrap().starts_with(b"{\"id\"") {
                append(&path, b"{\"id\": \"half a line");
            }
        }
        (mock, client) = start(options(folder.path(), 400.0));
    }
    let batch = client.wait(&id, "completed");
    let lines = client.content(&batch["output_file_id"]).lines();
    assert_eq!(ids(&lines), (0..400).collect::<Vec<_>>());
    let charges = mock.charges();
    assert_eq!((charges.batch.requests, charges.custom_ids_paid_twice().len()), (400, 0));
}

fn append(path: &Path, bytes: &[u8]) {
    OpenOptions::new().append(true).open(path).unwrap().write_all(bytes).unwrap();
}

#[test]
fn cancelling_and_fate_outlast_the_process() {
    let folder = tempfile::tempdir().unwrap();
    let mut slow = options(folder.path(), 20.0);
    slow.pace.finalize = Duration::from_secs(1000);
    slow.faults = vec![Rule::new(On::BatchOutcome, Act::Expire).share(0.2).after(1)];
    let (mock, client) = start(slow);
    let (cancelled, doomed) = (client.submit(&rows(1000)), client.submit(&rows(1000)));
    client.wait(&cancelled, "in_progress");
    client.post(&format!("/v1/batches/{cancelled}/cancel"), &json!({}));
    drop(mock);
    let (_mock, client) = start(options(folder.path(), 1e6));
    client.wait(&cancelled, "cancelled");
    assert_eq!(client.wait(&doomed, "expired")["request_counts"]["completed"], 200);
}

#[test]
fn a_journal_of_something_else_is_not_overwritten() {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("journal.jsonl"), "dear diary\n").unwrap();
    let problem = docweir_mock_provider::MockProvider::start(options(folder.path(), 1.0)).err().unwrap().to_string();
    assert!(problem.contains("line 1") && problem.contains("journal.jsonl"), "{problem}");
}
